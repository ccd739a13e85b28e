/* User namespaces of an ordinary user's engine. See rootless.h. */
#include "rootless.h"

#include "base/child.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <pwd.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAP_MAX = 64 * 1024, SUBID_MAX = 4 << 20, HELPER_MS = 10 * 1000 };

/* ---- what there is --------------------------------------------------------
 */

/* Ids from 0 on without a hole; UINT32_MAX: all of the machine's. */
static uint32_t mapped(const char *text)
{
    uint32_t have = 0;
    for (const char *p = text; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        unsigned inside, outside, count;
        if (sscanf(p, "%u %u %u", &inside, &outside, &count) != 3)
            break;
        if (inside == 0 && outside == 0 && count == UINT32_MAX)
            return UINT32_MAX;
        if (inside == have && count <= UINT32_MAX - 1 - have)
            have += count;
    }
    return have;
}

void rootless_ids_of(const char *uid_map, const char *gid_map,
                     struct rootless_ids *out)
{
    uint32_t uids = mapped(uid_map), gids = mapped(gid_map);
    uint32_t n = uids < gids ? uids : gids;
    if (n == UINT32_MAX)
        *out = (struct rootless_ids){ROOTLESS_NOT, ROOTLESS_FIRST,
                                     ROOTLESS_COUNT, true};
    else if (n <= 1)
        *out = (struct rootless_ids){ROOTLESS_ONE, 0, 1, false};
    else
        *out = (struct rootless_ids){
            ROOTLESS_RANGE, 1, n - 1 < ROOTLESS_COUNT ? n - 1 : ROOTLESS_COUNT,
            false};
}

void rootless_ids(struct rootless_ids *out)
{
    char *uids =
        path_read_file(AT_FDCWD, "/proc/self/uid_map", MAP_MAX, NULL, NULL);
    char *gids =
        path_read_file(AT_FDCWD, "/proc/self/gid_map", MAP_MAX, NULL, NULL);
    rootless_ids_of(uids ? uids : "", gids ? gids : "", out);
    free(uids);
    free(gids);
}

uid_t rootless_user(void)
{
    unsigned inside, outside;
    char *uids =
        path_read_file(AT_FDCWD, "/proc/self/uid_map", MAP_MAX, NULL, NULL);
    uid_t uid = geteuid();
    if (uids && uid == 0 && sscanf(uids, "%u %u", &inside, &outside) == 2 &&
        inside == 0)
        uid = outside;
    free(uids);
    return uid;
}

/* "name:first:count", by name or number. */
static bool take_range(const char *line, size_t n, const char *name, uid_t uid,
                       uint32_t *first)
{
    char text[256], who[128];
    unsigned from, count;
    if (n >= sizeof(text))
        return false;
    memcpy(text, line, n);
    text[n] = '\0';
    if (sscanf(text, "%127[^:]:%u:%u", who, &from, &count) != 3 ||
        count < ROOTLESS_COUNT)
        return false;
    char number[16];
    str_fmt(number, sizeof(number), "%u", (unsigned)uid);
    if (strcmp(who, name) != 0 && strcmp(who, number) != 0)
        return false;
    *first = from;
    return true;
}

int rootless_range_of(const char *text, const char *name, uid_t uid,
                      uint32_t *first)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        if (take_range(text, n, name, uid, first))
            return 0;
        text += n + (text[n] == '\n');
    }
    return -1;
}

static int range_in(const char *path, const char *name, uid_t uid,
                    uint32_t *first)
{
    char *text = path_read_file(AT_FDCWD, path, SUBID_MAX, NULL, NULL);
    int r = text ? rootless_range_of(text, name, uid, first) : -1;
    free(text);
    return r;
}

/* ---- maps -----------------------------------------------------------------
 */

static int write_proc(pid_t pid, const char *file, const char *text,
                      struct err *e)
{
    char path[48];
    str_fmt(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    FD_AUTO int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "internal", "%s", path);
    return fd_write_all(fd, text, strlen(text), e) ? err_wrap(e, "%s", file)
                                                   : 0;
}

int rootless_map(const struct rootless_ids *ids, pid_t pid, struct err *e)
{
    char map[48];
    str_fmt(map, sizeof(map), "0 %u %u\n", ids->first, ids->count);
    return write_proc(pid, "uid_map", map, e) ||
                   write_proc(pid, "gid_map", map, e)
               ? -1
               : 0;
}

