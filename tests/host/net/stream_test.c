/* host/net/core/stream.c and socket.c: back-pressure, ends, failures. */
#include "base/fd.h"
#include "ctest.h"
#include "net/core/stream.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct end {
    struct stream *s;
    size_t bytes;
    int drained, eof, failed;
    bool close_on_read;
};

static void on_read(void *arg, const char *p, long n, const struct err *e)
{
    struct end *x = arg;
    (void)p;
    if (n > 0)
        x->bytes += (size_t)n;
    else if (n == 0)
        x->eof++;
    else {
        assert_string_equal(e->kind, "network");
        x->failed++;
    }
    if (x->close_on_read) {
        stream_close(x->s, false);
        x->s = NULL;
    }
}

static void on_drain(void *arg)
{
    ((struct end *)arg)->drained++;
}

static void on_fail(void *arg, const struct err *e)
{
    assert_string_equal(e->kind, "network");
    ((struct end *)arg)->failed++;
}

static const struct stream_ops ops = {on_read, on_drain, on_fail};

static struct loop *pair(struct end *a, struct end *b)
{
    struct err e;
    int s[2];
    struct loop *l = loop_new(&e);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    *a = *b = (struct end){0};
    a->s = stream_new(l, s[0], &ops, a, &e);
    b->s = stream_new(l, s[1], &ops, b, &e);
    assert_true(a->s && b->s);
    return l;
}

static void back_pressure(void **state)
{
    (void)state;
    static char piece[100000];
    struct end a, b;
    struct loop *l = pair(&a, &b);
    size_t sent = 0;
    while (stream_queued(a.s) <= STREAM_HIGH) {
        stream_write(a.s, piece, sizeof(piece));
        sent += sizeof(piece);
    }
    for (int i = 0; i < 5; i++)
        loop_turn(l, 1);
    assert_true(a.drained == 0 && b.bytes == 0); /* nobody reads yet */
    stream_shutdown(a.s);
    stream_read(b.s, true);
    for (int i = 0; i < 1000 && !b.eof; i++)
        loop_turn(l, 100);
    assert_int_equal(b.bytes, sent);
    assert_int_equal(a.drained, 1);
    assert_int_equal(b.eof, 1);
    stream_close(a.s, false);
    stream_close(b.s, false);
    loop_free(l);
}

static void peer_gone(void **state)
{
    (void)state;
    struct end a, b;
    struct loop *l = pair(&a, &b);
    stream_close(b.s, false);
    stream_write(a.s, "x", 1);
    assert_int_equal(a.failed, 0); /* never inside the call */
    for (int i = 0; i < 10 && !a.failed; i++)
        loop_turn(l, 100);
    assert_int_equal(a.failed, 1);
    stream_close(a.s, true);
    loop_free(l);
}

static void unread_and_close_inside(void **state)
{
    (void)state;
    struct end a, b;
    struct loop *l = pair(&a, &b);
    stream_unread(b.s, "cd", 2);
    stream_unread(b.s, "ab", 2);
    stream_write(a.s, "xyz", 3);
    stream_read(b.s, true);
    assert_int_equal(b.bytes, 0);
    loop_turn(l, 100);
    while (b.bytes < 7)
        loop_turn(l, 100);
    b.close_on_read = true;
    stream_write(a.s, "more", 4);
    while (b.s)
        loop_turn(l, 100);
    stream_close(a.s, false);
    loop_free(l);
}

static void flush_at_close(void **state)
{
    (void)state;
    static char piece[3000000];
    struct end a, b;
    struct loop *l = pair(&a, &b);
    stream_write(a.s, piece, sizeof(piece));
    stream_close(a.s, true);
    stream_read(b.s, true);
    for (int i = 0; i < 1000 && !b.eof; i++)
        loop_turn(l, 100);
    assert_int_equal(b.bytes, sizeof(piece));
    stream_close(b.s, false);
    loop_free(l);
}

struct tcp {
    int accepted;
    struct stream *client;
    struct err e;
    bool done;
};

static void on_accept(void *arg, int fd)
{
    ((struct tcp *)arg)->accepted = fd;
}

static void on_connect(void *arg, struct stream *s, const struct err *e)
{
    struct tcp *t = arg;
    t->client = s;
    t->done = true;
    if (e)
        t->e = *e;
}

static void tcp(void **state)
{
    (void)state;
    struct err e;
    struct tcp t = {.accepted = -1};
    int port;
    struct loop *l = loop_new(&e);
    int fd = stream_bind_tcp("127.0.0.1", 0, &port, &e);
    struct stream_listen *s = stream_listen(l, fd, on_accept, &t, &e);
    assert_non_null(
        stream_connect_tcp(l, "127.0.0.1", port, 2000, on_connect, &t, &e));
    for (int i = 0; i < 20 && (t.accepted < 0 || !t.client); i++)
        loop_turn(l, 100);
    assert_true(t.accepted >= 0 && t.client);
    struct end x = {.s = t.client};
    stream_set_ops(t.client, &ops, &x);
    stream_read(t.client, true);
    struct end y = {0};
    y.s = stream_new(l, t.accepted, &ops, &y, &e);
    stream_reset(y.s);
    for (int i = 0; i < 20 && !x.failed; i++)
        loop_turn(l, 100);
    assert_int_equal(x.failed, 1); /* a reset, not an orderly end */
    assert_int_equal(x.eof, 0);
    stream_close(t.client, false);
    stream_listen_close(s);

    t = (struct tcp){.accepted = -1};
    assert_non_null(
        stream_connect_tcp(l, "127.0.0.1", port, 2000, on_connect, &t, &e));
    for (int i = 0; i < 20 && !t.done; i++)
        loop_turn(l, 100);
    assert_true(t.done && !t.client);
    assert_string_equal(t.e.kind, "network");
    assert_null(stream_connect_tcp(l, "nonsense", 1, 1, on_connect, &t, &e));
    assert_string_equal(e.kind, "invalid_argument");
    loop_free(l);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(back_pressure),
    cmocka_unit_test(peer_gone),
    cmocka_unit_test(unread_and_close_inside),
    cmocka_unit_test(flush_at_close),
    cmocka_unit_test(tcp),
};
RUN(tests)
