/* Descriptors. See fd.h. */
#include "fd.h"

#include "clock.h"
#include "path.h"
#include "str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

void fd_close(int *fd)
{
    if (*fd < 0)
        return;
    int saved = errno;
    close(*fd);
    errno = saved;
    *fd = -1;
}

int fd_take(int *fd)
{
    int out = *fd;
    *fd = -1;
    return out;
}

int fd_cloexec(int fd, bool on, struct err *e)
{
    if (fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) < 0)
        return err_errno(e, NULL, "close-on-exec of descriptor %d", fd);
    return 0;
}

int fd_nonblock(int fd, bool on, struct err *e)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return err_errno(e, NULL, "flags of descriptor %d", fd);
    int want = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    if (want != flags && fcntl(fd, F_SETFL, want) < 0)
        return err_errno(e, NULL, "nonblocking mode of descriptor %d", fd);
    return 0;
}

int fd_pipe(int fds[2], struct err *e)
{
    if (pipe2(fds, O_CLOEXEC) < 0)
        return err_errno(e, NULL, "pipe");
    return 0;
}

int fd_write_all(int fd, const void *p, size_t n, struct err *e)
{
    const char *s = p;
    while (n > 0) {
        ssize_t r = write(fd, s, n);
        if (r < 0) {
            if (errno == EINTR)
                continue;
            return err_errno(e, NULL, "write");
        }
        s += r;
        n -= (size_t)r;
    }
    return 0;
}

ssize_t fd_read_all(int fd, void *p, size_t n, struct err *e)
{
    char *s = p;
    size_t got = 0;
    while (got < n) {
        ssize_t r = read(fd, s + got, n - got);
        if (r < 0) {
            if (errno == EINTR)
                continue;
            return err_errno(e, NULL, "read");
        }
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return (ssize_t)got;
}

enum { MAX_PASSED = 32 };

union control {
    char space[CMSG_SPACE(sizeof(int) * MAX_PASSED)];
    struct cmsghdr align;
};

ssize_t fd_send(int sock, const void *p, size_t n, const int *fds, int nfds,
                struct err *e)
{
    union control c;
    struct iovec iov = {.iov_base = (void *)(size_t)p, .iov_len = n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (nfds < 0 || nfds > MAX_PASSED)
        return err_set(e, "internal", "cannot pass %d descriptors", nfds);
    if (nfds > 0) {
        memset(&c, 0, sizeof(c));
        m.msg_control = c.space;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)nfds);
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)nfds);
        memcpy(CMSG_DATA(h), fds, sizeof(int) * (size_t)nfds);
    }
    ssize_t r;
    do
        r = sendmsg(sock, &m, MSG_NOSIGNAL);
    while (r < 0 && errno == EINTR);
    return r < 0 ? err_errno(e, NULL, "sendmsg") : r;
}

static int take_fds(struct cmsghdr *h, int *fds, int max, int have)
{
    int got[MAX_PASSED];
    size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    if (count > MAX_PASSED)
        count = MAX_PASSED;
    memcpy(got, CMSG_DATA(h), count * sizeof(int));
    for (size_t i = 0; i < count; i++) {
        if (have < max)
            fds[have++] = got[i];
        else
            close(got[i]);
    }
    return have;
}

ssize_t fd_recv(int sock, void *p, size_t n, int *fds, int max, int *nfds,
                struct err *e)
{
    union control c;
    struct iovec iov = {.iov_base = p, .iov_len = n};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = c.space,
                       .msg_controllen = sizeof(c.space)};
    ssize_t r;
    *nfds = 0;
    do
        r = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return err_errno(e, NULL, "recvmsg");
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
            *nfds = take_fds(h, fds, max, *nfds);
    return r;
}

/* sockaddr_un holds 108 bytes; /proc/self/fd/N/name always fits. */
static int unix_below(char *dst, size_t cap, int dirfd, const char *name,
                      struct err *e)
{
    if (str_fmt(dst, cap, "/proc/self/fd/%d/%s", dirfd, name) < 0)
        return err_set(e, "invalid_argument", "socket name too long: %s", name);
    return 0;
}