/* A process in a new user namespace that lives until its pipe closes. */
static pid_t hold_namespace(int *hold, struct err *e)
{
    int ready[2], keep[2];
    char byte = 0;
    if (fd_pipe(ready, e))
        return -1;
    if (fd_pipe(keep, e)) {
        fd_close(&ready[0]);
        fd_close(&ready[1]);
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(keep[1]);
        if (unshare(CLONE_NEWUSER) == 0 && write(ready[1], &byte, 1) == 1)
            while (read(keep[0], &byte, 1) < 0 && errno == EINTR)
                ;
        _exit(0);
    }
    int saved = errno;
    fd_close(&ready[1]);
    fd_close(&keep[0]);
    *hold = keep[1];
    errno = saved;
    if (pid < 0)
        err_errno(e, NULL, "fork");
    else if (fd_read_all(ready[0], &byte, 1, NULL) != 1)
        err_set(e, "unsupported", "a user namespace cannot be made");
    else {
        fd_close(&ready[0]);
        return pid;
    }
    fd_close(&ready[0]);
    fd_close(hold);
    if (pid > 0)
        (void)waitpid(pid, NULL, 0);
    return -1;
}

int rootless_userns(const struct rootless_ids *ids, struct err *e)
{
    int hold = -1, fd = -1;
    pid_t pid = hold_namespace(&hold, e);
    if (pid < 0)
        return -1;
    if (rootless_map(ids, pid, e) == 0) {
        char path[48];
        str_fmt(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            err_errno(e, NULL, "%s", path);
    }
    fd_close(&hold);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return fd;
}

/* ---- becoming root --------------------------------------------------------
 */

/* What newuidmap and newgidmap are told, ready before the fork. */
struct wanted {
    char pid[16], uid[16], gid[16], first_uid[16], first_gid[16];
    uid_t user;
    gid_t group;
    bool range;
};

static void want(struct wanted *w, char *why, size_t cap)
{
    uint32_t uids = 0, gids = 0;
    char text[4096];
    struct passwd entry, *p = NULL;
    (void)getpwuid_r(geteuid(), &entry, text, sizeof(text), &p);
    const char *name = p ? p->pw_name : "";
    memset(w, 0, sizeof(*w));
    w->user = geteuid();
    w->group = getegid();
    const char *lacks = NULL;
    if (range_in("/etc/subuid", name, w->user, &uids) < 0)
        lacks = "/etc/subuid";
    else if (range_in("/etc/subgid", name, w->user, &gids) < 0)
        lacks = "/etc/subgid";
    w->range = !lacks;
    if (lacks)
        str_fmt(why, cap, "%s has no range of %d ids for %s", lacks,
                (int)ROOTLESS_COUNT, *name ? name : "this user");
    str_fmt(w->pid, sizeof(w->pid), "%d", (int)getpid());
    str_fmt(w->uid, sizeof(w->uid), "%u", (unsigned)w->user);
    str_fmt(w->gid, sizeof(w->gid), "%u", (unsigned)w->group);
    str_fmt(w->first_uid, sizeof(w->first_uid), "%u", uids);
    str_fmt(w->first_gid, sizeof(w->first_gid), "%u", gids);
}

static pid_t start_mapper(const char *program, const struct wanted *w,
                          const char *own, const char *first)
{
    char count[16];
    str_fmt(count, sizeof(count), "%d", (int)ROOTLESS_COUNT);
    const char *argv[] = {program, w->pid, "0",   own, "1",
                          "1",     first,  count, NULL};
    pid_t pid;
    errno = posix_spawnp(&pid, program, NULL, NULL,
                         (char *const *)(uintptr_t)argv, environ);
    return errno ? -1 : pid;
}

/* In the helper, outside the namespace. Exit status: 0, 1 refused, 2 missing.
 */
static void run_mapper(const char *program, const struct wanted *w,
                       const char *own, const char *first)
{
    int status = 0;
    pid_t pid = start_mapper(program, w, own, first);
    if (pid < 0)
        _exit(2);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status != 0)
        _exit(WIFEXITED(status) && WEXITSTATUS(status) == 127 ? 2 : 1);
}

