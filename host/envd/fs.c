/* The unary methods of filesystem.Filesystem: Stat, ListDir, MakeDir, Move,
 * Remove. Each runs on a worker as root; what it makes is then given to the
 * user. Messages are those of E2B's envd. See envd.h. */
#include "base/mem.h"
#include "base/path.h"
#include "base/str.h"
#include "entry.h"
#include "envd.h"
#include "list.h"
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct call {
    struct job job;
    int (*method)(struct call *c, struct err *e); /* -1: e filled */
    void (*done)(void *arg, json_t *answer, const struct err *e);
    void *arg;
    struct user user;
    char path[PATH_MAX];        /* path, or source of Move */
    char destination[PATH_MAX]; /* of Move */
    uint64_t depth;
    json_t *answer;
    struct err e;
};

/* ---- methods, on a worker ------------------------------------------------ */

static json_t *look(const char *path, struct err *e)
{
    struct entry_names names = {.has_user = false};
    json_t *entry = entry_info(&names, AT_FDCWD, path, path);
    if (entry)
        return entry;
    if (errno == ENOENT || errno == ENOTDIR)
        entry_fail(e, "not_found", "file not found: lstat %.300s", path);
    else
        entry_fail(e, "internal", "error getting file info: lstat %.300s",
                   path);
    return NULL;
}

static int answer_entry(struct call *c, const char *path, struct err *e)
{
    json_t *entry = look(path, e);
    if (!entry)
        return -1;
    c->answer = json_object();
    json_object_set_new_nocheck(c->answer, "entry", entry);
    return 0;
}

static int do_stat(struct call *c, struct err *e)
{
    return answer_entry(c, c->path, e);
}

static int do_list(struct call *c, struct err *e)
{
    json_t *entries = list_folder(c->path, (unsigned)c->depth, e);
    if (!entries)
        return -1;
    c->answer = json_object();
    json_object_set_new_nocheck(c->answer, "entries", entries);
    return 0;
}

static int do_make(struct call *c, struct err *e)
{
    struct stat st;
    if (stat(c->path, &st) == 0)
        return S_ISDIR(st.st_mode)
                   ? err_set(e, "already_exists",
                             "directory already exists: %.300s", c->path)
                   : err_set(e, "invalid_argument",
                             "path already exists but it is not a directory: "
                             "%.300s",
                             c->path);
    if (errno != ENOENT && errno != ENOTDIR)
        return entry_fail(e, "internal", "error getting file info: stat %.300s",
                          c->path);
    if (entry_make_dirs(c->path, c->user.uid, c->user.gid, e) < 0)
        return -1;
    return answer_entry(c, c->path, e);
}

/* Folder part of a path that begins with a slash. */
static void parent_of(const char *path, char dst[PATH_MAX])
{
    snprintf(dst, PATH_MAX, "%s", path);
    size_t n = strlen(dst);
    while (n > 1 && dst[n - 1] == '/')
        n--;
    while (n > 1 && dst[n - 1] != '/')
        n--;
    dst[n] = '\0';
}

static int do_move(struct call *c, struct err *e)
{
    struct stat st;
    char parent[PATH_MAX];
    /* Looked at first: a move that cannot be must not leave folders behind. */
    if (lstat(c->path, &st) < 0 && (errno == ENOENT || errno == ENOTDIR))
        return entry_fail(e, "not_found",
                          "source file not found: rename %.180s %.180s",
                          c->path, c->destination);
    parent_of(c->destination, parent);
    if (entry_make_dirs(parent, c->user.uid, c->user.gid, e) < 0)
        return -1;
    if (rename(c->path, c->destination) < 0) {
        if (errno == ENOENT)
            return entry_fail(e, "not_found",
                              "source file not found: rename %.180s %.180s",
                              c->path, c->destination);
        return entry_fail(e, "internal", "error renaming: rename %.180s %.180s",
                          c->path, c->destination);
    }
    return answer_entry(c, c->destination, e);
}

