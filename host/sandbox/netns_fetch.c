/* The engine's end of envd's hand-over of its network's own sockets: 8 bytes
 * "\0E2Bn" and zeros go there; a byte comes back with a bit for each socket
 * that comes along. What comes from a sandbox is looked at before it is used.
 */
#include "netns.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

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

static int await_answer(int sock, int timeout_ms, struct err *e)
{
    int r = fd_await(sock, clock_ms() + timeout_ms);
    if (r < 0)
        return err_errno(e, NULL, "wait for envd");
    return r > 0 ? 0
                 : err_set(e, "timeout",
                           "envd handed over no sockets within %d ms",
                           timeout_ms);
}

int netns_sockets_fetch(int dirfd, const char *name, int timeout_ms,
                        struct netns_sockets *s, struct err *e)
{
    static const char word[8] = {'\0', 'E', '2', 'B', 'n'};
    int fds[NETNS_SOCKETS], nfds = 0;
    unsigned char which = 0;
    netns_sockets_init(s);
    FD_AUTO int sock = fd_unix_connect(dirfd, name, e);
    if (sock < 0 ||
        fd_send(sock, word, sizeof(word), NULL, 0, e) != sizeof(word) ||
        await_answer(sock, timeout_ms, e) < 0)
        return -1;
    ssize_t n = fd_recv(sock, &which, 1, fds, NETNS_SOCKETS, &nfds, e);
    if (n == 1)
        return sort(s, which, fds, nfds, e);
    while (nfds > 0)
        fd_close(&fds[--nfds]);
    return n < 0 ? -1 : err_set(e, "network", "envd has closed its API socket");
}
