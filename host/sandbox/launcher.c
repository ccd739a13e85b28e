/* The parent's side: checks, plan, clone, release, and the end of a sandbox.
 * What the child does stands in launch_child.c. */
#include "launch_plan.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "cgroup_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum { START_MS = 20000, CLEAN_MS = 2000 };

/* ---- identity -------------------------------------------------------------
 */

/* State letter and field 22 of /proc/pid/stat; the command's name in between
 * may hold anything, so counting begins behind its last ')'. */
static int read_stat(pid_t pid, char *state, uint64_t *start)
{
    char path[32];
    str_fmt(path, sizeof(path), "/proc/%d/stat", (int)pid);
    char *text = path_read_file(AT_FDCWD, path, 4096, NULL, NULL);
    char *p = text ? strrchr(text, ')') : NULL;
    int rc = -1;
    if (p && p[1] == ' ' && p[2]) {
        *state = p[2];
        int field = 2;
        for (p++; p && field < 21; field++)
            p = strchr(p + 1, ' ');
        if (p) {
            *start = strtoull(p + 1, NULL, 10);
            rc = 0;
        }
    }
    free(text);
    return rc;
}

int launcher_identity(pid_t pid, uint64_t *start_time)
{
    char state;
    return read_stat(pid, &state, start_time);
}

bool launcher_alive(pid_t pid, uint64_t start_time)
{
    char state;
    uint64_t start;
    return pid > 0 && read_stat(pid, &state, &start) == 0 &&
           start == start_time && state != 'Z' && state != 'X';
}

/* ---- plan -----------------------------------------------------------------
 */

static bool made_of(const char *s, const char *set)
{
    size_t n = s ? strlen(s) : 0;
    return n >= 1 && n <= 64 && s[strspn(s, set)] == '\0';
}

#define LOWER "abcdefghijklmnopqrstuvwxyz0123456789"

static int check(const struct launcher_spec *s, struct err *e)
{
    if (!made_of(s->id, LOWER))
        return err_set(e, "invalid_argument",
                       "sandbox id '%.80s': 1 to 64 of a-z 0-9 are allowed",
                       s->id ? s->id : "");
    if (!made_of(s->hostname, LOWER "ABCDEFGHIJKLMNOPQRSTUVWXYZ.-"))
        return err_set(e, "invalid_argument",
                       "hostname '%.80s': 1 to 64 of A-Z a-z 0-9 . - are "
                       "allowed",
                       s->hostname ? s->hostname : "");
    if (s->nlayers < 1 || s->nlayers > LAUNCHER_MAX_LAYERS)
        return err_set(e, "invalid_argument",
                       "%d layers: 1 to %d are allowed; build the template "
                       "with fewer steps",
                       s->nlayers, (int)LAUNCHER_MAX_LAYERS);
    if (s->npass < 0 || s->npass > LAUNCHER_MAX_PASS)
        return err_set(e, "invalid_argument",
                       "%d descriptors to pass: 0 to %d are allowed", s->npass,
                       (int)LAUNCHER_MAX_PASS);
    if (!s->argv || !s->argv[0] || !s->envp)
        return err_set(e, "invalid_argument",
                       "argv needs a first string and envp a list");
    if (geteuid() != 0)
        return err_set(e, "unsupported",
                       "user %u is not root of its user namespace",
                       (unsigned)geteuid());
    return 0;
}

