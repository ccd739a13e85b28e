/* Tries out what sandboxes need of the kernel. See probe.h. */
#include "probe.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif

enum { WAIT_S = 5 };

/* A child that does its work and then waits for the end of a pipe. */
struct child {
    pid_t pid;
    int done, told; /* what it reports on; whose end it waits for */
};

/* Between fork and the end: async-signal-safe calls only. */
static void child_run(int flags, int (*work)(void), int report, int wait)
{
    int why = unshare(flags) < 0 ? errno : work ? work() : 0;
    char byte;
    if (write(report, &why, sizeof(why)) == sizeof(why))
        while (read(wait, &byte, 1) < 0 && errno == EINTR)
            ;
    _exit(0);
}

static void child_end(struct child *c)
{
    fd_close(&c->told);
    fd_close(&c->done);
    if (c->pid > 0) {
        kill(c->pid, SIGKILL);
        while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
}

/* 0, or the error number of what the child could not do. */
static int child_start(struct child *c, int flags, int (*work)(void),
                       struct err *e)
{
    int report[2] = {-1, -1}, wait[2] = {-1, -1};
    int why = -1;
    c->done = c->told = -1;
    c->pid = -1;
    if (fd_pipe(report, e) < 0 || fd_pipe(wait, e) < 0) {
        fd_close(&report[0]);
        fd_close(&report[1]);
        return -1;
    }
    c->pid = fork();
    if (c->pid == 0) {
        close(wait[1]);
        child_run(flags, work, report[1], wait[0]);
    }
    fd_close(&report[1]);
    fd_close(&wait[0]);
    c->done = report[0];
    c->told = wait[1];
    if (c->pid < 0)
        return err_errno(e, NULL, "fork");
    if (read(c->done, &why, sizeof(why)) != sizeof(why))
        return err_set(e, "internal", "the trial was killed");
    errno = why;
    return why == 0 ? 0 : err_errno(e, "unsupported", "not allowed");
}

int probe_userns(struct err *e)
{
    struct child c;
    int r = child_start(&c, CLONE_NEWUSER, NULL, e);
    child_end(&c);
    return r < 0 ? err_wrap(e, "user namespaces") : 0;
}

static int write_map(pid_t pid, const char *file, struct err *e)
{
    char path[48];
    str_fmt(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    FD_AUTO int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "unsupported", "%s", file);
    return fd_write_all(fd, "0 100000 65536", 14, e);
}

static int try_idmap(const char *dir, pid_t pid, struct err *e)
{
    char path[48];
    str_fmt(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    FD_AUTO int userns = open(path, O_RDONLY | O_CLOEXEC);
    FD_AUTO int tree =
        (int)syscall(SYS_open_tree, AT_FDCWD, dir, OPEN_TREE_CLONE | O_CLOEXEC);
    if (userns < 0 || tree < 0)
        return err_errno(e, "unsupported", "open_tree");
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP,
                              .userns_fd = (uint64_t)userns};
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr,
                sizeof(attr)) < 0)
        return err_errno(e, "unsupported", "mount_setattr");
    return 0;
}

int probe_idmap(const char *dir, struct err *e)
{
    struct child c;
    int r = child_start(&c, CLONE_NEWUSER, NULL, e);
    if (r == 0 &&
        (write_map(c.pid, "uid_map", e) < 0 ||
         write_map(c.pid, "gid_map", e) < 0 || try_idmap(dir, c.pid, e) < 0))
        r = -1;
    child_end(&c);
    return r;
}

/* In the child: asks for the generation of the rules; 0 or an error number. */
static int ask_nf_tables(void)
{
    struct {
        struct nlmsghdr head;
        struct nfgenmsg gen;
    } q = {.head = {.nlmsg_len = sizeof(q),
                    .nlmsg_type = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN,
                    .nlmsg_flags = NLM_F_REQUEST},
           .gen = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0}};
    struct {
        struct nlmsghdr head;
        char rest[1024];
    } a;
    struct timeval limit = {.tv_sec = WAIT_S};
    int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (s < 0 ||
        setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        send(s, &q, sizeof(q), 0) < 0)
        return errno;
    ssize_t n = recv(s, &a, sizeof(a), 0);
    if (n < 0)
        return errno;
    if ((size_t)n < sizeof(a.head))
        return EPROTO;
    if (a.head.nlmsg_type != NLMSG_ERROR)
        return 0;
    struct nlmsgerr no;
    memcpy(&no, a.rest, sizeof(no));
    return no.error == 0 ? EPROTO : -no.error;
}

