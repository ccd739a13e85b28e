/* What the tests of envd's file calls share: a mount namespace of their own
 * with two users, and a loop. They need root; without it they say so. */
#ifndef E2B_ENVDTEST_H
#define E2B_ENVDTEST_H

#include "base/buf.h"
#include "base/path.h"
#include "base/str.h"
#include "ctest.h"
#include "envd/envd.h"
#include "envd/work.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR_ROOT "/home/user"

static struct envd v;

static inline void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        perror(path);
    close(fd);
}

static inline char *read_text(const char *path, size_t *n)
{
    struct err e;
    char *p = path_read_file(AT_FDCWD, path, 256u << 20, n, &e);
    if (!p)
        fprintf(stderr, "%s\n", e.msg);
    return p;
}

static inline int cover(const char *path, const char *source, const char *text)
{
    write_text(source, text);
    return mount(source, path, NULL, MS_BIND, NULL);
}

/* False: not root, nothing can be tested. */
static inline bool envdtest_enter(void)
{
    if (geteuid() != 0) {
        puts("skipped: needs root for a mount namespace and two users");
        return false;
    }
    if (unshare(CLONE_NEWNS) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", "/home", "tmpfs", 0, "size=400m") < 0 ||
        cover("/etc/passwd", "/home/passwd",
              "root:x:0:0:root:/root:/bin/bash\n"
              "broken line\n"
              "user:x:1000:1000::/home/user:/bin/zsh\n"
              "bare:x:1001:1002:::\n") < 0 ||
        cover("/etc/group", "/home/group",
              "root:x:0:\nusers:x:1000:\nsudo:x:27:bare,user\n"
              "docker:x:99:user\n") < 0) {
        perror("mount namespace");
        exit(1);
    }
    umask(022);
    return true;
}

static inline int envd_setup(void **state)
{
    static char root[] = "root";
    struct err e;
    (void)state;
    memset(&v, 0, sizeof(v));
    v.loop = loop_new(&e);
    v.default_user = root;
    mkdir(DIR_ROOT, 0755);
    return chdir(DIR_ROOT) == 0 && chown(DIR_ROOT, 1000, 1000) == 0 ? 0 : -1;
}

static inline int envd_teardown(void **state)
{
    struct err e;
    (void)state;
    work_free(&v);
    for (int i = 0; i < 50; i++)
        loop_turn(v.loop, 0);
    loop_free(v.loop);
    if (chdir("/") < 0)
        return -1;
    return path_remove_tree(AT_FDCWD, DIR_ROOT, &e);
}

#endif
