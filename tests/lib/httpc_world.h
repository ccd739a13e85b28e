/* What the tests of the HTTP client share: our own server and a raw one on the
 * client's loop. A test program includes it once. */
#ifndef E2B_HTTPC_WORLD_H
#define E2B_HTTPC_WORLD_H

/* no program needs all of them */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-const-variable"

#include "net/client/httpc.h"
#include "base/buf.h"
#include "base/fd.h"
#include "ctest.h"
#include "net/core/httpd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static struct world {
    struct loop *loop;
    struct httpd *server, *other;
    struct httpc *client;
    int port, other_port, raw_port;
    struct stream_listen *raw;
    const char *raw_answer; /* then the end, or a reset */
    bool raw_reset;
    struct httpd_req *held;
    size_t to_send, counted;
    int requests, aborts;
    unsigned most_connections;
    char seen[512]; /* method, target and some headers of the last request */
    struct httpc_req *r;
    struct buf body;
} w;

/* ---- the server ---------------------------------------------------------- */

static void s_count(void *arg, const char *p, size_t n)
{
    char text[32];
    (void)p;
    w.counted += n;
    if (n > 0)
        return;
    int len = snprintf(text, sizeof(text), "%zu", w.counted);
    httpd_reply(arg, 200, "text/plain", text, (size_t)len);
}

static void s_echo(void *arg, const char *p, size_t n)
{
    if (n > 0)
        httpd_write(arg, p, n);
    else
        httpd_end(arg);
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

static void s_drain(void *arg)
{
    if (w.to_send > 0)
        pump(arg);
}

static void s_abort(void *arg)
{
    if (w.held == arg)
        w.held = NULL;
    w.aborts++;
}

static void s_done(void *arg)
{
    (void)arg;
}

static const struct httpd_req_ops COUNT = {s_count, s_drain, s_abort, s_done};
static const struct httpd_req_ops ECHO = {s_echo, s_drain, s_abort, s_done};

static void note(const struct http1_head *h)
{
    static const char *const names[] = {
        "x-key",          "accept",     "expect",          "host",
        "content-length", "user-agent", "accept-encoding", "transfer-encoding",
        "authorization"};
    int n = snprintf(w.seen, sizeof(w.seen), "%s %s", h->method, h->target);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *v = http1_get(h, names[i]);
        if (v)
            n += snprintf(w.seen + n, sizeof(w.seen) - (size_t)n, "|%s: %s",
                          names[i], v);
    }
}

static void redirect(struct httpd_req *r, int status, const char *to)
{
    char url[128];
    if (to)
        snprintf(url, sizeof(url), "%s", to);
    else
        snprintf(url, sizeof(url), "http://127.0.0.1:%d/hello", w.other_port);
    httpd_begin(r, status, 7);
    httpd_header(r, "Location", url);
    httpd_write(r, "go away", 7);
    httpd_end(r);
}

static void stream_out(struct httpd_req *r, size_t n)
{
    w.to_send = n;
    httpd_begin(r, 200, (int64_t)n);
    pump(r);
}

static void on_request(void *arg, struct httpd_req *r)
{
    const char *t = httpd_head(r)->target;
    (void)arg;
    w.requests++;
    if (httpd_connections(w.server) > w.most_connections)
        w.most_connections = httpd_connections(w.server);
    note(httpd_head(r));
    httpd_set(r, &COUNT, r);
    if (strcmp(t, "/hello") == 0 || strcmp(t, "/hello?key=secret") == 0) {
        httpd_reply(r, 200, "text/plain", "hello", 5);
    } else if (strcmp(t, "/chunks") == 0) {
        httpd_begin(r, 200, -1);
        httpd_write(r, "ab", 2);
        httpd_write(r, "c", 1);
        httpd_end(r);
    } else if (strcmp(t, "/count") == 0) {
        httpd_read(r, true);
    } else if (strcmp(t, "/early") == 0) {
        httpd_error(r, 413, "too much");
    } else if (strcmp(t, "/echo") == 0) {
        httpd_set(r, &ECHO, r);
        httpd_begin(r, 200, -1);
        httpd_flush(r);
        httpd_read(r, true);
    } else if (strcmp(t, "/hold") == 0) {
        w.held = r;
    } else if (strcmp(t, "/stall") == 0) {
        w.held = r;
        httpd_begin(r, 200, 10);
        httpd_write(r, "abc", 3);
    } else if (strcmp(t, "/big") == 0) {
        stream_out(r, 20u << 20);
    } else if (strcmp(t, "/loop") == 0) {
        redirect(r, 302, "/loop");
    } else if (strcmp(t, "/see") == 0) {
        redirect(r, 303, "/hello");
    } else if (strcmp(t, "/again") == 0) {
        redirect(r, 307, "/count");
    } else if (strcmp(t, "/away") == 0) {
        redirect(r, 302, NULL);
    } else if (strcmp(t, "/file") == 0) {
        redirect(r, 302, "file:///etc/passwd");
    } else {
        httpd_reply(r, 204, NULL, NULL, 0);
    }
}

static const struct httpd_ops SERVER = {NULL, on_request};

/* ---- the raw server ------------------------------------------------------ */

