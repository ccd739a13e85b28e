/* A made tree of cgroup files, for the tests that cannot have the real one. */
#ifndef E2B_CGROUP_MADE_H
#define E2B_CGROUP_MADE_H

#include "base/path.h"
#include "base/str.h"
#include "ctest.h"
#include "sandbox/cgroup_tree.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

struct made {
    char dir[64];
    struct cgroup_tree tree;
};

static inline void put(struct made *m, const char *path, const char *text)
{
    char full[256];
    struct err e = {0};
    str_fmt(full, sizeof(full), "%s/%s", m->dir, path);
    *strrchr(full, '/') = '\0';
    assert_int_equal(path_mkdirs(AT_FDCWD, full, 0755, &e), 0);
    str_fmt(full, sizeof(full), "%s/%s", m->dir, path);
    if (path_write_file(AT_FDCWD, full, text, strlen(text), 0644, &e) < 0)
        fail_msg("%s", e.msg);
}

static inline void want(struct made *m, const char *path, const char *text)
{
    char full[256];
    struct err e = {0};
    str_fmt(full, sizeof(full), "%s/%s", m->dir, path);
    char *got = path_read_file(AT_FDCWD, full, 4096, NULL, &e);
    if (!got)
        fail_msg("%s", e.msg);
    assert_string_equal(got, text);
    free(got);
}

static inline int setup(void **state)
{
    struct made *m = calloc(1, sizeof(*m));
    str_fmt(m->dir, sizeof(m->dir), "/tmp/e2b-cgroup-XXXXXX");
    assert_non_null(mkdtemp(m->dir));
    *state = m;
    return 0;
}

static inline int teardown(void **state)
{
    struct made *m = *state;
    path_remove_tree(AT_FDCWD, m->dir, NULL);
    free(m);
    return 0;
}

/* '@' in the mountinfo is the made tree. */
static inline void scan_as(struct made *m, const char *format, const char *own,
                           cgroup_may *may)
{
    char text[2048] = "";
    size_t n = 0;
    for (const char *p = format; *p; p++) {
        if (*p == '@')
            str_fmt(text + n, sizeof(text) - n, "%s", m->dir);
        else
            str_fmt(text + n, sizeof(text) - n, "%c", *p);
        n = strlen(text);
    }
    cgroup_tree_scan(&m->tree, text, own, may);
}

static inline void scan(struct made *m, const char *format)
{
    scan_as(m, format, "", NULL);
}

#endif
