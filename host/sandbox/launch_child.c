/* The child, from clone to exec: async-signal-safe calls on prepared strings.
 * libc's setuid family is not among them (it signals the threads of a process
 * that is only a copy here): those calls are made directly. */
#include "launch_plan.h"

#include "seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/mount.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 4
#endif

enum { TREES_BYTES = sizeof(int) * LAUNCH_TREES };

struct child {
    const struct launch_plan *plan;
    int sock, exec_fd;
    int scratch, old_root; /* O_PATH */
    int trees[LAUNCH_TREES];
    int given[2]; /* proc and sysfs, when the parent had to make them */
    struct netns_sockets net;
};

/* What another thread of the parent was doing is no concern of ours, and must
 * not last: its lock, its listeners, and its end of the socket to a sister that
 * would wait for the death of a parent for ever. */
static int close_others(const struct launch_plan *p)
{
    unsigned from = 0;
    for (int i = 0; i < p->nkeep; i++) {
        unsigned fd = (unsigned)p->keep[i];
        if (fd > from && syscall(SYS_close_range, from, fd - 1, 0) < 0)
            return -1;
        from = fd + 1;
    }
    return (int)syscall(SYS_close_range, from, ~0U, 0);
}

/* Blocks until the parent sends n descriptors; its death ends the wait. */
static int receive(const struct child *c, int *fds, int n)
{
    union {
        char space[CMSG_SPACE(TREES_BYTES)];
        struct cmsghdr align;
    } control;
    char go;
    struct iovec iov = {.iov_base = &go, .iov_len = 1};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = sizeof(control.space)};
    if (recvmsg(c->sock, &m, MSG_CMSG_CLOEXEC) != 1)
        return -1;
    const struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    size_t bytes = sizeof(int) * (size_t)n;
    if (!h || h->cmsg_len != CMSG_LEN(bytes))
        return -1;
    memcpy(fds, CMSG_DATA(h), bytes);
    return 0;
}

static void say(const struct child *c, int step, int errnum)
{
    struct launch_message m = {step, errnum, 0};
    (void)send(c->sock, &m, sizeof(m), MSG_NOSIGNAL);
}

/* ---- small calls ----------------------------------------------------------
 */

static int make_dir(const char *path, mode_t mode)
{
    return mkdir(path, mode) < 0 && errno != EEXIST ? -1 : 0;
}

static int write_file(const char *path, int flags, const char *text)
{
    int fd = open(path, flags | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0)
        return -1;
    size_t n = strlen(text);
    ssize_t r = n ? write(fd, text, n) : 0;
    close(fd);
    if (r == (ssize_t)n)
        return 0;
    if (r >= 0)
        errno = ENOSPC;
    return -1;
}

static int move_mount_to(int from_dir, const char *from, const char *to)
{
    return (int)syscall(SYS_move_mount, from_dir, from, AT_FDCWD, to,
                        *from ? 0 : MOVE_MOUNT_F_EMPTY_PATH);
}

static int mount_on_new_dir(const char *type, const char *where,
                            unsigned long flags, const char *options)
{
    if (make_dir(where, 0755) < 0)
        return -1;
    return mount(type, where, type, flags, options);
}

/* ---- who it is ------------------------------------------------------------
 */

/* Signal handlers of the parent mean nothing here; ignored signals would stay
 * ignored over exec, also the two that libc's sigaction does not touch. The
 * parent has blocked all signals around clone. */
static void reset_signals(void)
{
    static const char dfl[64]; /* the kernel's struct: SIG_DFL, no flags */
    for (int s = 1; s < NSIG; s++)
        (void)syscall(SYS_rt_sigaction, s, dfl, NULL, NSIG / 8);
}

/* Unmapped host root until here; mounts fail oddly without this. */
static int take_identity(struct child *c)
{
    /* With one id only the groups stay the user's, as the kernel wants it. */
    bool one = c->plan->ids.grade == ROOTLESS_ONE;
    if (setsid() < 0 || (!one && syscall(SYS_setgroups, 0, NULL) < 0) ||
        syscall(SYS_setresgid, 0, 0, 0) < 0 ||
        syscall(SYS_setresuid, 0, 0, 0) < 0)
        return -1;
    umask(0);
    return 0;
}