static void raw_read(void *arg, const char *p, long n, const struct err *e)
{
    struct stream **s = arg;
    (void)e;
    bool asked = n > 0 && memmem(p, (size_t)n, "\r\n\r\n", 4);
    if (n > 0 && !asked)
        return;
    if (asked && w.raw_answer)
        stream_write(*s, w.raw_answer, strlen(w.raw_answer));
    if (w.raw_reset)
        stream_reset(*s);
    else
        stream_close(*s, true);
    free(s);
}

static void raw_fail(void *arg, const struct err *e)
{
    struct stream **s = arg;
    (void)e;
    stream_close(*s, false);
    free(s);
}

static const struct stream_ops RAW = {raw_read, NULL, raw_fail};

static void raw_accept(void *arg, int fd)
{
    struct err e;
    struct stream **s = malloc(sizeof(struct stream *));
    (void)arg;
    assert_non_null(s);
    *s = stream_new(w.loop, fd, &RAW, s, &e);
    stream_read(*s, true);
}

/* ---- the client's side --------------------------------------------------- */

static bool turn_until(bool (*done)(void))
{
    uint64_t end = loop_now(w.loop) + 20000;
    while (!done() && loop_now(w.loop) < end)
        loop_turn(w.loop, 5);
    return done();
}

static bool has_answer(void)
{
    return httpc_has_head(w.r) || httpc_state(w.r) == HTTPC_FAILED;
}

static bool is_over(void)
{
    const char *p;
    size_t n = httpc_peek(w.r, &p);
    if (n > 0) {
        buf_append(&w.body, p, n);
        httpc_take(w.r, n);
    }
    return httpc_state(w.r) >= HTTPC_ENDED && httpc_peek(w.r, &p) == 0;
}

static const char *url_of(int port, const char *path)
{
    static char url[256];
    snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", port, path);
    return url;
}

static struct httpc_req *prepare(const char *method, const char *path)
{
    struct err e;
    struct httpc_req *r =
        httpc_prepare(w.client, method, url_of(w.port, path), &e);
    assert_non_null(r);
    buf_clear(&w.body);
    return r;
}

static void begin(const char *method, const char *path,
                  const struct httpc_options *o)
{
    struct err e;
    w.r = prepare(method, path);
    assert_int_equal(httpc_start(w.r, o, &e), 0);
}

static void finish_up(void)
{
    httpc_close(w.r);
    w.r = NULL;
}

/* The whole exchange; the status, 0 when it failed. */
static int fetch(const char *method, const char *path,
                 const struct httpc_options *o)
{
    begin(method, path, o);
    assert_true(turn_until(is_over));
    buf_append(&w.body, "", 0);
    return httpc_state(w.r) == HTTPC_ENDED ? httpc_status(w.r) : 0;
}

/* As fetch from the raw server, which answers with text. */
static int fetch_raw(const char *text)
{
    struct httpc_options o = {.timeout_ms = 5000, .idle_ms = 5000};
    struct err e;
    w.raw_answer = text;
    buf_clear(&w.body);
    w.r =
        httpc_prepare(w.client, "GET", url_of(w.raw_port, "/x?key=secret"), &e);
    assert_int_equal(httpc_start(w.r, &o, &e), 0);
    assert_true(turn_until(is_over));
    return httpc_state(w.r) == HTTPC_ENDED ? httpc_status(w.r) : 0;
}

static const char *field(const char *name)
{
    const char *n, *value;
    size_t pos = 0;
    while ((n = httpc_next(w.r, &pos, &value)))
        if (strcmp(n, name) == 0)
            return value;
    return NULL;
}

/* The request failed with that kind, and its message holds text. */
static void failed_with(const char *kind, const char *text)
{
    const struct httpc_failure *f = httpc_failure(w.r);
    assert_int_equal(httpc_state(w.r), HTTPC_FAILED);
    assert_string_equal(f->err.kind, kind);
    if (!strstr(f->err.msg, text))
        fail_msg("'%s' lacks '%s'", f->err.msg, text);
    assert_null(strstr(f->err.msg, "secret"));
}

static int setup(void **state)
{
    struct err e;
    (void)state;
    memset(&w, 0, sizeof(w));
    w.loop = loop_new(&e);
    w.server = httpd_new(w.loop, &SERVER, NULL);
    w.other = httpd_new(w.loop, &SERVER, NULL);
    int fd = stream_bind_tcp("127.0.0.1", 0, &w.port, &e);
    assert_int_equal(httpd_listen(w.server, fd, &e), 0);
    fd = stream_bind_tcp("127.0.0.1", 0, &w.other_port, &e);
    assert_int_equal(httpd_listen(w.other, fd, &e), 0);
    fd = stream_bind_tcp("127.0.0.1", 0, &w.raw_port, &e);
    w.raw = stream_listen(w.loop, fd, raw_accept, NULL, &e);
    w.client = httpc_new(w.loop, &e);
    assert_non_null(w.client);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    httpc_close(w.r);
    assert_int_equal(httpc_active(w.client), 0);
    httpc_free(w.client);
    httpd_free(w.server);
    httpd_free(w.other);
    stream_listen_close(w.raw);
    for (int i = 0; i < 50; i++)
        loop_turn(w.loop, 0);
    assert_int_equal(loop_handles(w.loop), 0);
    loop_free(w.loop);
    buf_fini(&w.body);
    return 0;
}

static const struct httpc_options PLAIN = {.timeout_ms = 10000};

#endif
