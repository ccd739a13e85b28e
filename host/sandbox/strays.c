/* Groups and their processes as /sys and /proc show them. */
#include "strays.h"

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "launcher.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STATUS_MAX = 64 * 1024 };

/* Is it pid 1 of its innermost namespace, and that not ours? */
static bool is_first(pid_t pid)
{
    char path[48];
    size_t n;
    (void)str_fmt(path, sizeof(path), "/proc/%d/status", (int)pid);
    char *text = path_read_file(AT_FDCWD, path, STATUS_MAX, &n, NULL);
    const char *line = text ? strstr(text, "\nNSpid:") : NULL;
    bool first = false;
    if (line) {
        size_t len = strcspn(line + 1, "\n");
        first = len > 2 && memcmp(line + 1 + len - 2, "\t1", 2) == 0;
    }
    free(text);
    return first;
}

static void find_first(const char *group, struct stray *s)
{
    char path[CGROUP_PATH_MAX], line[32];
    (void)str_fmt(path, sizeof(path), "%s/cgroup.procs", group);
    FILE *f = fopen(path, "re");
    while (f && !s->pid && fgets(line, sizeof(line), f)) {
        pid_t pid = (pid_t)strtol(line, NULL, 10);
        if (pid > 1 && is_first(pid) &&
            launcher_identity(pid, &s->start_time) == 0)
            s->pid = pid;
    }
    if (f)
        (void)fclose(f);
}

/* Was it seen in an earlier hierarchy? */
static bool seen_before(const struct cgroup_tree *t, int kind, const char *name)
{
    char path[CGROUP_PATH_MAX];
    for (int i = 0; i < kind; i++)
        if (*t->kind[i].path &&
            str_fmt(path, sizeof(path), "%s/%s", t->kind[i].path, name) == 0 &&
            access(path, F_OK) == 0)
            return true;
    return false;
}

static void find_in(const struct cgroup_tree *t, int kind, const char *prefix,
                    void (*fn)(void *arg, const struct stray *s), void *arg)
{
    char dir[CGROUP_PATH_MAX], group[CGROUP_PATH_MAX];
    if (str_fmt(dir, sizeof(dir), "%s/%s", t->kind[kind].path, prefix))
        return;
    DIR *d = opendir(dir);
    for (struct dirent *n; d && (n = readdir(d));) {
        struct stray s = {.pid = 0};
        if (n->d_type != DT_DIR || n->d_name[0] == '.' ||
            str_fmt(s.id, sizeof(s.id), "%s", n->d_name) ||
            str_fmt(s.cgroup, sizeof(s.cgroup), "%s/%s", prefix, s.id) ||
            str_fmt(group, sizeof(group), "%s/%s", dir, s.id) ||
            seen_before(t, kind, s.cgroup))
            continue;
        find_first(group, &s);
        fn(arg, &s);
    }
    if (d)
        closedir(d);
}

void strays_find_in(const struct cgroup_tree *t, const char *prefix,
                    void (*fn)(void *arg, const struct stray *s), void *arg)
{
    for (int i = 0; i < CGROUP_KINDS; i++)
        if (*t->kind[i].path)
            find_in(t, i, prefix, fn, arg);
}

int strays_find(const char *prefix,
                void (*fn)(void *arg, const struct stray *s), void *arg,
                struct err *e)
{
    struct cgroup_tree t;
    if (cgroup_tree_open(&t, e))
        return -1;
    strays_find_in(&t, prefix, fn, arg);
    return 0;
}

int strays_at(int run_dir, const char *name, pid_t *pid, uint64_t *start_time)
{
    struct ucred peer;
    socklen_t n = sizeof(peer);
    int fd = fd_unix_connect(run_dir, name, NULL);
    if (fd < 0)
        return -1;
    int failed = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n);
    fd_close(&fd);
    if (failed || peer.pid <= 1 || !is_first(peer.pid) ||
        launcher_identity(peer.pid, start_time))
        return -1;
    *pid = peer.pid;
    return 0;
}
