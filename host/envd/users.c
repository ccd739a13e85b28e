/* Users, groups and paths of the sandbox, read from /etc/passwd and /etc/group
 * at each call: programs inside change them. See envd.h. */
#include "base/mem.h"
#include "base/path.h"
#include "base/str.h"
#include "envd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DB_MAX = 1024 * 1024 };

/* An open user database with room for its longest line. */
struct db {
    FILE *f;
    char *line;
    size_t cap;
};

static void db_close(struct db *d)
{
    if (d->f)
        fclose(d->f);
    free(d->line);
}

/* The file belongs to whoever is root inside: it may be a pipe that nobody
 * fills, or endless. errno is kept for the caller. */
static int db_open(struct db *d, const char *path, struct err *e)
{
    struct stat st;
    *d = (struct db){NULL, NULL, 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return err_errno(e, "internal", "open %s", path);
    const char *bad = NULL;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        bad = "is not a regular file";
    else if (st.st_size > DB_MAX)
        bad = "is larger than 1 MiB";
    else if (!(d->f = fdopen(fd, "re")))
        bad = "cannot be read";
    if (bad) {
        close(fd);
        errno = EINVAL;
        return err_set(e, "internal", "%s %s", path, bad);
    }
    /* A group line also holds a pointer for each of its members. */
    d->cap = (size_t)st.st_size * 5 + 4096;
    d->line = mem_alloc(d->cap);
    return 0;
}

static bool next_user(struct db *d, struct passwd *p)
{
    struct passwd *got = NULL;
    return d->f && fgetpwent_r(d->f, p, d->line, d->cap, &got) == 0 && got;
}

static bool next_group(struct db *d, struct group *g)
{
    struct group *got = NULL;
    return d->f && fgetgrent_r(d->f, g, d->line, d->cap, &got) == 0 && got;
}

static int fill(struct user *u, const struct passwd *p, struct err *e)
{
    const char *home = p->pw_dir && p->pw_dir[0] ? p->pw_dir : "/";
    const char *shell = p->pw_shell && p->pw_shell[0] ? p->pw_shell : "/bin/sh";
    u->uid = p->pw_uid;
    u->gid = p->pw_gid;
    if (str_fmt(u->name, sizeof(u->name), "%s", p->pw_name) < 0 ||
        str_fmt(u->home, sizeof(u->home), "%s", home) < 0 ||
        str_fmt(u->shell, sizeof(u->shell), "%s", shell) < 0)
        return err_set(e, "unauthenticated",
                       "user '%.64s': name, home or shell in /etc/passwd is "
                       "too long (63, 511, 127 bytes at most)",
                       p->pw_name);
    return 0;
}

/* An image without /etc/passwd still has its root. */
static int without_database(const char *name, struct user *u, struct err *e)
{
    static char root[] = "root", home[] = "/root", shell[] = "/bin/sh";
    struct passwd p = {.pw_name = root, .pw_dir = home, .pw_shell = shell};
    return strcmp(name, root) == 0 ? fill(u, &p, e) : 1;
}

/* 0 found, 1 unknown, -1 e filled. */
static int look_up(const char *name, struct user *u, struct err *e)
{
    struct db d;
    struct passwd p = {.pw_name = NULL};
    if (db_open(&d, "/etc/passwd", e) < 0)
        return errno == ENOENT ? without_database(name, u, e) : -1;
    int r = 1;
    while (r == 1 && next_user(&d, &p))
        if (strcmp(p.pw_name, name) == 0)
            r = fill(u, &p, e);
    db_close(&d);
    return r;
}

int users_find(const struct envd *v, const char *name, struct user *u,
               struct err *e)
{
    bool usual = !name || !name[0];
    if (usual)
        name = v->default_user && v->default_user[0] ? v->default_user : "root";
    int r = look_up(name, u, e);
    if (r == 1)
        r = err_set(e, "unauthenticated", "invalid %s: '%.200s'",
                    usual ? "default user" : "username", name);
    if (r < 0)
        e->kind = "unauthenticated";
    return r;
}

static bool is_member(const struct group *g, const char *name)
{
    for (char **m = g->gr_mem; m && *m; m++)
        if (strcmp(*m, name) == 0)
            return true;
    return false;
}

int users_groups(const struct user *u, gid_t *g, int max, struct err *e)
{
    struct db d;
    struct group gr = {.gr_name = NULL};
    int n = 0;
    if (n < max)
        g[n++] = u->gid;
    if (db_open(&d, "/etc/group", e) < 0)
        return errno == ENOENT ? n : -1;
    while (n < max && next_group(&d, &gr))
        if (gr.gr_gid != u->gid && is_member(&gr, u->name))
            g[n++] = gr.gr_gid;
    db_close(&d);
    return n;
}

void users_name(uid_t uid, char *dst, size_t cap)
{
    struct db d;
    struct passwd p = {.pw_name = NULL};
    snprintf(dst, cap, "%u", (unsigned)uid);
    if (db_open(&d, "/etc/passwd", NULL) < 0) {
        if (errno == ENOENT && uid == 0)
            snprintf(dst, cap, "root");
        return;
    }
    while (next_user(&d, &p)) {
        if (p.pw_uid == uid) {
            snprintf(dst, cap, "%s", p.pw_name);
            break;
        }
    }
    db_close(&d);
}

void users_group_name(gid_t gid, char *dst, size_t cap)
{
    struct db d;
    struct group g = {.gr_name = NULL};
    snprintf(dst, cap, "%u", (unsigned)gid);
    if (db_open(&d, "/etc/group", NULL) < 0) {
        if (errno == ENOENT && gid == 0)
            snprintf(dst, cap, "root");
        return;
    }
    while (next_group(&d, &g)) {
        if (g.gr_gid == gid) {
            snprintf(dst, cap, "%s", g.gr_name);
            break;
        }
    }
    db_close(&d);
}

static int below(const char *home, const char *rest, char *dst, size_t cap)
{
    char *joined = mem_alloc(strlen(home) + strlen(rest) + 3);
    size_t n = strlen(home) + strlen(rest) + 3;
    snprintf(joined, n, "/%s/%s", home, rest);
    int r = path_clean(dst, cap, joined);
    free(joined);
    return r;
}

int users_path(const struct envd *v, const struct user *u, const char *path,
               char *dst, size_t cap, struct err *e)
{
    int r;
    if (!path[0] && v->default_workdir)
        path = v->default_workdir;
    if (path[0] == '~' && path[1] && path[1] != '/')
        return err_set(e, "invalid_argument",
                       "failed to expand path '%.200s' for user '%s': cannot "
                       "expand user-specific home dir",
                       path, u->name);
    if (path[0] == '~')
        r = below(u->home, path + 1, dst, cap);
    else if (path[0] == '/')
        r = str_fmt(dst, cap, "%s", path);
    else
        r = below(u->home, path, dst, cap);
    if (r < 0)
        return err_set(e, "invalid_argument",
                       "path '%.100s...' is too long (at most %zu bytes)", path,
                       cap - 1);
    return 0;
}