static int do_remove(struct call *c, struct err *e)
{
    if (entry_remove(c->path) < 0)
        return entry_fail(e, "internal",
                          "error removing file or directory: %.300s", c->path);
    c->answer = json_object();
    return 0;
}

/* ---- requests ------------------------------------------------------------ */

/* A string field of the request; absent and null are "". */
static int text_field(const json_t *req, const char *name, const char **text,
                      struct err *e)
{
    const json_t *v = json_object_get(req, name);
    *text = "";
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_string(v))
        return err_set(e, "invalid_argument", "%s: expected a string", name);
    *text = json_string_value(v);
    if (strlen(*text) != json_string_length(v))
        return err_set(e, "invalid_argument",
                       "%s '%.200s' holds a NUL byte: no file name can", name,
                       *text);
    return 0;
}

static int path_field(const struct envd *v, struct call *c, const json_t *req,
                      const char *name, char *dst, struct err *e)
{
    const char *text;
    if (text_field(req, name, &text, e) < 0)
        return -1;
    return users_path(v, &c->user, text, dst, PATH_MAX, e);
}

static int depth_field(struct call *c, const json_t *req, struct err *e)
{
    const json_t *v = json_object_get(req, "depth");
    if (!v || json_is_null(v))
        return 0;
    if (json_is_integer(v)) {
        json_int_t n = json_integer_value(v);
        c->depth = (uint64_t)n;
        if (n >= 0 && n <= UINT32_MAX)
            return 0;
    } else if (json_is_string(v) &&
               str_u64(json_string_value(v), json_string_length(v), UINT32_MAX,
                       &c->depth) == 0) {
        return 0;
    }
    return err_set(e, "invalid_argument",
                   "depth: expected a whole number from 0 to 4294967295");
}

static int prepare(const struct envd *v, struct call *c, const char *method,
                   const json_t *req, struct err *e)
{
    static const struct {
        const char *name, *path;
        int (*fn)(struct call *c, struct err *e);
    } methods[] = {
        {"Stat", "path", do_stat},     {"ListDir", "path", do_list},
        {"MakeDir", "path", do_make},  {"Move", "source", do_move},
        {"Remove", "path", do_remove},
    };
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(methods[i].name, method) != 0)
            continue;
        c->method = methods[i].fn;
        if (path_field(v, c, req, methods[i].path, c->path, e) < 0)
            return -1;
        if (c->method == do_move)
            return path_field(v, c, req, "destination", c->destination, e);
        return c->method == do_list ? depth_field(c, req, e) : 0;
    }
    return err_set(e, "unimplemented",
                   "filesystem.Filesystem/%.60s is not implemented", method);
}

static void run(struct job *j)
{
    struct call *c = (struct call *)j;
    struct err e;
    c->e.kind = NULL;
    if (c->method(c, &e) < 0)
        c->e = e;
}

static void finish(void *arg)
{
    struct call *c = arg;
    if (c->e.kind)
        c->done(c->arg, NULL, &c->e);
    else
        c->done(c->arg, c->answer, NULL);
    json_decref(c->answer);
    free(c);
}

static void ran(struct job *j)
{
    finish(j);
}

void fs_call(struct envd *v, const char *method, const struct user *u,
             const json_t *req,
             void (*done)(void *arg, json_t *answer, const struct err *e),
             void *arg)
{
    struct call *c = mem_alloc(sizeof(*c));
    c->job.run = run;
    c->job.done = ran;
    c->done = done;
    c->arg = arg;
    c->user = *u;
    struct err e;
    int r = prepare(v, c, method, req, &e);
    /* What a job says that is dropped because envd ends. */
    err_set(&c->e, "unavailable", "the sandbox is ending");
    if (r == 0)
        r = work_submit(v, &c->job, &e);
    if (r < 0) {
        c->e = e;
        loop_defer(v->loop, finish, c);
    }
}