static void help(const struct wanted *w, int go)
{
    char byte;
    if (read(go, &byte, 1) != 1)
        _exit(3);
    run_mapper("newuidmap", w, w->uid, w->first_uid);
    run_mapper("newgidmap", w, w->gid, w->first_gid);
    _exit(0);
}

static int unshare_failed(struct err *e)
{
    return err_errno(e, "unsupported",
                     "this user cannot make a user namespace; what to change: "
                     "e2blua doctor");
}

static int map_one(const struct wanted *w, struct err *e)
{
    char map[48];
    str_fmt(map, sizeof(map), "0 %u 1\n", (unsigned)w->user);
    if (write_proc(getpid(), "uid_map", map, e) ||
        write_proc(getpid(), "setgroups", "deny", e))
        return -1;
    str_fmt(map, sizeof(map), "0 %u 1\n", (unsigned)w->group);
    return write_proc(getpid(), "gid_map", map, e);
}

static bool is_mapped(void)
{
    struct rootless_ids ids;
    rootless_ids(&ids);
    return ids.grade == ROOTLESS_RANGE;
}

/* newuidmap may have worked where newgidmap did not; such a namespace cannot
 * be given one id any more. */
static int map_range(pid_t helper, char *why, size_t cap, struct err *e)
{
    static const char *const SAYS[] = {"", "newuidmap or newgidmap refused it",
                                       "newuidmap or newgidmap is missing"};
    int status = child_await(helper, HELPER_MS);
    if (status == 0 && is_mapped())
        return 1;
    str_fmt(why, cap, "%s", SAYS[status == 2 ? 2 : 1]);
    char *text =
        path_read_file(AT_FDCWD, "/proc/self/uid_map", MAP_MAX, NULL, NULL);
    bool half = text && *text;
    free(text);
    return half ? err_set(e, "unsupported",
                          "newuidmap works, but newgidmap does not: see "
                          "/etc/subgid, and that newgidmap is setuid root")
                : 0;
}

static int enter(const struct wanted *w, char *why, size_t cap, struct err *e)
{
    int pipe[2];
    char byte = 'g';
    if (fd_pipe(pipe, e))
        return -1;
    FD_AUTO int go = pipe[1];
    FD_AUTO int wait = pipe[0];
    pid_t helper = w->range ? fork() : 0;
    if (helper == 0 && w->range) {
        close(go);
        help(w, wait);
    }
    if (helper < 0)
        return err_errno(e, NULL, "fork");
    int failed =
        unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 ? unshare_failed(e) : 0;
    if (!failed && helper > 0 && write(go, &byte, 1) != 1)
        failed = err_errno(e, NULL, "pipe");
    fd_close(&go);
    if (failed && helper > 0)
        (void)child_await(helper, HELPER_MS);
    if (failed)
        return -1;
    int done = helper > 0 ? map_range(helper, why, cap, e) : 0;
    return done < 0 ? -1 : done > 0 ? 0 : map_one(w, e);
}

int rootless_enter(char *why, size_t cap, struct err *e)
{
    struct wanted w;
    *why = '\0';
    if (geteuid() == 0)
        return 0;
    want(&w, why, cap);
    if (enter(&w, why, cap, e) < 0)
        return err_wrap(e, "an engine without root");
    return 0;
}

/* The namespace around a process's own. */
static int open_outer(pid_t pid)
{
    char path[48];
    str_fmt(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    FD_AUTO int inner = open(path, O_RDONLY | O_CLOEXEC);
    /* cppcheck-suppress resourceLeak */
    return inner < 0 ? -1 : ioctl(inner, NS_GET_PARENT);
}

int rootless_join(pid_t pid, uint64_t start_time, struct err *e)
{
    uid_t owner;
    FD_AUTO int outer = open_outer(pid);
    if (outer < 0 || !launcher_alive(pid, start_time))
        return err_set(e, "not_found", "process %d is no sandbox", (int)pid);
    if (ioctl(outer, NS_GET_OWNER_UID, &owner) < 0 || owner != geteuid())
        return err_set(e, "not_found", "the sandbox of process %d is not ours",
                       (int)pid);
    if (setns(outer, CLONE_NEWUSER) < 0 || unshare(CLONE_NEWNS) < 0)
        return err_errno(e, NULL, "join the namespace of an earlier engine");
    return 0;
}