int probe_nf_tables(struct err *e)
{
    struct child c;
    int r = child_start(&c, CLONE_NEWUSER | CLONE_NEWNET, ask_nf_tables, e);
    child_end(&c);
    return r < 0 ? err_wrap(e, "nf_tables") : 0;
}

int probe_space(const char *dir, uint64_t *bytes, struct err *e)
{
    struct statvfs v;
    if (statvfs(dir, &v) < 0)
        return err_errno(e, NULL, "%s", dir);
    *bytes = (uint64_t)v.f_bavail * v.f_frsize;
    return 0;
}

/* ---- an ordinary user ------------------------------------------------------
 */

/* What the child of probe_rootless writes. */
struct report {
    struct probe_rootless found;
    struct err err; /* kind is a pointer of this program's: valid here, too */
    bool entered;
};

static const char *mount_all(void)
{
    static const char *const dirs[] = {"l", "u", "w", "r", "p", "s"};
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", "/tmp", "tmpfs", 0, NULL) < 0 || chdir("/tmp") < 0)
        return "tmpfs";
    for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++)
        if (mkdir(dirs[i], 0755) < 0)
            return "tmpfs";
    if (mount("overlay", "r", "overlay", 0,
              "lowerdir=l,upperdir=u,workdir=w,userxattr") < 0)
        return "overlay";
    if (mount("proc", "p", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return "proc";
    if (mount("sysfs", "s", "sysfs",
              MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL) < 0)
        return "sysfs";
    return NULL;
}

/* In a child of its own: the new process namespace begins with it. */
static void try_mounts(int out)
{
    char text[sizeof(((struct probe_rootless *)0)->failed)] = "";
    const char *what = mount_all();
    if (what)
        str_fmt(text, sizeof(text), "%s cannot be mounted: %s", what,
                strerrordesc_np(errno));
    _exit(write(out, text, sizeof(text)) == sizeof(text) ? 0 : 1);
}

static int mounts_of(struct probe_rootless *found, struct err *e)
{
    int pipe[2];
    if (unshare(CLONE_NEWPID | CLONE_NEWNET) < 0)
        return err_errno(e, "unsupported", "process and network namespaces");
    if (fd_pipe(pipe, e) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0)
        try_mounts(pipe[1]);
    fd_close(&pipe[1]);
    ssize_t n =
        fd_read_all(pipe[0], found->failed, sizeof(found->failed), NULL);
    fd_close(&pipe[0]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return n == (ssize_t)sizeof(found->failed)
               ? 0
               : err_set(e, "internal", "the trial was killed");
}

/* What newuidmap complains of is in why, too. */
static void be_silent(void)
{
    FD_AUTO int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null >= 0)
        (void)dup2(null, STDERR_FILENO);
}

static void enter_and_tell(int out)
{
    be_silent();
    struct report r = {.entered = false};
    struct rootless_ids ids;
    if (rootless_enter(r.found.why, sizeof(r.found.why), &r.err) == 0 &&
        mounts_of(&r.found, &r.err) == 0) {
        rootless_ids(&ids);
        r.found.grade = ids.grade;
        r.entered = true;
    }
    _exit(write(out, &r, sizeof(r)) == sizeof(r) ? 0 : 1);
}

int probe_rootless(struct probe_rootless *out, struct err *e)
{
    int pipe[2];
    struct report r;
    memset(&r, 0, sizeof(r));
    if (fd_pipe(pipe, e) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0)
        enter_and_tell(pipe[1]);
    fd_close(&pipe[1]);
    ssize_t n = fd_read_all(pipe[0], &r, sizeof(r), NULL);
    fd_close(&pipe[0]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (n != (ssize_t)sizeof(r))
        return err_set(e, "internal", "the trial was killed");
    if (!r.entered) {
        *e = r.err;
        return -1;
    }
    *out = r.found;
    return 0;
}

int probe_fs_type(const char *dir, char *name, size_t cap, struct err *e)
{
    static const struct {
        unsigned long magic;
        const char *name;
    } known[] = {{EXT4_SUPER_MAGIC, "ext4"},
                 {BTRFS_SUPER_MAGIC, "btrfs"},
                 {XFS_SUPER_MAGIC, "xfs"},
                 {TMPFS_MAGIC, "tmpfs"}};
    struct statfs s;
    if (statfs(dir, &s) < 0)
        return err_errno(e, NULL, "file system of %s", dir);
    for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
        if (known[i].magic == ((unsigned long)s.f_type & 0xffffffff)) {
            str_fmt(name, cap, "%s", known[i].name);
            return 0;
        }
    str_fmt(name, cap, "0x%lx", (unsigned long)s.f_type);
    return 0;
}
