/* The parent's work between clone and release: id maps, idmapped trees. */
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

static int write_map(pid_t pid, const char *file, struct err *e)
{
    char path[48], map[48];
    str_fmt(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    str_fmt(map, sizeof(map), "0 %d %d\n", (int)LAUNCHER_ID_BASE,
            (int)LAUNCHER_ID_COUNT);
    FD_AUTO int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "internal", "%s", path);
    return fd_write_all(fd, map, strlen(map), e) ? err_wrap(e, "%s", file) : 0;
}

int launch_maps_write(pid_t pid, struct err *e)
{
    return write_map(pid, "uid_map", e) || write_map(pid, "gid_map", e) ? -1
                                                                        : 0;
}

static int make_folder(int dir, const char *name, struct err *e)
{
    if (mkdirat(dir, name, 0755) == 0)
        /* whatever the caller's umask: u becomes the root's own mode */
        return fchmodat(dir, name, 0755, 0) < 0
                   ? err_errno(e, NULL, "mode of the upper folder %s", name)
                   : 0;
    if (errno != EEXIST)
        return err_errno(e, NULL, "cannot make the upper folder %s", name);
    return 0;
}

/* Takes fd, returns it or -1. */
static int idmap(int fd, int userns, struct err *e)
{
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

int launch_maps_trees(const struct launcher_spec *s, pid_t pid, int *trees,
                      struct err *e)
{
    char path[48];
    for (int i = 0; i <= s->nlayers; i++)
        trees[i] = -1;
    str_fmt(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    FD_AUTO int userns = open(path, O_RDONLY | O_CLOEXEC);
    if (userns < 0)
        return err_errno(e, "internal", "%s", path);
    if (make_folder(s->upper_fd, "u", e) || make_folder(s->upper_fd, "w", e))
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
