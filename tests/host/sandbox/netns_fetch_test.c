/* The sockets of a sandbox's network come back from its envd, and what else
 * might come from there is refused. The far end is a child of this test, in a
 * network namespace of its own. */
#include "sandbox/netns.h"

#include "base/fd.h"
#include "base/path.h"
#include "ctest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WAIT_MS = 5000, SHORT_MS = 300 };

/* What the far end answers: the byte, and which of its sockets in this order,
 * -1 at the end; '!' blocking, 'p' a pipe, 'o' a listener on another port. */
struct answer {
    const char *fds; /* digits of NETNS_*, or the letters above */
    unsigned char which;
    bool silent, hangs_up;
};

static int other_listener(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(8080),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 4) < 0)
        _exit(4);
    return fd;
}

static int one(const struct netns_sockets *s, char c)
{
    int fds[2];
    if (c == 'p')
        return pipe(fds) < 0 ? -1 : fds[0];
    if (c == 'o')
        return other_listener();
    if (c == '!') {
        (void)fcntl(s->fd[NETNS_TCP4], F_SETFL, 0);
        return s->fd[NETNS_TCP4];
    }
    return s->fd[c - '0'];
}

static void make_network(struct netns_sockets *s)
{
    struct netns_plan plan;
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    netns_plan_make(&plan);
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        _exit(1);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (ioctl(fd, SIOCSIFFLAGS, &lo) < 0 || netns_apply(&plan, s) < 0)
        _exit(2);
    close(fd);
}

static void far_end(int listener, const struct answer *a)
{
    static const char want[8] = {'\0', 'E', '2', 'B', 'n'};
    struct netns_sockets s;
    struct err e = {0};
    char word[8];
    int fds[8], n = 0;
    make_network(&s);
    int c = accept(listener, NULL, NULL);
    if (recv(c, word, sizeof(word), MSG_WAITALL) != sizeof(word) ||
        memcmp(word, want, sizeof(want)) != 0)
        _exit(3);
    for (const char *p = a->fds; *p; p++)
        fds[n++] = one(&s, *p);
    if (!a->silent && !a->hangs_up && fd_send(c, &a->which, 1, fds, n, &e) != 1)
        _exit(5);
    if (a->hangs_up)
        close(c);
    pause();
}

static int open_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static struct {
    char dir[32];
    int dirfd;
    pid_t child;
} rig;

static int setup(void **state)
{
    (void)state;
    strcpy(rig.dir, "/tmp/e2b-fetch-XXXXXX");
    if (!mkdtemp(rig.dir))
        return -1;
    rig.dirfd = open(rig.dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return rig.dirfd < 0 ? -1 : 0;
}

static void end_child(void)
{
    int status;
    if (rig.child > 0) {
        kill(rig.child, SIGKILL);
        assert_int_equal(waitpid(rig.child, &status, 0), rig.child);
        assert_true(WIFSIGNALED(status)); /* it did not exit by itself */
    }
    rig.child = 0;
}

static int teardown(void **state)
{
    (void)state;
    close(rig.dirfd);
    return path_remove_tree(AT_FDCWD, rig.dir, NULL);
}

static int fetch(const struct answer *a, int timeout_ms,
                 struct netns_sockets *s, struct err *e)
{
    int listener = fd_unix_listen(rig.dirfd, "s", 0600, e);
    assert_true(listener >= 0);
    assert_int_equal(fd_nonblock(listener, false, e), 0);
    rig.child = fork();
    if (rig.child == 0) {
        far_end(listener, a);
        _exit(9);
    }
    close(listener);
    int r = netns_sockets_fetch(rig.dirfd, "s", timeout_ms, s, e);
    unlinkat(rig.dirfd, "s", 0);
    return r;
}

/* The listener is the one of that namespace: it works without its maker. */
static void comes_back(void **state)
{
    (void)state;
    struct netns_sockets s;
    struct err e = {0};
    bool v6 = access("/proc/net/if_inet6", F_OK) == 0;
    struct answer a = {.fds = v6 ? "0123" : "01", .which = v6 ? 15 : 3};
    if (fetch(&a, WAIT_MS, &s, &e) < 0)
        fail_msg("%s", e.msg);
    end_child();
    assert_int_equal(s.errnum, 0);
    for (int i = 0; i < NETNS_SOCKETS; i++)
        assert_int_equal(s.fd[i] >= 0, v6 || i <= NETNS_UDP4);
    assert_true(fcntl(s.fd[NETNS_TCP4], F_GETFD) & FD_CLOEXEC);
    assert_int_equal(accept(s.fd[NETNS_TCP4], NULL, NULL), -1);
    assert_int_equal(errno, EAGAIN);
    netns_sockets_close(&s);
}

static void without_network(void **state)
{
    (void)state;
    struct netns_sockets s;
    struct err e = {0};
    struct answer a = {.fds = "", .which = 0};
    assert_int_equal(fetch(&a, WAIT_MS, &s, &e), 0);
    assert_int_equal(s.errnum, ENOTSUP);
    assert_int_equal(s.fd[NETNS_TCP4], -1);
    end_child();
}

static void strangers(void **state)
{
    (void)state;
    static const struct answer rows[] = {
        {.fds = "10", .which = 3},     /* each of the wrong kind */
        {.fds = "p1", .which = 3},     /* no socket */
        {.fds = "o1", .which = 3},     /* another port */
        {.fds = "!1", .which = 3},     /* would block the engine */
        {.fds = "0", .which = 3},      /* fewer than it says */
        {.fds = "01p", .which = 3},    /* more than it says */
        {.fds = "01ppp", .which = 3},  /* more than there can be */
        {.fds = "01", .which = 3 + 64} /* no such socket */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct netns_sockets s;
        struct err e = {0};
        int before = open_fds();
        if (fetch(&rows[i], WAIT_MS, &s, &e) != -1)
            fail_msg("row %zu was taken", i);
        assert_string_equal(e.kind, "protocol");
        assert_int_equal(open_fds(), before);
        for (int k = 0; k < NETNS_SOCKETS; k++)
            assert_int_equal(s.fd[k], -1);
        end_child();
    }
}

static void no_answer(void **state)
{
    (void)state;
    struct netns_sockets s;
    struct err e = {0};
    struct answer silent = {.fds = "", .silent = true};
    struct answer gone = {.fds = "", .hangs_up = true};
    assert_int_equal(fetch(&silent, SHORT_MS, &s, &e), -1);
    assert_string_equal(e.kind, "timeout");
    assert_non_null(strstr(e.msg, "300 ms"));
    end_child();
    assert_int_equal(fetch(&gone, WAIT_MS, &s, &e), -1);
    assert_string_equal(e.kind, "network");
    end_child();
    assert_int_equal(netns_sockets_fetch(rig.dirfd, "none", 100, &s, &e), -1);
    assert_non_null(strstr(e.msg, "none"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
static const struct CMUnitTest tests[] = {T(comes_back), T(without_network),
                                          T(strangers), T(no_answer)};
RUN(tests)
