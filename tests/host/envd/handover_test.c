/* What the engine may ask envd for before HTTP begins: fresh sockets, and
 * copies of those that its network comes to. The server runs in a thread. */
#include "envd/handover.h"

#include "base/fd.h"
#include "ctest.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WAIT_MS = 5000 };

static struct {
    struct loop *loop;
    struct handover_server *server;
    pthread_t thread;
    int net[4], mine, stop[2];
    bool served; /* as HTTP */
} rig;

static void serve(void *arg, int fd)
{
    (void)arg;
    rig.served = true;
    close(fd);
}

static void on_stop(void *arg, unsigned events)
{
    (void)arg;
    (void)events;
    loop_stop(rig.loop);
}

static void *run(void *arg)
{
    loop_run(rig.loop);
    return arg;
}

/* A network of three sockets, with a gap, and one client connected. */
static int setup(void **state)
{
    (void)state;
    struct err e = {0};
    int pair[2];
    rig.served = false;
    rig.loop = loop_new(&e);
    for (int i = 0; i < 4; i++)
        rig.net[i] =
            i == 2 ? -1 : socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    rig.server = handover_server_new(rig.loop, serve, NULL);
    handover_server_net(rig.server, rig.net, 4);
    if (fd_pipe(rig.stop, &e) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    rig.mine = pair[0];
    handover_server_take(rig.server, pair[1]);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        fd_close(&rig.net[i]);
    fd_close(&rig.mine);
    fd_close(&rig.stop[0]);
    fd_close(&rig.stop[1]);
    return 0;
}

/* Sends the question; -1: hung up. Else the byte of the answer. */
static int ask(const char *word, int *fds, int *nfds)
{
    struct err e = {0};
    unsigned char answer = 0;
    struct loop_watch *w =
        loop_watch(rig.loop, rig.stop[0], LOOP_READ, on_stop, NULL, &e);
    assert_int_equal(send(rig.mine, word, 8, MSG_NOSIGNAL), 8);
    assert_int_equal(pthread_create(&rig.thread, NULL, run, NULL), 0);
    struct pollfd p = {.fd = rig.mine, .events = POLLIN};
    int ready = poll(&p, 1, WAIT_MS);
    ssize_t n =
        ready == 1 ? fd_recv(rig.mine, &answer, 1, fds, 8, nfds, &e) : 0;
    assert_int_equal(write(rig.stop[1], "x", 1), 1);
    pthread_join(rig.thread, NULL);
    loop_watch_stop(w);
    handover_server_free(rig.server);
    loop_turn(rig.loop, 0);
    loop_free(rig.loop);
    assert_int_equal(ready, 1);
    return n == 1 ? answer : -1;
}

static ino_t file_of(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return st.st_ino;
}

static void gives_the_network(void **state)
{
    (void)state;
    int fds[8], n = 0;
    assert_int_equal(ask("\0E2Bn\0\0", fds, &n), 1 + 2 + 8);
    assert_int_equal(n, 3);
    static const int order[] = {0, 1, 3};
    for (int i = 0; i < n; i++) {
        assert_int_equal(file_of(fds[i]), file_of(rig.net[order[i]]));
        close(fds[i]);
    }
    assert_false(rig.served);
}

static void gives_fresh_ones(void **state)
{
    (void)state;
    int fds[8], n = 0;
    assert_int_equal(ask("\0E2B4\2\0", fds, &n), 'k');
    assert_int_equal(n, 2);
    for (int i = 0; i < n; i++)
        close(fds[i]);
}

static void hangs_up(const char *word)
{
    int fds[8], n = 0;
    assert_int_equal(ask(word, fds, &n), -1);
    assert_int_equal(n, 0);
    assert_false(rig.served);
}

static void a_network_has_no_count(void **state)
{
    (void)state;
    hangs_up("\0E2Bn\1\0");
}

static void no_such_question(void **state)
{
    (void)state;
    hangs_up("\0E2Bx\1\0");
}

static void too_many(void **state)
{
    (void)state;
    hangs_up("\0E2B4\377\0");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
static const struct CMUnitTest tests[] = {
    T(gives_the_network), T(gives_fresh_ones), T(a_network_has_no_count),
    T(no_such_question), T(too_many)};
RUN(tests)