static int join_groups(struct child *c)
{
    for (int i = 0; i < c->plan->ndoors; i++)
        if (write(c->plan->doors[i], "0", 1) != 1 || close(c->plan->doors[i]))
            return -1;
    return 0;
}

/* Now that it is in its group, which thereby becomes "/". */
static int hide_cgroup_path(struct child *c)
{
    (void)c;
    return unshare(CLONE_NEWCGROUP);
}

static int set_hostname(struct child *c)
{
    const char *name = c->plan->spec->hostname;
    return sethostname(name, strlen(name));
}

static int raise_loopback(struct child *c)
{
    (void)c;
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int rc = ioctl(fd, SIOCSIFFLAGS, &r);
    close(fd);
    return rc;
}

/* Hands the descriptors over; the copies here are the program's or close at
 * exec. */
static int send_sockets(int sock, const struct netns_sockets *s)
{
    union {
        char space[CMSG_SPACE(sizeof(s->fd))];
        struct cmsghdr align;
    } control = {{0}};
    struct launch_message say = {LAUNCH_NET, s->errnum, 0};
    struct iovec iov = {.iov_base = &say, .iov_len = sizeof(say)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    int fds[NETNS_SOCKETS];
    size_t n = 0;
    for (int i = 0; i < NETNS_SOCKETS; i++)
        if (s->fd[i] >= 0) {
            fds[n++] = s->fd[i];
            say.sockets |= 1 << i;
        }
    if (n > 0) {
        m.msg_control = control.space;
        m.msg_controllen = CMSG_SPACE(n * sizeof(int));
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(n * sizeof(int));
        memcpy(CMSG_DATA(h), fds, n * sizeof(int));
    }
    return sendmsg(sock, &m, MSG_NOSIGNAL) < 0 ? -1 : 0;
}

/* A kernel that cannot do it leaves the sandbox without a way out, which is
 * said and no failure. */
static int open_network(struct child *c)
{
    if (!c->plan->spec->net)
        return 0;
    if (netns_apply(&c->plan->net, &c->net) < 0)
        c->net.errnum = errno;
    return send_sockets(c->sock, &c->net);
}

/* ---- the root, prepared on a scratch tmpfs --------------------------------
 */

static int mount_scratch(struct child *c)
{
    if ((c->old_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV,
              "mode=0755,size=1m") < 0 ||
        chdir("/tmp") < 0)
        return -1;
    c->scratch = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return c->scratch < 0 ? -1 : 0;
}

static int attach_layers(struct child *c)
{
    for (int i = 0; i <= c->plan->spec->nlayers; i++) {
        const char *name = c->plan->names[i];
        if (make_dir(name, 0755) < 0 ||
            move_mount_to(c->trees[i], "", name) < 0)
            return -1;
        close(c->trees[i]);
    }
    if (!*c->plan->upper)
        return 0;
    return mount("tmpfs", "u", "tmpfs", MS_NODEV, c->plan->upper) < 0 ||
                   make_dir("u/u", 0755) < 0 || make_dir("u/w", 0755) < 0
               ? -1
               : 0;
}

static int mount_overlay(struct child *c)
{
    return mount_on_new_dir("overlay", "r", MS_NODEV, c->plan->overlay);
}

static int mount_dev(struct child *c)
{
    static const char *const nodes[][2] = {
        {"/dev/null", "d/null"},       {"/dev/zero", "d/zero"},
        {"/dev/full", "d/full"},       {"/dev/random", "d/random"},
        {"/dev/urandom", "d/urandom"}, {"/dev/tty", "d/tty"}};
    static const char *const links[][2] = {{"/proc/self/fd", "d/fd"},
                                           {"/proc/self/fd/0", "d/stdin"},
                                           {"/proc/self/fd/1", "d/stdout"},
                                           {"/proc/self/fd/2", "d/stderr"},
                                           {"pts/ptmx", "d/ptmx"}};
    const unsigned long quiet = MS_NOSUID | MS_NOEXEC;
    if (make_dir("d", 0755) < 0 ||
        mount("tmpfs", "d", "tmpfs", MS_NOSUID, "mode=0755,size=64k") < 0)
        return -1;
    for (size_t i = 0; i < sizeof(nodes) / sizeof(*nodes); i++)
        if (write_file(nodes[i][1], O_CREAT, "") < 0 ||
            mount(nodes[i][0], nodes[i][1], NULL, MS_BIND, NULL) < 0)
            return -1;
    for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
        if (symlink(links[i][0], links[i][1]) < 0)
            return -1;
    /* Terminals belong to the group tty. */
    const char *pts = c->plan->ids.grade == ROOTLESS_ONE
                          ? "newinstance,ptmxmode=0666,mode=0620"
                          : "newinstance,ptmxmode=0666,mode=0620,gid=5";
    if (mount_on_new_dir("devpts", "d/pts", quiet, pts) < 0 ||
        mount_on_new_dir("tmpfs", "d/shm", MS_NOSUID | MS_NODEV, c->plan->shm) <
            0)
        return -1;
    return mount_on_new_dir("mqueue", "d/mqueue", quiet | MS_NODEV, NULL);
}

enum { GIVEN_PROC, GIVEN_SYS };

/* Where the machine's own are hidden in part, as in a container, only the
 * parent may make new ones. */
static int mount_kernel(struct child *c, int which, const char *type,
                        const char *where, unsigned long flags)
{
    flags |= MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (mount_on_new_dir(type, where, flags, NULL) == 0)
        return 0;
    if (errno != EPERM)
        return -1;
    if (c->given[which] < 0) {
        say(c, LAUNCH_MOUNTS, 0);
        if (receive(c, c->given, 2) < 0)
            return -1;
    }
    return move_mount_to(c->given[which], "", where);
}

static int mount_proc(struct child *c)
{
    if (mount_kernel(c, GIVEN_PROC, "proc", "p", 0) < 0)
        return -1;
    /* The keys of whoever started the engine. */
    if (mount("/dev/null", "p/keys", NULL, MS_BIND, NULL) < 0 &&
        errno != ENOENT)
        return -1;
    return 0;
}

static int mount_sys(struct child *c)
{
    return mount_kernel(c, GIVEN_SYS, "sysfs", "s", MS_RDONLY);
}

/* Writing them needs CAP_SYS_RESOURCE inside, which goes before exec. */
static int limit_namespace(struct child *c)
{
    if (write_file("p/sys/user/max_inotify_instances", 0, c->plan->inotify) < 0)
        return -1;
    return write_file("p/sys/user/max_user_namespaces", 0, "0");
}

static int mount_run(struct child *c)
{
    if (make_dir("run", 0755) < 0 ||
        mount("tmpfs", "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") < 0 ||
        make_dir("run/lock", 01777) < 0)
        return -1;
    if (!c->plan->spec->tmp_tmpfs)
        return 0;
    return make_dir("tmp", 0755) < 0 ? -1
                                     : mount("tmpfs", "tmp", "tmpfs",
                                             MS_NOSUID | MS_NODEV, "mode=1777");
}

static int write_etc(struct child *c)
{
    const struct launcher_spec *s = c->plan->spec;
    if (make_dir("etc", 0755) < 0 ||
        write_file("etc/hosts", O_CREAT, s->hosts ? s->hosts : "") < 0 ||
        write_file("etc/resolv.conf", O_CREAT,
                   s->resolv_conf ? s->resolv_conf : "") < 0 ||
        write_file("etc/hostname", O_CREAT, s->hostname) < 0)
        return -1;
    return write_file("etc/hostname", O_APPEND, "\n");
}

/* ---- the new root: from here on links resolve inside ----------------------
 */

static int pivot(struct child *c)
{
    (void)c;
    if (chdir("r") < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return -1;
    return chdir("/");
}

static int place(struct child *c, const char *from, const char *to)
{
    return make_dir(to, 0755) < 0 ? -1 : move_mount_to(c->scratch, from, to);
}

static int place_mounts(struct child *c)
{
    if (place(c, "d", "/dev") < 0 || place(c, "p", "/proc") < 0 ||
        place(c, "s", "/sys") < 0 || place(c, "run", "/run") < 0)
        return -1;
    return c->plan->spec->tmp_tmpfs ? place(c, "tmp", "/tmp") : 0;
}

/* A link to nowhere (resolv.conf of systemd into the empty /run) gives way. */
static int make_mount_point(const char *path)
{
    if (access(path, F_OK) == 0)
        return 0;
    if (unlink(path) < 0 && errno != ENOENT)
        return -1;
    return write_file(path, O_CREAT | O_EXCL, "");
}

static int place_etc(struct child *c)
{
    static const char *const files[][2] = {
        {"etc/hosts", "/etc/hosts"},
        {"etc/resolv.conf", "/etc/resolv.conf"},
        {"etc/hostname", "/etc/hostname"}};
    if (make_dir("/etc", 0755) < 0)
        return -1;
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        if (make_mount_point(files[i][1]) < 0)
            return -1;
        int fd = (int)syscall(SYS_open_tree, c->scratch, files[i][0],
                              OPEN_TREE_CLONE | O_CLOEXEC);
        if (fd < 0 || move_mount_to(fd, "", files[i][1]) < 0)
            return -1;
        close(fd);
    }
    return 0;
}

static int leave_old_root(struct child *c)
{
    if (fchdir(c->old_root) < 0 || umount2(".", MNT_DETACH) < 0)
        return -1;
    return chdir("/");
}

/* ---- what it keeps --------------------------------------------------------
 */

enum { MAX_KEPT = LAUNCHER_MAX_PASS + NETNS_SOCKETS + 1 };

static int kept_count(const struct launcher_spec *s)
{
    return s->npass + (s->net_pass ? NETNS_SOCKETS : 0) + (s->keep_fd > 0);
}

/* What the program finds from 3 on: passed ones, sockets, the lock. */
static int kept_fd(const struct child *c, int i)
{
    const struct launcher_spec *s = c->plan->spec;
    if (i < s->npass)
        return s->pass_fds[i];
    i -= s->npass;
    return s->net_pass && i < NETNS_SOCKETS ? c->net.fd[i] : s->keep_fd;
}

/* Moves them to first or above; -1: a gap. */
static int move_kept(const struct child *c, int *kept, int n, int first)
{
    for (int i = 0; i < n; i++) {
        int fd = kept_fd(c, i);
        kept[i] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, first);
        if (fd >= 0 && kept[i] < 0)
            return -1;
    }
    return 0;
}

