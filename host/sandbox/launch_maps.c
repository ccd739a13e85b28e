/* The parent's work between clone and release: the trees of the root. */
#include "launch_plan.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif

/* Owned by the sandbox's root, who otherwise finds itself locked out. */
static int give(int dir, const char *name, int flags,
                const struct rootless_ids *ids, struct err *e)
{
    if (ids->idmap || fchownat(dir, name, ids->first, ids->first, flags) == 0)
        return 0;
    return err_errno(e, NULL, "owner of the upper folder %s", name);
}

static int make_folder(int dir, const char *name,
                       const struct rootless_ids *ids, struct err *e)
{
    if (mkdirat(dir, name, 0755) == 0) {
        if (give(dir, name, AT_SYMLINK_NOFOLLOW, ids, e) < 0)
            return -1;
        /* whatever the caller's umask: u becomes the root's own mode */
        return fchmodat(dir, name, 0755, 0) < 0
                   ? err_errno(e, NULL, "mode of the upper folder %s", name)
                   : 0;
    }
    if (errno != EEXIST)
        return err_errno(e, NULL, "cannot make the upper folder %s", name);
    return 0;
}

/* Takes fd, returns it or -1. userns -1: it stays as it is on disk. */
static int idmap(int fd, int userns, struct err *e)
{
    if (userns < 0)
        return fd;
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP,
                              .userns_fd = (uint64_t)userns};
    if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) <
        0) {
        err_errno(e, "unsupported",
                  "its file system cannot be idmapped (ext4, xfs, btrfs and "
                  "tmpfs can; set E2BLUA_HOME and E2BLUA_CACHE)");
        fd_close(&fd);
    }
    return fd;
}

static int clone_tree(int dir, int userns, struct err *e)
{
    int fd = (int)syscall(SYS_open_tree, dir, "",
                          AT_EMPTY_PATH | OPEN_TREE_CLONE | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "internal", "open_tree of descriptor %d", dir);
    return idmap(fd, userns, e);
}

/* A detached mount is taken as it is: before Linux 6.15 it cannot be cloned. */
static int take_mount(int mount, int userns, struct err *e)
{
    int fd = fcntl(mount, F_DUPFD_CLOEXEC, 3);
    if (fd < 0)
        return err_errno(e, "internal", "duplicate descriptor %d", mount);
    return idmap(fd, userns, e);
}

static int open_userns(const struct rootless_ids *ids, pid_t pid, int *fd,
                       struct err *e)
{
    char path[48];
    *fd = -1;
    if (!ids->idmap)
        return 0;
    str_fmt(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    return *fd < 0 ? err_errno(e, "internal", "%s", path) : 0;
}

int launch_maps_trees(const struct launch_plan *p, pid_t pid, int *trees,
                      struct err *e)
{
    const struct launcher_spec *s = p->spec;
    FD_AUTO int userns = -1;
    for (int i = 0; i <= s->nlayers; i++)
        trees[i] = -1;
    if (open_userns(&p->ids, pid, &userns, e) < 0 ||
        make_folder(s->upper_fd, "u", &p->ids, e) ||
        make_folder(s->upper_fd, "w", &p->ids, e) ||
        give(s->upper_fd, "", AT_EMPTY_PATH, &p->ids, e))
        return -1;
    for (int i = 0; i < s->nlayers; i++)
        if ((trees[i] = clone_tree(s->layers[i], userns, e)) < 0)
            return err_wrap(e, "layer %d", i);
    trees[s->nlayers] = s->upper_detached ? take_mount(s->upper_fd, userns, e)
                                          : clone_tree(s->upper_fd, userns, e);
    return trees[s->nlayers] < 0 ? err_wrap(e, "upper folder") : 0;
}

int launch_maps_send(int sock, const int *trees, int n, struct err *e)
{
    union {
        char space[CMSG_SPACE(sizeof(int) * LAUNCH_TREES)];
        struct cmsghdr align;
    } c;
    char go = 'g';
    struct iovec iov = {.iov_base = &go, .iov_len = 1};
    size_t bytes = sizeof(int) * (size_t)n;
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = c.space,
                       .msg_controllen = CMSG_SPACE(bytes)};
    memset(&c, 0, sizeof(c));
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(h), trees, bytes);
    ssize_t r;
    do
        r = sendmsg(sock, &m, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    return r < 0 ? err_errno(e, "internal", "release of the child") : 0;
}