int fd_unix_name(const char *path, char *dst, size_t cap, int *dirfd,
                 struct err *e)
{
    const char *slash = strrchr(path, '/');
    *dirfd = -1;
    if (str_fmt(dst, cap, "%s", path) == 0)
        return 0;
    char *parent = slash ? strndup(path, (size_t)(slash - path) + 1) : NULL;
    int fd = open(parent ? parent : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    free(parent);
    if (fd < 0)
        return err_errno(e, NULL, "folder of the socket %s", path);
    if (unix_below(dst, cap, fd, slash ? slash + 1 : path, e) < 0) {
        fd_close(&fd);
        return -1;
    }
    *dirfd = fd;
    return 0;
}

/* *owned is to be closed when the address has been used. */
static int unix_addr(struct sockaddr_un *a, int dirfd, const char *name,
                     int *owned, struct err *e)
{
    *a = (struct sockaddr_un){.sun_family = AF_UNIX};
    *owned = -1;
    if (dirfd == AT_FDCWD)
        return fd_unix_name(name, a->sun_path, sizeof(a->sun_path), owned, e);
    return unix_below(a->sun_path, sizeof(a->sun_path), dirfd, name, e);
}

static int unix_socket(struct sockaddr_un *a, int dirfd, const char *name,
                       int *owned, struct err *e)
{
    if (unix_addr(a, dirfd, name, owned, e) < 0)
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, NULL, "unix socket");
    return fd;
}

int fd_unix_listen(int dirfd, const char *name, mode_t mode, struct err *e)
{
    struct sockaddr_un a;
    FD_AUTO int folder = -1;
    FD_AUTO int fd = unix_socket(&a, dirfd, name, &folder, e);
    if (fd < 0)
        return -1;
    if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
        return err_errno(e, NULL, "remove old socket %s", name);
    /* fchmod before bind: the name must never be open wider than mode. */
    if (fchmod(fd, mode) < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        return err_errno(e, NULL, "bind socket %s", name);
    if (fchmodat(dirfd, name, mode, 0) < 0 || listen(fd, 512) < 0)
        return err_errno(e, NULL, "listen on socket %s", name);
    return fd_take(&fd);
}

int fd_unix_connect(int dirfd, const char *name, struct err *e)
{
    struct sockaddr_un a;
    FD_AUTO int folder = -1;
    FD_AUTO int fd = unix_socket(&a, dirfd, name, &folder, e);
    if (fd < 0)
        return -1;
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
        return err_errno(e, "network", "connect to socket %s", name);
    return fd_take(&fd);
}

int fd_memfd_sealed(const char *name, const void *p, size_t n, struct err *e)
{
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    FD_AUTO int fd = memfd_create(name, flags | MFD_EXEC);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, flags);
    if (fd < 0)
        return err_errno(e, NULL, "memfd %s", name);
    if (fd_write_all(fd, p, n, e) < 0)
        return err_wrap(e, "memfd %s", name);
    if (fchmod(fd, 0755) < 0 ||
        fcntl(fd, F_ADD_SEALS,
              F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        return err_errno(e, NULL, "seal memfd %s", name);
    return fd_take(&fd);
}

int fd_await(int fd, int64_t deadline)
{
    for (;;) {
        int64_t left = deadline - clock_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int r = poll(&p, 1, left > 0 ? (int)left : 0);
        if (r > 0)
            return 1;
        if (r < 0 && errno != EINTR)
            return -1;
        if (r == 0 && left <= 0)
            return 0;
    }
}

bool fd_room(int n, int *open, int *limit)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur > INT_MAX)
        return true;
    int max = (int)r.rlim_cur, have = 0;
    /* The lowest free number is always taken: with those above free, there is
     * room. They are taken at most after a peak, and then we count. */
    int probe = max > n ? fcntl(0, F_DUPFD_CLOEXEC, max - n) : -1;
    bool room = probe == max - n;
    fd_close(&probe);
    if (!room) {
        have = path_count(AT_FDCWD, "/proc/self/fd") - 1; /* its own */
        /* Without a descriptor to count by there is no room either. */
        room = have >= 0 && have <= max - n;
        have = have < 0 ? max : have;
    }
    if (open)
        *open = have;
    if (limit)
        *limit = max;
    return room;
}
