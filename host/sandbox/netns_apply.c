/* What the child does with the plan of netns.c: system calls only. */
#include "netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { ANSWER_S = 5, BACKLOG = 512 };

void netns_sockets_init(struct netns_sockets *s)
{
    for (int i = 0; i < NETNS_SOCKETS; i++)
        s->fd[i] = -1;
    s->errnum = 0;
}

void netns_sockets_close(struct netns_sockets *s)
{
    int saved = errno;
    for (int i = 0; i < NETNS_SOCKETS; i++)
        if (s->fd[i] >= 0)
            close(s->fd[i]);
    netns_sockets_init(s);
    errno = saved;
}

/* ---- netlink --------------------------------------------------------------
 */

/* 1: the message of that number is done, 0: nothing of it here, -1: errno. */
static int find_ack(const char *p, size_t n, uint32_t seq)
{
    while (n >= sizeof(struct nlmsghdr)) {
        struct nlmsghdr h;
        struct nlmsgerr m;
        memcpy(&h, p, sizeof(h));
        size_t len = NLMSG_ALIGN(h.nlmsg_len);
        if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > n)
            return 0;
        if (h.nlmsg_type == NLMSG_ERROR &&
            h.nlmsg_len >= NLMSG_LENGTH(sizeof(m))) {
            memcpy(&m, p + NLMSG_HDRLEN, sizeof(m));
            if (m.error) {
                errno = -m.error;
                return -1;
            }
            if (h.nlmsg_seq == seq)
                return 1;
        }
        p += len < n ? len : n;
        n -= len < n ? len : n;
    }
    return 0;
}

static int wait_ack(int fd, uint32_t seq)
{
    char answer[8192];
    for (;;) {
        ssize_t n = recv(fd, answer, sizeof(answer), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        int found = find_ack(answer, (size_t)n, seq);
        if (found)
            return found > 0 ? 0 : -1;
    }
}

static int open_netlink(int family)
{
    struct timeval t = {.tv_sec = ANSWER_S};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int talk(int fd, const void *p, size_t n, uint32_t seq)
{
    static const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    if (sendto(fd, p, n, 0, (const struct sockaddr *)&kernel, sizeof(kernel)) !=
        (ssize_t)n)
        return -1;
    return wait_ack(fd, seq);
}

static void close_keeping_errno(int fd)
{
    int saved = errno;
    close(fd);
    errno = saved;
}

static int send_rules(const struct netns_plan *p)
{
    int fd = open_netlink(NETLINK_NETFILTER);
    if (fd < 0)
        return -1;
    int rc = talk(fd, p->rules, p->rules_len, p->rules_last);
    close_keeping_errno(fd);
    return rc;
}

/* Address and routes of one family. */
static int send_links(const struct netns_plan *p, int first, int end)
{
    int fd = open_netlink(NETLINK_ROUTE), rc = 0;
    if (fd < 0)
        return -1;
    for (int i = first; rc == 0 && i < end; i++)
        rc = talk(fd, p->links[i], p->links_len[i], (uint32_t)i + 1);
    close_keeping_errno(fd);
    return rc;
}

/* ---- sockets --------------------------------------------------------------
 */

static int bind_loopback(int fd, int family)
{
    if (family == AF_INET) {
        struct sockaddr_in a = {.sin_family = AF_INET,
                                .sin_port = htons(NETNS_PORT),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        return bind(fd, (struct sockaddr *)&a, sizeof(a));
    }
    struct sockaddr_in6 a = {.sin6_family = AF_INET6,
                             .sin6_port = htons(NETNS_PORT),
                             .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    return bind(fd, (struct sockaddr *)&a, sizeof(a));
}

static int open_socket(int family, int type)
{
    int one = 1;
    int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if ((family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) ||
        bind_loopback(fd, family) < 0 ||
        (type == SOCK_STREAM && listen(fd, BACKLOG) < 0)) {
        close_keeping_errno(fd);
        return -1;
    }
    return fd;
}

static int open_pair(struct netns_sockets *s, int tcp, int udp, int family)
{
    s->fd[tcp] = open_socket(family, SOCK_STREAM);
    s->fd[udp] = s->fd[tcp] < 0 ? -1 : open_socket(family, SOCK_DGRAM);
    return s->fd[udp] < 0 ? -1 : 0;
}

int netns_apply(const struct netns_plan *p, struct netns_sockets *s)
{
    netns_sockets_init(s);
    if (send_rules(p) < 0 ||
        open_pair(s, NETNS_TCP4, NETNS_UDP4, AF_INET) < 0 ||
        send_links(p, 0, NETNS_LINKS4) < 0) {
        netns_sockets_close(s);
        return -1;
    }
    if (open_pair(s, NETNS_TCP6, NETNS_UDP6, AF_INET6) < 0 ||
        send_links(p, NETNS_LINKS4, NETNS_LINKS) < 0)
        for (int i = NETNS_TCP6; i <= NETNS_UDP6; i++)
            if (s->fd[i] >= 0) {
                close(s->fd[i]);
                s->fd[i] = -1;
            }
    return 0;
}
