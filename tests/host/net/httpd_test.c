/* httpd over real sockets on one loop: raw requests in, raw answers out. */
#include "net/core/httpd.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "ctest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct world {
    struct loop *loop;
    struct httpd *server;
    int port;
    struct stream *client;
    struct buf got;
    bool ended, client_failed;
    int requests, aborts, dones, drains;
    struct httpd_req *held;
    size_t body_bytes, to_send;
} w;

/* ---- the handler --------------------------------------------------------- */

static void h_body(void *arg, const char *p, size_t n)
{
    struct httpd_req *r = arg;
    (void)p;
    w.body_bytes += n;
    if (n == 0) {
        char text[32];
        int len = snprintf(text, sizeof(text), "%zu", w.body_bytes);
        httpd_reply(r, 200, "text/plain", text, (size_t)len);
    }
}

static void pump(struct httpd_req *r)
{
    static char block[64 * 1024];
    while (w.to_send > 0) {
        size_t n = w.to_send < sizeof(block) ? w.to_send : sizeof(block);
        w.to_send -= n;
        if (httpd_write(r, block, n) > STREAM_HIGH)
            return;
    }
    httpd_end(r);
}

static void h_drain(void *arg)
{
    w.drains++;
    pump(arg);
}

static void h_abort(void *arg)
{
    (void)arg;
    w.aborts++;
    w.held = NULL;
}

static void h_done(void *arg)
{
    (void)arg;
    w.dones++;
}

static const struct httpd_req_ops OPS = {h_body, h_drain, h_abort, h_done};

static void raw_read(void *arg, const char *p, long n, const struct err *e)
{
    (void)e;
    struct stream **s = arg;
    if (n > 0)
        stream_write(*s, p, (size_t)n);
    else {
        stream_close(*s, true);
        free(s);
    }
}

static void raw_fail(void *arg, const struct err *e)
{
    (void)e;
    struct stream **s = arg;
    stream_close(*s, false);
    free(s);
}

static const struct stream_ops ECHO = {raw_read, NULL, raw_fail};

static void on_request(void *arg, struct httpd_req *r)
{
    (void)arg;
    const char *t = httpd_head(r)->target;
    w.requests++;
    httpd_set(r, &OPS, r);
    if (strcmp(t, "/hello") == 0) {
        httpd_reply(r, 200, "text/plain", "hello", 5);
    } else if (strcmp(t, "/chunks") == 0) {
        httpd_begin(r, 200, -1);
        httpd_write(r, "ab", 2);
        httpd_write(r, "c", 1);
        httpd_end(r);
    } else if (strcmp(t, "/count") == 0) {
        httpd_read(r, true);
    } else if (strcmp(t, "/early") == 0) {
        httpd_error(r, 413, "too much \"of it\"");
    } else if (strcmp(t, "/hold") == 0) {
        w.held = r;
    } else if (strcmp(t, "/big") == 0) {
        w.to_send = 20u << 20;
        httpd_begin(r, 200, (int64_t)w.to_send);
        pump(r);
    } else if (strcmp(t, "/short") == 0) {
        httpd_begin(r, 200, 10);
        httpd_write(r, "abc", 3);
        httpd_end(r);
    } else if (strcmp(t, "/echo") == 0) {
        httpd_begin(r, 101, 0);
        httpd_header(r, "Upgrade", "echo");
        httpd_header(r, "Connection", "Upgrade");
        httpd_flush(r);
        struct stream **s = mem_alloc(sizeof(struct stream *));
        *s = httpd_steal(r);
        stream_set_ops(*s, &ECHO, s);
        stream_read(*s, true);
    } else {
        httpd_reply(r, 204, NULL, NULL, 0);
    }
}

static const struct httpd_ops SERVER = {NULL, on_request};

/* ---- the client ---------------------------------------------------------- */

static void c_read(void *arg, const char *p, long n, const struct err *e)
{
    (void)arg, (void)e;
    if (n > 0)
        buf_append(&w.got, p, (size_t)n);
    else
        w.ended = true;
    if (n < 0)
        w.client_failed = true;
}

static void c_fail(void *arg, const struct err *e)
{
    (void)arg, (void)e;
    w.ended = w.client_failed = true;
}

static const struct stream_ops CLIENT = {c_read, NULL, c_fail};

static void connected(void *arg, struct stream *s, const struct err *e)
{
    (void)arg, (void)e;
    w.client = s;
}

static void turn_until(bool (*done)(void))
{
    uint64_t end = loop_now(w.loop) + 20000;
    while (!done() && loop_now(w.loop) < end)
        loop_turn(w.loop, 5);
    assert_true(done());
}

static bool is_connected(void)
{
    return w.client != NULL;
}

static int setup(void **state)
{
    (void)state;
    struct err e;
    memset(&w, 0, sizeof(w));
    w.loop = loop_new(&e);
    w.server = httpd_new(w.loop, &SERVER, NULL);
    int fd = stream_bind_tcp("127.0.0.1", 0, &w.port, &e);
    assert_int_equal(httpd_listen(w.server, fd, &e), 0);
    stream_connect_tcp(w.loop, "127.0.0.1", w.port, 5000, connected, NULL, &e);
    turn_until(is_connected);
    stream_set_ops(w.client, &CLIENT, NULL);
    stream_read(w.client, true);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (w.client)
        stream_close(w.client, false);
    httpd_free(w.server);
    for (int i = 0; i < 50; i++)
        loop_turn(w.loop, 0);
    loop_free(w.loop);
    buf_fini(&w.got);
    return 0;
}

