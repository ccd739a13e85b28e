/* The engine's end of envd's hand-over of its network's own sockets: 8 bytes
 * "\0E2Bn" and zeros go there; a byte comes back with a bit for each socket
 * that comes along, and the kernel says who sent it. What comes from a sandbox
 * is looked at before it is used. */
#include "netns.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static bool on_our_port(int fd, int family)
{
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof(a);
    if (getsockname(fd, (struct sockaddr *)&a, &n) < 0 || a.ss_family != family)
        return false;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a;
    if (family == AF_INET)
        return v4->sin_port == htons(NETNS_PORT) &&
               v4->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
    return v6->sin6_port == htons(NETNS_PORT) &&
           IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

/* Of the kind that netns_apply makes at this place, and never blocking. */
static bool fits(int fd, int which)
{
    int family =
        which == NETNS_TCP4 || which == NETNS_UDP4 ? AF_INET : AF_INET6;
    bool tcp = which == NETNS_TCP4 || which == NETNS_TCP6;
    int domain = 0, type = 0, listening = 0;
    socklen_t n = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) < 0)
        return false;
    int flags = fcntl(fd, F_GETFL);
    return domain == family && type == (tcp ? SOCK_STREAM : SOCK_DGRAM) &&
           (listening != 0) == tcp && flags >= 0 && (flags & O_NONBLOCK) &&
           on_our_port(fd, family);
}

static int sort(struct netns_sockets *s, unsigned which, int *fds, int nfds,
                struct err *e)
{
    int used = 0;
    bool good = true;
    for (int i = 0; i < NETNS_SOCKETS; i++)
        if (which & 1U << i) {
            s->fd[i] = used < nfds ? fds[used++] : -1;
            good = good && fits(s->fd[i], i);
        }
    good = good && used == nfds && !(which >> NETNS_SOCKETS);
    while (used < nfds)
        fd_close(&fds[used++]);
    if (!good) {
        netns_sockets_close(s);
        return err_set(e, "protocol",
                       "the sandbox handed over what are not the sockets of "
                       "its network");
    }
    if (s->fd[NETNS_TCP4] < 0 || s->fd[NETNS_UDP4] < 0)
        s->errnum = ENOTSUP;
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int await_answer(int sock, int timeout_ms, struct err *e)
{
    int64_t deadline = now_ms() + timeout_ms;
    for (;;) {
        int64_t left = deadline - now_ms();
        struct pollfd p = {.fd = sock, .events = POLLIN};
        int r = poll(&p, 1, left > 0 ? (int)left : 0);
        if (r > 0)
            return 0;
        if (r < 0 && errno != EINTR)
            return err_errno(e, NULL, "wait for envd");
        if (r == 0 && left <= 0)
            return err_set(e, "timeout",
                           "envd handed over no sockets within %d ms",
                           timeout_ms);
    }
}

static int ask(int dirfd, const char *name, struct err *e)
{
    static const char word[8] = {'\0', 'E', '2', 'B', 'n'};
    static const int on = 1;
    int sock = fd_unix_connect(dirfd, name, e);
    if (sock >= 0 &&
        setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0 &&
        fd_send(sock, word, sizeof(word), NULL, 0, e) == sizeof(word))
        return sock;
    fd_close(&sock);
    return -1;
}

struct answer {
    unsigned char which;
    int fds[NETNS_SOCKETS], nfds;
    pid_t from; /* 0: the kernel does not say */
};

static void take(struct answer *a, const struct cmsghdr *h)
{
    size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(h) + i * sizeof(fd), sizeof(fd));
        if (a->nfds < NETNS_SOCKETS)
            a->fds[a->nfds++] = fd;
        else
            fd_close(&fd);
    }
}

static void read_control(struct msghdr *m, struct answer *a)
{
    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
        if (h->cmsg_level != SOL_SOCKET)
            continue;
        if (h->cmsg_type == SCM_CREDENTIALS) {
            struct ucred who;
            memcpy(&who, CMSG_DATA(h), sizeof(who));
            a->from = who.pid;
        } else if (h->cmsg_type == SCM_RIGHTS) {
            take(a, h);
        }
    }
}

/* There is no room for more descriptors than these: the kernel closes them. */
static int hear(int sock, struct answer *a, struct err *e)
{
    union {
        char space[CMSG_SPACE(sizeof(a->fds)) +
                   CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = &a->which, .iov_len = 1};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = sizeof(control.space)};
    ssize_t n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0)
        return err_errno(e, NULL, "hear of envd");
    read_control(&m, a);
    if (n == 1)
        return 0;
    while (a->nfds > 0)
        fd_close(&a->fds[--a->nfds]);
    return err_set(e, "network", "envd has closed its API socket");
}

int netns_sockets_fetch(int dirfd, const char *name, int timeout_ms,
                        struct netns_sockets *s, struct err *e)
{
    struct answer a = {0};
    netns_sockets_init(s);
    FD_AUTO int sock = ask(dirfd, name, e);
    if (sock < 0 || await_answer(sock, timeout_ms, e) < 0 ||
        hear(sock, &a, e) < 0)
        return -1;
    return sort(s, a.which, a.fds, a.nfds, e);
}

int netns_sockets_holder(int dirfd, const char *name, int timeout_ms,
                         pid_t *pid, struct err *e)
{
    struct answer a = {0};
    FD_AUTO int sock = ask(dirfd, name, e);
    if (sock < 0 || await_answer(sock, timeout_ms, e) < 0 ||
        hear(sock, &a, e) < 0)
        return -1;
    while (a.nfds > 0)
        fd_close(&a.fds[--a.nfds]);
    if (a.from <= 0)
        return err_set(e, "internal", "nobody says who envd is");
    *pid = a.from;
    return 0;
}