static void make_plan(struct launch_plan *p, const struct launcher_spec *s)
{
    uint64_t shm = s->shm_bytes ? s->shm_bytes : (uint64_t)64 << 20;
    memset(p, 0, sizeof(*p));
    p->spec = s;
    rootless_ids(&p->ids);
    if (s->net)
        netns_plan_make(&p->net);
    str_fmt(p->shm, sizeof(p->shm), "mode=1777,size=%llu",
            (unsigned long long)shm);
    if (s->upper_bytes)
        str_fmt(p->upper, sizeof(p->upper), "mode=0755,size=%llu",
                (unsigned long long)s->upper_bytes);
    str_fmt(p->inotify, sizeof(p->inotify), "%d",
            (int)LAUNCHER_INOTIFY_INSTANCES);
    str_fmt(p->overlay, sizeof(p->overlay), "lowerdir=");
    for (int i = s->nlayers - 1; i >= 0; i--) { /* the topmost comes first */
        size_t n = strlen(p->overlay);
        str_fmt(p->names[i], sizeof(p->names[i]), "l%d", i);
        str_fmt(p->overlay + n, sizeof(p->overlay) - n, "%s%s", p->names[i],
                i ? ":" : "");
    }
    size_t n = strlen(p->overlay);
    str_fmt(p->names[s->nlayers], sizeof(p->names[0]), "u");
    str_fmt(p->overlay + n, sizeof(p->overlay) - n,
            ",upperdir=u/u,workdir=u/w,userxattr");
}

/* ---- start ----------------------------------------------------------------
 */

/* Into the ascending list of what the child keeps. */
static void keep(struct launch_plan *p, int fd)
{
    int i = p->nkeep;
    if (fd < 0)
        return;
    for (; i > 0 && p->keep[i - 1] > fd; i--)
        p->keep[i] = p->keep[i - 1];
    p->keep[i] = fd;
    p->nkeep++;
}

static void keep_all(struct launch_plan *p)
{
    const struct launcher_spec *s = p->spec;
    for (int fd = 0; fd < 3; fd++)
        keep(p, fd);
    keep(p, p->sock);
    keep(p, s->exec_fd);
    keep(p, s->log_fd);
    keep(p, p->input);
    if (s->keep_fd > 0)
        keep(p, s->keep_fd);
    for (int i = 0; i < p->ndoors; i++)
        keep(p, p->doors[i]);
    for (int i = 0; i < s->npass; i++)
        keep(p, s->pass_fds[i]);
}

/* The child runs with all signals blocked until it has reset the handlers. */
static pid_t clone_child(const struct launch_plan *p, int cgroup, int *pidfd)
{
    struct clone_args a = {
        .flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET |
                 CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)pidfd,
        .exit_signal = SIGCHLD,
    };
    if (cgroup >= 0) {
        a.flags |= CLONE_INTO_CGROUP;
        a.cgroup = (uint64_t)cgroup;
    }
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t pid = (pid_t)syscall(SYS_clone3, &a, sizeof(a));
    if (pid == 0)
        launch_child_run(p);
    int saved = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = saved;
    return pid;
}

static int clone_failed(struct err *e)
{
    const char *remedy = "";
    if (errno == EPERM)
        remedy = " (not possible in a chroot and in most containers; see "
                 "e2blua doctor)";
    else if (errno == ENOSPC)
        remedy = " (raise the sysctl user.max_user_namespaces)";
    return err_errno(e, "unsupported", "make its namespaces%s", remedy);
}

static int step_failed(const struct launch_message *m, struct err *e)
{
    errno = m->errnum;
    return err_errno(e, m->errnum == ENOSPC ? NULL : "internal", "%s",
                     launch_child_step(m->step));
}

static void take_sockets(struct netns_sockets *net,
                         const struct launch_message *m, int *fds, int nfds)
{
    int used = 0;
    if (net && m->step == LAUNCH_NET) {
        net->errnum = m->errnum;
        for (int i = 0; i < NETNS_SOCKETS; i++)
            if (m->sockets & 1 << i && used < nfds)
                net->fd[i] = fds[used++];
    }
    while (used < nfds)
        fd_close(&fds[used++]);
}

