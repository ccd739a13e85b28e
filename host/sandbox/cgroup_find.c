/* Where each kind of control is mounted, and which group there is ours. See
 * cgroup_tree.h. */
#include "cgroup_tree.h"

#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOUNTINFO_MAX = 4 << 20, OWN_MAX = 64 << 10 };

static const char *const CONTROLLER[CGROUP_KINDS] = {"cpu", "cpuacct", "memory",
                                                     "pids", "freezer"};

static bool has_word(const char *list, const char *word, const char *seps)
{
    size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)); p += n) {
        bool begins = p == list || strchr(seps, p[-1]);
        if (begins && (p[n] == '\0' || strchr(seps, p[n])))
            return true;
    }
    return false;
}

/* mountinfo writes blanks and backslashes as \040 and the like. */
static void unescape(char *dst, size_t cap, const char *s)
{
    size_t n = 0;
    while (*s && n + 1 < cap) {
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
            dst[n++] =
                (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
            s += 4;
        } else {
            dst[n++] = *s++;
        }
    }
    dst[n] = '\0';
}

/* ---- what is mounted ------------------------------------------------------
 */

struct mount {
    char base[CGROUP_ROOT_MAX], where[CGROUP_ROOT_MAX], type[16],
        options[CGROUP_ROOT_MAX];
};

static bool parse_mount(const char *line, size_t n, struct mount *m)
{
    char text[1024], base[CGROUP_ROOT_MAX], where[CGROUP_ROOT_MAX];
    if (n >= sizeof(text))
        return false;
    memcpy(text, line, n);
    text[n] = '\0';
    const char *dash = strstr(text, " - cgroup");
    if (!dash || sscanf(text, "%*s %*s %*s %255s %255s", base, where) != 2 ||
        sscanf(dash, " - %15s %*s %255s", m->type, m->options) != 2)
        return false;
    unescape(m->base, sizeof(m->base), base);
    unescape(m->where, sizeof(m->where), where);
    return true;
}

static void take_root(struct cgroup_root *r, const struct mount *m)
{
    str_fmt(r->path, sizeof(r->path), "%s", m->where);
    str_fmt(r->mount, sizeof(r->mount), "%s", m->where);
    str_fmt(r->base, sizeof(r->base), "%s", m->base);
}

static void take_mount(struct cgroup_tree *t, const struct mount *m)
{
    if (!strcmp(m->type, "cgroup2") && !*t->unified.path) {
        take_root(&t->unified, m);
        t->unified.v2 = true;
    }
    if (strcmp(m->type, "cgroup") != 0)
        return;
    for (int k = 0; k < CGROUP_KINDS; k++)
        if (!*t->kind[k].path && has_word(m->options, CONTROLLER[k], ","))
            take_root(&t->kind[k], m);
}

/* ---- what of it is ours ---------------------------------------------------
 */

/* Lines are "9:cpu,cpuacct:/path", of v2 "0::/path". controller NULL: v2. */
static bool own_group(const char *text, const char *controller, char *dst)
{
    for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        char list[CGROUP_ROOT_MAX] = "", path[CGROUP_ROOT_MAX];
        if (controller ? sscanf(p, "%*d:%255[^:\n]:%255[^\n]", list, path) != 2
                       : sscanf(p, "0::%255[^\n]", path) != 1)
            continue;
        if (controller && !has_word(list, controller, ","))
            continue;
        str_fmt(dst, CGROUP_ROOT_MAX, "%s", path);
        return true;
    }
    return false;
}

/* Puts the uppermost group that is ours in the place of the mount point. */
static void narrow(struct cgroup_root *r, const char *own, cgroup_may *may)
{
    char path[CGROUP_PATH_MAX];
    int first = may(r->path, r->v2);
    if (first == 0)
        return;
    size_t base = strlen(r->base);
    if (base > 1 && !strncmp(own, r->base, base))
        own += base;
    for (const char *end = own; *end == '/' && end[1];) {
        end += 1 + strcspn(end + 1, "/");
        if (str_fmt(path, sizeof(path), "%s%.*s", r->mount, (int)(end - own),
                    own) >= 0 &&
            strlen(path) < sizeof(r->path) && may(path, r->v2) == 0) {
            str_fmt(r->path, sizeof(r->path), "%.255s", path);
            return;
        }
    }
    r->path[0] = '\0';
    r->lack = first == EROFS ? CGROUP_READ_ONLY
              : r->v2        ? CGROUP_NOT_DELEGATED
                             : CGROUP_OF_ROOT;
}

static void take_unified(struct cgroup_tree *t)
{
    char path[CGROUP_PATH_MAX];
    const struct cgroup_root *u = &t->unified;
    str_fmt(path, sizeof(path), "%s/cgroup.controllers", u->path);
    char *list =
        *u->path ? path_read_file(AT_FDCWD, path, 4096, NULL, NULL) : NULL;
    for (int k = 0; k < CGROUP_KINDS; k++) {
        struct cgroup_root *r = &t->kind[k];
        /* cpu.stat and cgroup.freeze need no controller there. */
        bool core = k == CGROUP_CPUACCT || k == CGROUP_FREEZER;
        bool has = *u->path &&
                   (core || has_word(list ? list : "", CONTROLLER[k], " \n"));
        /* What v1 has, v2 has not: the reason stands already. */
        if (*r->path || (*r->mount && !has))
            continue;
        *r = *u;
        if (has)
            continue;
        str_fmt(r->mount, sizeof(r->mount), "%s",
                *u->path ? u->path : u->mount);
        r->path[0] = '\0';
        if (*u->path)
            r->lack = CGROUP_NO_CONTROLLER;
    }
    free(list);
}

void cgroup_tree_scan(struct cgroup_tree *t, const char *mountinfo,
                      const char *own, cgroup_may *may)
{
    char group[CGROUP_ROOT_MAX];
    memset(t, 0, sizeof(*t));
    while (*mountinfo) {
        size_t n = strcspn(mountinfo, "\n");
        struct mount m;
        if (parse_mount(mountinfo, n, &m))
            take_mount(t, &m);
        mountinfo += n + (mountinfo[n] == '\n');
    }
    for (int k = 0; may && k < CGROUP_KINDS; k++)
        if (*t->kind[k].path)
            narrow(&t->kind[k],
                   own_group(own, CONTROLLER[k], group) ? group : "", may);
    if (may && *t->unified.path)
        narrow(&t->unified, own_group(own, NULL, group) ? group : "", may);
    if (*t->unified.mount)
        take_unified(t);
}

/* ---- this machine ---------------------------------------------------------
 */

static int may_write(const char *dir, bool v2)
{
    static const char *const files[] = {"", "/cgroup.procs",
                                        "/cgroup.subtree_control"};
    char path[CGROUP_PATH_MAX];
    for (int i = 0; i < (v2 ? 3 : 2); i++) {
        str_fmt(path, sizeof(path), "%s%s", dir, files[i]);
        if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0)
            return errno;
    }
    return 0;
}

int cgroup_tree_open(struct cgroup_tree *t, struct err *e)
{
    char *text = path_read_file(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX,
                                NULL, e);
    if (!text)
        return -1;
    char *own = path_read_file(AT_FDCWD, "/proc/self/cgroup", OWN_MAX, NULL, e);
    if (own)
        cgroup_tree_scan(t, text, own, may_write);
    free(text);
    free(own);
    return own ? 0 : -1;
}
