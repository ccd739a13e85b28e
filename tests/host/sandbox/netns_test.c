/* The rule set at work in a network namespace of this test's own. */
#include "sandbox/netns.h"

#include "base/fd.h"
#include "ctest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef IP6T_SO_ORIGINAL_DST
#define IP6T_SO_ORIGINAL_DST 80
#endif

enum { WAIT_MS = 2000 };

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } u;
    socklen_t len;
};

static struct address address(const char *ip, int port)
{
    struct address a = {.len = sizeof(a.u.v4)};
    a.u.v4.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, ip, &a.u.v4.sin_addr) == 1) {
        a.u.v4.sin_family = AF_INET;
        return a;
    }
    a.len = sizeof(a.u.v6);
    a.u.v6.sin6_family = AF_INET6;
    a.u.v6.sin6_port = htons((uint16_t)port);
    if (inet_pton(AF_INET6, ip, &a.u.v6.sin6_addr) != 1)
        _exit(99);
    return a;
}

static int open_socket(const struct address *a, int type)
{
    return socket(a->u.any.sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static int accept_from(int listener)
{
    struct pollfd p = {.fd = listener, .events = POLLIN};
    return poll(&p, 1, WAIT_MS) == 1 ? accept(listener, NULL, NULL) : -1;
}

/* What a connection to ip is seen as by the listener. */
static int check_tcp(const struct netns_sockets *s, const char *ip, int port)
{
    struct address a = address(ip, port), got = {.len = sizeof(got.u)};
    bool v4 = a.u.any.sa_family == AF_INET;
    int fd = open_socket(&a, SOCK_STREAM);
    if (connect(fd, &a.u.any, a.len) < 0 && errno != EINPROGRESS)
        return 10;
    int there = accept_from(s->fd[v4 ? NETNS_TCP4 : NETNS_TCP6]);
    if (there < 0)
        return 11;
    if (getsockopt(there, v4 ? IPPROTO_IP : IPPROTO_IPV6,
                   v4 ? SO_ORIGINAL_DST : IP6T_SO_ORIGINAL_DST, &got.u,
                   &got.len) < 0)
        return 12;
    close(there);
    close(fd);
    if (v4)
        return got.u.v4.sin_port == a.u.v4.sin_port &&
                       got.u.v4.sin_addr.s_addr == a.u.v4.sin_addr.s_addr
                   ? 0
                   : 13;
    return got.u.v6.sin6_port == a.u.v6.sin6_port &&
                   memcmp(&got.u.v6.sin6_addr, &a.u.v6.sin6_addr, 16) == 0
               ? 0
               : 14;
}

static int check_udp(const struct netns_sockets *s, const char *ip)
{
    struct address a = address(ip, 53), from = {.len = sizeof(from.u)};
    char b[16];
    int there = s->fd[a.u.any.sa_family == AF_INET ? NETNS_UDP4 : NETNS_UDP6];
    int fd = open_socket(&a, SOCK_DGRAM);
    struct pollfd p = {.fd = there, .events = POLLIN};
    if (connect(fd, &a.u.any, a.len) < 0 || send(fd, "ask", 3, 0) != 3)
        return 20;
    if (poll(&p, 1, WAIT_MS) != 1 ||
        recvfrom(there, b, sizeof(b), 0, &from.u.any, &from.len) != 3)
        return 21;
    /* A connected socket takes the answer only from the address it asked. */
    if (sendto(there, "say", 3, 0, &from.u.any, from.len) != 3)
        return 22;
    p.fd = fd;
    if (poll(&p, 1, WAIT_MS) != 1 || recv(fd, b, sizeof(b), 0) != 3)
        return 23;
    close(fd);
    return 0;
}

/* Fails at once, does not vanish. */
static int check_refused(const char *ip, int port, int type)
{
    struct address a = address(ip, port);
    int fd = open_socket(&a, type);
    int rc = connect(fd, &a.u.any, a.len);
    if (rc == 0)
        rc = (int)send(fd, "x", 1, 0);
    close(fd);
    return rc < 0 && errno != EINPROGRESS ? 0 : 30;
}

/* A service on an address of the sandbox is reached directly. */
static int check_own(const char *ip)
{
    struct address a = address(ip, 8080);
    int fd = open_socket(&a, SOCK_STREAM), to = open_socket(&a, SOCK_STREAM);
    if (bind(fd, &a.u.any, a.len) < 0 || listen(fd, 4) < 0)
        return 40;
    if (connect(to, &a.u.any, a.len) < 0 && errno != EINPROGRESS)
        return 41;
    int there = accept_from(fd);
    close(there);
    close(to);
    close(fd);
    return there < 0 ? 42 : 0;
}

static int raise_loopback(void)
{
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc = ioctl(fd, SIOCSIFFLAGS, &r);
    close(fd);
    return rc;
}

static int inside(void)
{
    struct netns_plan plan;
    struct netns_sockets s;
    int rc = 0;
    netns_plan_make(&plan);
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0 || raise_loopback() < 0)
        return 1;
    if (check_refused("198.51.100.1", 443, SOCK_STREAM))
        return 2; /* closed before */
    if (netns_apply(&plan, &s) < 0)
        return 3;
    const char *const own[] = {"127.0.0.1", NETNS_SELF4};
    for (int i = 0; !rc && i < 2; i++)
        rc = check_own(own[i]);
    rc = rc ? rc : check_tcp(&s, "198.18.0.1", 443);
    rc = rc ? rc : check_tcp(&s, "203.0.113.9", 53);
    rc = rc ? rc : check_udp(&s, NETNS_DNS4);
    rc = rc ? rc : check_udp(&s, "8.8.8.8");
    rc = rc ? rc : check_refused("8.8.8.8", 443, SOCK_DGRAM);
    rc = rc ? rc : check_refused("224.0.0.251", 5353, SOCK_DGRAM);
    bool v6 = access("/proc/net/if_inet6", F_OK) == 0;
    if (v6 != (s.fd[NETNS_TCP6] >= 0))
        rc = rc ? rc : 4;
    if (v6) {
        rc = rc ? rc : check_own("::1");
        rc = rc ? rc : check_own(NETNS_SELF6);
        rc = rc ? rc : check_tcp(&s, "2001:db8::1", 443);
        rc = rc ? rc : check_udp(&s, "2001:db8::53");
        rc = rc ? rc : check_refused("2001:db8::1", 443, SOCK_DGRAM);
    }
    netns_sockets_close(&s);
    return rc;
}

static void redirects(void **state)
{
    int status = -1;
    (void)state;
    pid_t pid = fork();
    if (pid == 0)
        _exit(inside());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void plan_fits(void **state)
{
    struct netns_plan p;
    (void)state;
    netns_plan_make(&p);
    assert_in_range(p.rules_len, 1000, sizeof(p.rules) - 1024);
    for (int i = 0; i < NETNS_LINKS; i++)
        assert_in_range(p.links_len[i], 20, sizeof(p.links[i]) - 16);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(plan_fits),
    cmocka_unit_test(redirects),
};
RUN(tests)