static int place_kept(const int *kept, int n)
{
    for (int i = 0; i < n; i++)
        if (kept[i] < 0)
            close(3 + i);
        else if (dup2(kept[i], 3 + i) < 0)
            return -1;
    return 0;
}

/* Everything moves above the wanted numbers first, so that no dup2 hits a
 * descriptor that is still needed. Before the limit is lowered: they may have
 * higher numbers than it allows. */
static int arrange_descriptors(struct child *c)
{
    const struct launcher_spec *s = c->plan->spec;
    int n = kept_count(s), kept[MAX_KEPT];
    int first = 3 + n;
    if (move_kept(c, kept, n, first) < 0)
        return -1;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return -1;
    int in = c->plan->input;
    in = fcntl(in < 0 ? null : in, F_DUPFD_CLOEXEC, first);
    int log = fcntl(s->log_fd < 0 ? null : s->log_fd, F_DUPFD_CLOEXEC, first);
    close(null);
    int prog = fcntl(c->exec_fd, F_DUPFD_CLOEXEC, first);
    int sock = fcntl(c->sock, F_DUPFD_CLOEXEC, first);
    if (sock < 0)
        return -1;
    c->sock = sock;
    c->exec_fd = prog;
    if (prog < 0 || dup2(in, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
        return -1;
    if (place_kept(kept, n) < 0)
        return -1;
    return (int)syscall(SYS_close_range, first, ~0U, CLOSE_RANGE_CLOEXEC);
}

/* Lowers it; what the caller has less of stays. */
static int lower_limit(int which, uint64_t n)
{
    struct rlimit r;
    if (n == 0)
        return 0;
    if (getrlimit((__rlimit_resource_t)which, &r) < 0)
        return -1;
    if (r.rlim_max > n)
        r.rlim_max = n;
    if (r.rlim_cur > r.rlim_max)
        r.rlim_cur = r.rlim_max;
    return setrlimit((__rlimit_resource_t)which, &r);
}

static int set_limits(struct child *c)
{
    struct rlimit r;
    if (lower_limit(RLIMIT_DATA, c->plan->data_bytes) < 0 ||
        lower_limit(RLIMIT_NPROC, c->plan->processes) < 0)
        return -1;
    if (getrlimit(RLIMIT_NOFILE, &r) < 0)
        return -1;
    if (r.rlim_max > LAUNCHER_NOFILE)
        r.rlim_cur = LAUNCHER_NOFILE;
    if (setrlimit(RLIMIT_NOFILE, &r) < 0 || getrlimit(RLIMIT_CORE, &r) < 0)
        return -1;
    r.rlim_cur = 0;
    return setrlimit(RLIMIT_CORE, &r);
}

static int load_filter(struct child *c)
{
    if (c->plan->ids.grade == ROOTLESS_ONE && seccomp_load_fakes() < 0)
        return -1;
    return seccomp_load_table();
}

#define CAP(x) ((uint64_t)1 << CAP_##x)

/* Docker's set. */
static int drop_capabilities(struct child *c)
{
    const uint64_t kept = CAP(CHOWN) | CAP(DAC_OVERRIDE) | CAP(FSETID) |
                          CAP(FOWNER) | CAP(MKNOD) | CAP(NET_RAW) |
                          CAP(SETGID) | CAP(SETUID) | CAP(SETFCAP) |
                          CAP(SETPCAP) | CAP(NET_BIND_SERVICE) |
                          CAP(SYS_CHROOT) | CAP(KILL) | CAP(AUDIT_WRITE);
    struct __user_cap_header_struct h = {.version =
                                             _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct d[2] = {0};
    (void)c;
    for (int i = 0; i < 64 && prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
        if (!(kept >> i & 1) && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0)
            return -1;
    d[0].permitted = d[0].effective = (uint32_t)kept;
    d[1].permitted = d[1].effective = (uint32_t)(kept >> 32);
    return (int)syscall(SYS_capset, &h, d);
}

/* ---- all of it ------------------------------------------------------------
 */

static const struct {
    const char *name;
    int (*run)(struct child *c);
} STEPS[] = {
    {"join its cgroups", join_groups},
    {"become root of the user namespace", take_identity},
    {"unshare the cgroup namespace", hide_cgroup_path},
    {"set the hostname", set_hostname},
    {"raise the loopback interface", raise_loopback},
    {"hand over the sockets of its network", open_network},
    {"mount a scratch tmpfs on /tmp", mount_scratch},
    {"attach the layers", attach_layers},
    {"mount the overlay of the layers", mount_overlay},
    {"mount /dev", mount_dev},
    {"mount /proc", mount_proc},
    {"mount /sys", mount_sys},
    {"limit inotify and user namespaces", limit_namespace},
    {"mount /run and /tmp", mount_run},
    {"write the files of /etc", write_etc},
    {"pivot_root", pivot},
    {"place /dev, /proc, /sys, /run and /tmp", place_mounts},
    {"place /etc/hosts, resolv.conf and hostname", place_etc},
    {"unmount the old root", leave_old_root},
    {"arrange the descriptors", arrange_descriptors},
    {"set resource limits", set_limits},
    {"load the system call filter", load_filter},
    {"drop capabilities", drop_capabilities},
    {"execute the program", NULL},
};
enum { STEP_EXEC = sizeof(STEPS) / sizeof(*STEPS) - 1 };

const char *launch_child_step(int step)
{
    return step >= 0 && step <= STEP_EXEC ? STEPS[step].name : "unknown step";
}

void launch_child_run(const struct launch_plan *p)
{
    struct child c = {.plan = p,
                      .sock = p->sock,
                      .exec_fd = p->spec->exec_fd,
                      .scratch = -1,
                      .old_root = -1,
                      .given = {-1, -1},
                      .net = {.fd = {-1, -1, -1, -1}}};
    sigset_t none;
    reset_signals();
    if (close_others(p) < 0 || receive(&c, c.trees, p->spec->nlayers + 1) < 0)
        _exit(127);
    for (int i = 0; i < STEP_EXEC; i++)
        if (STEPS[i].run(&c) < 0) {
            say(&c, i, errno);
            _exit(127);
        }
    umask(022);
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    say(&c, LAUNCH_READY, 0);
    (void)syscall(SYS_execveat, c.exec_fd, "", p->spec->argv, p->spec->envp,
                  AT_EMPTY_PATH);
    say(&c, STEP_EXEC, errno);
    _exit(127);
}