static void say(const char *text)
{
    stream_write(w.client, text, strlen(text));
}

static const char *wanted;

static bool has_wanted(void)
{
    return w.got.data && strstr(w.got.data, wanted) != NULL;
}

static void expect(const char *text)
{
    wanted = text;
    turn_until(has_wanted);
}

static bool has_ended(void)
{
    return w.ended;
}

static bool has_it_all(void)
{
    return w.got.len > 20u << 20;
}

static bool one_abort(void)
{
    return w.aborts == 1;
}

static bool two_done(void)
{
    return w.dones == 2;
}

/* ---- tests --------------------------------------------------------------- */

static void keeps_alive_and_pipelines(void **state)
{
    (void)state;
    say("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
        "GET /chunks HTTP/1.1\r\nHost: a\r\n\r\n");
    expect("0\r\n\r\n");
    assert_string_equal(
        w.got.data,
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n"
        "\r\nhello"
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
    turn_until(two_done);
    assert_int_equal(w.aborts, 0);
    assert_false(w.ended);
}

static void reads_a_body_after_100_continue(void **state)
{
    (void)state;
    say("POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        "Expect: 100-continue\r\n\r\n");
    expect("100 Continue\r\n\r\n");
    say("12345GET /none HTTP/1.1\r\nHost: a\r\n\r\n");
    expect("204 No Content\r\n\r\n");
    assert_non_null(strstr(w.got.data, "\r\n\r\n5HTTP/1.1 204"));
}

static void reads_chunks_byte_by_byte(void **state)
{
    (void)state;
    const char *text =
        "POST /count HTTP/1.1\r\nHost: a\r\n"
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for (const char *p = text; *p; p++) {
        stream_write(w.client, p, 1);
        loop_turn(w.loop, 0);
    }
    expect("\r\n\r\n3");
}

static void refuses_garbage_and_closes(void **state)
{
    (void)state;
    say("HELLO THERE\r\n\r\n");
    turn_until(has_ended);
    assert_non_null(strstr(w.got.data, "HTTP/1.1 400 Bad Request\r\n"));
    assert_non_null(strstr(w.got.data, "Connection: close\r\n"));
    assert_false(w.client_failed);
    assert_int_equal(w.requests, 0);
}

static void answers_before_the_body_ends(void **state)
{
    (void)state;
    say("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    expect("too much \\\"of it\\\"");
    char block[50000];
    memset(block, 'x', sizeof(block));
    stream_write(w.client, block, sizeof(block));
    stream_write(w.client, block, sizeof(block));
    say("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    expect("hello");
}

static void closes_when_the_rest_is_too_long(void **state)
{
    (void)state;
    say("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 99000000\r\n\r\n");
    expect("413");
    turn_until(has_ended);
    assert_int_equal(w.dones, 1);
}

static void sends_a_big_body_with_back_pressure(void **state)
{
    (void)state;
    stream_read(w.client, false);
    say("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    for (int i = 0; i < 50; i++)
        loop_turn(w.loop, 2);
    assert_true(w.to_send > 10u << 20);
    stream_read(w.client, true);
    turn_until(has_it_all);
    assert_true(w.drains > 0);
}

static void tells_of_a_client_that_left(void **state)
{
    (void)state;
    say("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    while (!w.held)
        loop_turn(w.loop, 5);
    stream_close(w.client, false);
    w.client = NULL;
    turn_until(one_abort);
    assert_int_equal(w.dones, 0);
}

static void never_makes_a_short_answer_look_complete(void **state)
{
    (void)state;
    say("GET /short HTTP/1.1\r\nHost: a\r\n\r\n");
    turn_until(has_ended);
    assert_true(w.client_failed);
}

static void speaks_http_1_0(void **state)
{
    (void)state;
    say("GET /chunks HTTP/1.0\r\n\r\n");
    turn_until(has_ended);
    assert_string_equal(w.got.data,
                        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc");
}

static void sends_no_body_to_head(void **state)
{
    (void)state;
    say("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n"
        "GET /none HTTP/1.1\r\nHost: a\r\n\r\n");
    expect("204 No");
    assert_non_null(strstr(w.got.data, "Content-Length: 5\r\n"));
    assert_null(strstr(w.got.data, "hello"));
}

static void hands_over_an_upgraded_stream(void **state)
{
    (void)state;
    say("GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
        "Upgrade: echo\r\n\r\nearly ");
    expect("early ");
    say("late");
    expect("late");
    assert_int_equal(httpd_connections(w.server), 0);
}

static void closing_aborts_what_runs(void **state)
{
    (void)state;
    say("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    while (!w.held)
        loop_turn(w.loop, 5);
    httpd_close(w.server, true);
    assert_int_equal(w.aborts, 1);
    assert_int_equal(httpd_connections(w.server), 0);
    turn_until(has_ended);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
static const struct CMUnitTest tests[] = {
    T(keeps_alive_and_pipelines),
    T(reads_a_body_after_100_continue),
    T(reads_chunks_byte_by_byte),
    T(refuses_garbage_and_closes),
    T(answers_before_the_body_ends),
    T(closes_when_the_rest_is_too_long),
    T(sends_a_big_body_with_back_pressure),
    T(tells_of_a_client_that_left),
    T(never_makes_a_short_answer_look_complete),
    T(speaks_http_1_0),
    T(sends_no_body_to_head),
    T(hands_over_an_upgraded_stream),
    T(closing_aborts_what_runs),
};
RUN(tests)
