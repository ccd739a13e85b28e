/* proc and sysfs for a child that may not mount them: made by a process that
 * has joined the child's pid and network namespaces, but not its user one. */
#include "launch_plan.h"

#include <errno.h>
#include <linux/mount.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int make_mount(const char *type, unsigned attributes)
{
    int fs = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
    if (fs < 0)
        return -1;
    int mount = -1;
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
    int saved = errno;
    close(fs);
    errno = saved;
    return mount;
}

/* In the child's namespaces. */
static int make_and_send(int sock)
{
    const unsigned quiet =
        MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    int mounts[2];
    if ((mounts[0] = make_mount("proc", quiet)) < 0 ||
        (mounts[1] = make_mount("sysfs", quiet | MOUNT_ATTR_RDONLY)) < 0)
        return errno;
    return launch_maps_send(sock, mounts, 2, NULL) < 0 ? EPIPE : 0;
}

/* Waits for a process of ours; its exit status is an errno. */
static int reap(pid_t pid)
{
    int status = 0;
    pid_t r;
    do
        r = waitpid(pid, &status, 0);
    while (r < 0 && errno == EINTR);
    return r == pid && WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

/* A pid namespace is entered by the next child only. */
static int join(int sock, int pidfd)
{
    if (setns(pidfd, CLONE_NEWPID | CLONE_NEWNET) < 0)
        return errno;
    pid_t pid = fork();
    if (pid == 0)
        _exit(make_and_send(sock));
    return pid < 0 ? errno : reap(pid);
}

int launch_mounts_send(int sock, int pidfd, struct err *e)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t pid = fork();
    if (pid == 0)
        _exit(join(sock, pidfd));
    int saved = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = pid < 0 ? saved : reap(pid);
    if (errno != 0)
        return err_errno(e, "unsupported",
                         "proc and sysfs cannot be mounted here (run e2blua "
                         "on the machine itself or in a container with "
                         "CAP_SYS_ADMIN)");
    return 0;
}