/* One message: 1, 0 when the socket has closed, -1. */
static int hear(int sock, struct netns_sockets *net, struct launch_message *m,
                struct err *e)
{
    int fds[NETNS_SOCKETS], nfds = 0;
    ssize_t n = fd_recv(sock, m, sizeof(*m), fds, NETNS_SOCKETS, &nfds, NULL);
    take_sockets(net, m, fds, nfds);
    if (n <= 0)
        return 0;
    return n == (ssize_t)sizeof(*m)
               ? 1
               : err_set(e, "internal", "it sent %zd bytes", n);
}

static int died(struct err *e)
{
    return err_set(e, "internal",
                   "it died before its program was executed (killed, perhaps "
                   "for lack of memory)");
}

/* The socket closes by itself when exec succeeds. */
static int wait_exec(const struct launch_plan *p, int sock, int pidfd,
                     struct err *e)
{
    int64_t deadline = clock_ms() + START_MS;
    bool ready = false;
    for (;;) {
        struct launch_message m = {0};
        if (fd_await(sock, deadline) <= 0)
            return err_set(e, "timeout",
                           "it was not executed within %d seconds",
                           START_MS / 1000);
        int heard = hear(sock, p->spec->net, &m, e);
        if (heard <= 0)
            return heard < 0 ? -1 : ready ? 0 : died(e);
        if (m.step == LAUNCH_MOUNTS) {
            if (launch_mounts_send(sock, pidfd, e) < 0)
                return -1;
            continue;
        }
        if (m.step != LAUNCH_READY && m.step != LAUNCH_NET)
            return step_failed(&m, e);
        ready = ready || m.step == LAUNCH_READY;
    }
}

static int release(const struct launch_plan *p, const struct launcher_child *c,
                   int sock, struct err *e)
{
    const struct launcher_spec *s = p->spec;
    int trees[LAUNCH_TREES];
    if (rootless_map(&p->ids, c->pid, e) < 0)
        return -1;
    int rc = launch_maps_trees(p, c->pid, trees, e);
    if (rc == 0)
        rc = launch_maps_send(sock, trees, s->nlayers + 1, e);
    for (int i = 0; i <= s->nlayers; i++)
        fd_close(&trees[i]);
    return rc;
}

static int start(struct launch_plan *p, struct launcher_child *c, struct err *e)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(e, NULL, "socket pair");
    FD_AUTO int mine = pair[0];
    FD_AUTO int childs = pair[1];
    FD_AUTO int cgroup = cgroup_fd(c->cgroup);
    FD_AUTO int events =
        p->spec->memory_events ? cgroup_memory_events(c->cgroup) : -1;
    p->input = events;
    p->sock = childs;
    p->ndoors = cgroup_doors(c->cgroup, p->doors, e);
    if (p->ndoors < 0)
        return -1;
    keep_all(p);
    pid_t pid = clone_child(p, cgroup, &c->pidfd);
    for (int i = 0; i < p->ndoors; i++)
        fd_close(&p->doors[i]);
    if (pid < 0) {
        c->pidfd = -1;
        return clone_failed(e);
    }
    fd_close(&childs);
    c->pid = pid;
    char state;
    if (read_stat(pid, &state, &c->start_time) < 0)
        return err_set(e, "internal", "/proc/%d/stat cannot be read", (int)pid);
    return release(p, c, mine, e) ? -1 : wait_exec(p, mine, c->pidfd, e);
}

int launcher_start(const struct launcher_spec *s, struct launcher_child *out,
                   struct err *e)
{
    struct launch_plan plan;
    memset(out, 0, sizeof(*out));
    out->pidfd = -1;
    if (s->net)
        netns_sockets_init(s->net);
    if (check(s, e) < 0)
        return -1;
    if (s->cgroup && strlen(s->cgroup) >= sizeof(out->cgroup))
        return err_set(e, "invalid_argument", "cgroup name too long: %.140s",
                       s->cgroup);
    str_fmt(out->cgroup, sizeof(out->cgroup), "%s%s",
            s->cgroup ? s->cgroup : "e2blua/", s->cgroup ? "" : s->id);
    make_plan(&plan, s);
    if (cgroup_make(out->cgroup, &s->limits, out->missing, sizeof(out->missing),
                    e) < 0) {
        out->cgroup[0] = '\0';
        return err_wrap(e, "sandbox %s", s->id);
    }
    if (strstr(out->missing, "memory"))
        plan.data_bytes = s->limits.memory_bytes;
    if (strstr(out->missing, "pids"))
        plan.processes = s->limits.pids;
    if (start(&plan, out, e) == 0)
        return 0;
    if (s->net)
        netns_sockets_close(s->net);
    (void)launcher_kill(out, CLEAN_MS, NULL);
    return err_wrap(e, "sandbox %s", s->id);
}

/* ---- end ------------------------------------------------------------------
 */

static int open_pidfd(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* A pidfd for an adopted pid. The start time is read after opening: if it is
 * the right one, the descriptor is of the right process. */
static int adopt(const struct launcher_child *c)
{
    if (c->pid <= 0)
        return -1;
    int fd = open_pidfd(c->pid);
    if (!launcher_alive(c->pid, c->start_time))
        fd_close(&fd);
    return fd;
}

int launcher_adopt(struct launcher_child *c, struct err *e)
{
    c->pidfd = adopt(c);
    if (c->pidfd < 0)
        return err_set(e, "not_found", "process %d has ended", (int)c->pid);
    return 0;
}

static int wait_gone(const struct launcher_child *c, int64_t deadline,
                     const struct cgroup_tree *t, struct err *e)
{
    if (c->pidfd >= 0 && fd_await(c->pidfd, deadline) <= 0)
        return err_set(e, "timeout", "process %d did not end when killed",
                       (int)c->pid);
    siginfo_t info;
    if (c->pidfd >= 0)
        (void)waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG);
    /* Pid 1 takes its namespace along; only those who joined from outside are
     * left. */
    while (!cgroup_tree_empty(t, c->cgroup)) {
        (void)cgroup_tree_kill(t, c->cgroup, NULL);
        if (clock_ms() >= deadline)
            return err_set(e, "timeout",
                           "cgroup %s has processes that do not end when "
                           "killed",
                           c->cgroup);
        struct timespec ms = {0, 1000000};
        nanosleep(&ms, NULL);
    }
    return 0;
}

int launcher_kill(struct launcher_child *c, int timeout_ms, struct err *e)
{
    struct cgroup_tree t;
    int64_t deadline = clock_ms() + timeout_ms;
    if (!c->cgroup[0] && c->pid <= 0 && c->pidfd < 0)
        return 0;
    if (cgroup_tree_open(&t, e) < 0)
        return -1;
    if (c->pidfd < 0)
        c->pidfd = adopt(c);
    if (c->pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
    /* A frozen v1 group takes the signal only when it thaws. */
    if (c->cgroup[0])
        (void)cgroup_tree_freeze(&t, c->cgroup, false, NULL);
    if (wait_gone(c, deadline, &t, e) < 0)
        return -1;
    fd_close(&c->pidfd);
    c->pid = 0;
    int64_t left = deadline - clock_ms();
    if (c->cgroup[0] &&
        cgroup_tree_remove(&t, c->cgroup, left > 0 ? (int)left : 0, e) < 0)
        return -1;
    c->cgroup[0] = '\0';
    return 0;
}

int launcher_reap(struct launcher_child *c, int *status, struct err *e)
{
    siginfo_t info = {0};
    if (c->pidfd < 0)
        return err_set(e, "invalid_argument",
                       "this sandbox has no process of ours to wait for");
    if (waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG) < 0)
        return err_errno(e, NULL, "wait for process %d", (int)c->pid);
    if (info.si_pid == 0)
        return err_set(e, "internal", "process %d still runs", (int)c->pid);
    *status = info.si_code == CLD_EXITED ? W_EXITCODE(info.si_status, 0)
                                         : W_EXITCODE(0, info.si_status);
    return 0;
}
