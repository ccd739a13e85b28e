/* The HTTP client against our own server and a raw one, all on one loop. TLS
 * and proxies: httpc_tls_test.c. */
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

/* ---- tests --------------------------------------------------------------- */

static void gets_and_reuses_the_connection(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fetch("GET", "/hello", &PLAIN), 200);
        assert_string_equal(w.body.data, "hello");
        assert_string_equal(field("content-type"), "text/plain");
        assert_null(field("Content-Type"));
        finish_up();
    }
    assert_int_equal(fetch("GET", "/chunks", &PLAIN), 200);
    assert_string_equal(w.body.data, "abc");
    assert_int_equal(w.most_connections, 1);
}

static void sends_only_what_was_asked_for(void **state)
{
    char want[256];
    (void)state;
    assert_int_equal(fetch("GET", "/hello", &PLAIN), 200);
    snprintf(want, sizeof(want),
             "GET /hello|accept: */*|host: 127.0.0.1:%d|user-agent: "
             "e2blua/" E2B_VERSION,
             w.port);
    assert_string_equal(w.seen, want);
}

static void knows_answers_without_a_body(void **state)
{
    (void)state;
    assert_int_equal(fetch("HEAD", "/hello", &PLAIN), 200);
    assert_string_equal(field("content-length"), "5");
    assert_int_equal(w.body.len, 0);
    finish_up();
    assert_int_equal(fetch("GET", "/none", &PLAIN), 204);
    finish_up();
    assert_int_equal(fetch("DELETE", "/none", &PLAIN), 204);
    assert_non_null(strstr(w.seen, "DELETE /none"));
    assert_null(strstr(w.seen, "content-length"));
    assert_int_equal(w.most_connections, 1);
}

static void posts_a_body(void **state)
{
    size_t n = 3u << 20;
    char *body = calloc(1, n);
    struct httpc_options o = {.timeout_ms = 10000, .body = body, .nbody = n};
    (void)state;
    assert_int_equal(fetch("POST", "/count", &o), 200);
    assert_string_equal(w.body.data, "3145728");
    assert_non_null(strstr(w.seen, "content-length: 3145728"));
    assert_null(strstr(w.seen, "expect"));
    finish_up();
    w.counted = 0;
    assert_int_equal(fetch("PATCH", "/count", &o), 200);
    assert_non_null(strstr(w.seen, "PATCH /count"));
    finish_up();
    w.counted = 0;
    o.nbody = 0;
    assert_int_equal(fetch("POST", "/count", &o), 200);
    assert_string_equal(w.body.data, "0");
    assert_non_null(strstr(w.seen, "content-length: 0"));
    free(body);
}

static void waits_for_100_continue(void **state)
{
    struct httpc_options o = {.timeout_ms = 10000, .body = "12345", .nbody = 5};
    struct err e;
    (void)state;
    w.r = prepare("POST", "/count");
    assert_int_equal(httpc_header(w.r, "Expect", 6, "100-continue", 12, &e), 0);
    assert_int_equal(httpc_start(w.r, &o, &e), 0);
    assert_true(turn_until(is_over));
    assert_int_equal(httpc_status(w.r), 200);
    assert_non_null(strstr(w.seen, "expect: 100-continue"));
    assert_int_equal(w.counted, 5);
}

static void bounds_what_it_buffers_of_a_response(void **state)
{
    const char *p;
    (void)state;
    begin("GET", "/big", &PLAIN);
    assert_true(turn_until(has_answer));
    for (int i = 0; i < 100; i++)
        loop_turn(w.loop, 2);
    size_t here = httpc_peek(w.r, &p);
    assert_in_range(here, HTTPC_BUFFER, HTTPC_BUFFER + 32 * 1024);
    assert_true(w.to_send > 10u << 20);
    assert_true(turn_until(is_over));
    assert_int_equal(httpc_state(w.r), HTTPC_ENDED);
    assert_int_equal(w.body.len, 20u << 20);
}

static size_t taken, to_write;

static bool no_more_room(void)
{
    static char block[64 * 1024];
    static uint64_t since;
    size_t n = httpc_write(w.r, block, sizeof(block));
    uint64_t now = loop_now(w.loop);
    if (n > 0 || since == 0)
        since = now;
    taken += n;
    return now - since > 200;
}

static bool all_written(void)
{
    static char block[64 * 1024];
    while (to_write > 0) {
        size_t n = to_write < sizeof(block) ? to_write : sizeof(block);
        n = httpc_write(w.r, block, n);
        to_write -= n;
        if (n == 0)
            return false;
    }
    httpc_finish(w.r);
    return true;
}

static void bounds_what_it_buffers_of_an_upload(void **state)
{
    struct httpc_options o = {
        .timeout_ms = 20000, .upload = true, .length = -1};
    (void)state;
    taken = 0;
    begin("POST", "/hold", &o);
    assert_true(turn_until(no_more_room));
    assert_true(taken < 12u << 20); /* our buffer and the kernel's */
    assert_non_null(strstr(w.seen, "transfer-encoding: chunked"));
    httpd_read(w.held, true);
    to_write = (16u << 20) - taken;
    assert_true(turn_until(all_written));
    assert_true(turn_until(is_over));
    assert_string_equal(w.body.data, "16777216");
}

static void uploads_with_a_length(void **state)
{
    struct httpc_options o = {
        .timeout_ms = 20000, .upload = true, .length = 300000};
    (void)state;
    to_write = 300000;
    begin("PUT", "/count", &o);
    assert_int_equal(httpc_left(w.r), 300000);
    assert_true(turn_until(all_written));
    assert_int_equal(httpc_left(w.r), 0);
    assert_true(turn_until(is_over));
    assert_string_equal(w.body.data, "300000");
    finish_up();
    begin("PUT", "/count", &o);
    httpc_write(w.r, "abc", 3);
    httpc_finish(w.r);
    failed_with("invalid_argument", "299997 bytes short");
    assert_false(httpc_failure(w.r)->retryable);
}

static bool got_body(void)
{
    is_over();
    return w.body.len > 0;
}

static void streams_both_ways_at_once(void **state)
{
    struct httpc_options o = {
        .timeout_ms = 10000, .upload = true, .length = -1};
    (void)state;
    begin("POST", "/echo", &o);
    assert_true(turn_until(has_answer));
    for (int i = 0; i < 20; i++) {
        buf_clear(&w.body);
        assert_int_equal(httpc_write(w.r, "ping", 4), 4);
        assert_true(turn_until(got_body));
        assert_memory_equal(w.body.data, "ping", 4);
    }
    assert_int_equal(httpc_state(w.r), HTTPC_BODY);
    httpc_finish(w.r);
    assert_true(turn_until(is_over));
    assert_int_equal(httpc_state(w.r), HTTPC_ENDED);
}

static void drops_an_upload_that_was_answered_early(void **state)
{
    struct httpc_options o = {
        .timeout_ms = 10000, .upload = true, .length = -1};
    (void)state;
    begin("POST", "/early", &o);
    to_write = 5u << 20;
    assert_true(turn_until(all_written));
    assert_true(turn_until(is_over));
    assert_int_equal(httpc_state(w.r), HTTPC_ENDED);
    assert_int_equal(httpc_status(w.r), 413);
}

static void follows_only_when_asked(void **state)
{
    struct httpc_options o = {.timeout_ms = 10000, .follow = true};
    (void)state;
    assert_int_equal(fetch("GET", "/see", &PLAIN), 303);
    assert_string_equal(w.body.data, "go away");
    finish_up();
    assert_int_equal(fetch("GET", "/see", &o), 200);
    assert_string_equal(w.body.data, "hello");
    finish_up();
    o.body = "123";
    o.nbody = 3;
    assert_int_equal(fetch("PUT", "/see", &o), 200);
    assert_memory_equal(w.seen, "GET /hello", 10);
    finish_up();
    assert_int_equal(fetch("PUT", "/again", &o), 200);
    assert_memory_equal(w.seen, "PUT /count", 10);
    assert_string_equal(w.body.data, "3");
    finish_up();
    o.nbody = 0;
    assert_int_equal(fetch("GET", "/loop", &o), 0);
    failed_with("protocol", "more than 10 redirects");
    finish_up();
    assert_int_equal(fetch("GET", "/file", &o), 0);
    failed_with("protocol", "127.0.0.1");
}

static void keeps_keys_from_other_hosts(void **state)
{
    struct httpc_options o = {.timeout_ms = 10000, .follow = true};
    struct err e;
    (void)state;
    w.r = prepare("GET", "/away");
    httpc_header(w.r, "X-Key", 5, "k", 1, &e);
    httpc_header(w.r, "Authorization", 13, "k", 1, &e);
    httpc_header(w.r, "Accept", 6, "text/plain", 10, &e);
    assert_int_equal(httpc_start(w.r, &o, &e), 0);
    assert_true(turn_until(is_over));
    assert_int_equal(httpc_status(w.r), 200);
    assert_null(strstr(w.seen, "x-key"));
    assert_null(strstr(w.seen, "authorization"));
    assert_non_null(strstr(w.seen, "accept: text/plain"));
    finish_up();
    w.r = prepare("GET", "/see");
    httpc_header(w.r, "X-Key", 5, "k", 1, &e);
    assert_int_equal(httpc_start(w.r, &o, &e), 0);
    assert_true(turn_until(is_over));
    assert_non_null(strstr(w.seen, "x-key: k"));
}

static void refuses_bad_requests(void **state)
{
    struct httpc_options o = {.upload = true, .length = -1};
    struct err e;
    (void)state;
    static const char *const urls[] = {"",
                                       "x",
                                       "ftp://u:secret@h/",
                                       "http://",
                                       "/a?secret",
                                       "http://h:99999/?secret",
                                       "http://a b/?secret",
                                       "http://h/\n?secret"};
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        assert_null(httpc_prepare(w.client, "GET", urls[i], &e));
        assert_string_equal(e.kind, "invalid_argument");
        assert_null(strstr(e.msg, "secret"));
        assert_non_null(strstr(e.msg, "give http://host/path"));
    }
    assert_null(httpc_prepare(w.client, "GE T", "http://h/", &e));
    assert_null(httpc_prepare(w.client, "CONNECT", "http://h/", &e));
    w.r = prepare("HEAD", "/");
    assert_int_equal(httpc_header(w.r, "a", 1, "b\r\nc: d", 7, &e), -1);
    assert_int_equal(httpc_header(w.r, "a", 1, "b\0", 2, &e), -1);
    assert_int_equal(httpc_header(w.r, "a\r\nb", 4, "c", 1, &e), -1);
    assert_int_equal(httpc_header(w.r, "a:", 2, "c", 1, &e), -1);
    assert_int_equal(httpc_header(w.r, "", 0, "c", 1, &e), -1);
    assert_int_equal(httpc_header(w.r, "Content-Length", 14, "1", 1, &e), -1);
    assert_string_equal(e.kind, "invalid_argument");
    assert_int_equal(httpc_start(w.r, &o, &e), -1);
    assert_non_null(strstr(e.msg, "HEAD"));
}

static void sends_an_empty_header(void **state)
{
    struct err e;
    (void)state;
    w.r = prepare("GET", "/hello");
    assert_int_equal(httpc_header(w.r, "X-Key", 5, "", 0, &e), 0);
    assert_int_equal(httpc_start(w.r, &PLAIN, &e), 0);
    assert_true(turn_until(is_over));
    assert_non_null(strstr(w.seen, "|x-key: |"));
}

static void says_who_refuses(void **state)
{
    char text[80];
    (void)state;
    httpd_close(w.server, true);
    assert_int_equal(fetch("GET", "/hello?key=secret", &PLAIN), 0);
    snprintf(text, sizeof(text),
             "cannot connect to 127.0.0.1:%d: Connection refused", w.port);
    failed_with("network", text);
    assert_int_equal(httpc_failure(w.r)->err.errnum, ECONNREFUSED);
    assert_true(httpc_failure(w.r)->retryable);
}

static void says_which_name_has_no_address(void **state)
{
    struct err e;
    (void)state;
    w.r = httpc_prepare(w.client, "GET", "http://u:secret@none.invalid/", &e);
    assert_int_equal(httpc_start(w.r, &PLAIN, &e), 0);
    assert_true(turn_until(is_over));
    failed_with("network", "cannot find none.invalid");
    assert_true(httpc_failure(w.r)->retryable);
}

static void talks_to_unix_sockets(void **state)
{
    char dir[] = "/tmp/httpc-test-XXXXXX", path[64];
    struct httpc_options o = {.timeout_ms = 5000, .unix_path = path};
    struct err e;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    int fd = fd_unix_listen(AT_FDCWD, path, 0600, &e);
    assert_int_equal(httpd_listen(w.server, fd, &e), 0);
    assert_int_equal(fetch("GET", "/hello", &o), 200);
    finish_up();
    unlink(path);
    httpd_close(w.server, true); /* the pool's connection as well */
    assert_int_equal(fetch("GET", "/hello", &o), 0);
    failed_with("network", path);
    failed_with("network", "No such file");
    rmdir(dir);
}

static void tells_a_cut_from_an_end(void **state)
{
    (void)state;
    assert_int_equal(
        fetch_raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"), 0);
    failed_with("network", "broke after 3 bytes");
    assert_true(httpc_has_head(w.r));
    assert_int_equal(httpc_status(w.r), 200);
    assert_int_equal(w.body.len, 3);
    assert_false(httpc_failure(w.r)->retryable);
    finish_up();
    assert_int_equal(
        fetch_raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "3\r\nabc\r\n"),
        0);
    failed_with("network", "broke after 3 bytes");
    finish_up();
    assert_int_equal(fetch_raw("HTTP/1.1 200 OK\r\n\r\nabc"), 200);
    assert_int_equal(w.body.len, 3);
    finish_up();
    assert_int_equal(fetch_raw(""), 0);
    failed_with("network", "closed without an answer");
    assert_false(httpc_failure(w.r)->retryable);
    finish_up();
    w.raw_reset = true;
    assert_int_equal(fetch_raw(NULL), 0);
    failed_with("network", "127.0.0.1");
}

static void calls_garbage_by_its_name(void **state)
{
    static const char *const answers[] = {
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\x16\x03\x01garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nabc",
        "HTTP/7.1 200 OK\r\n\r\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        assert_int_equal(fetch_raw(answers[i]), 0);
        failed_with("protocol", "127.0.0.1");
        finish_up();
    }
}

static void bounds_the_head(void **state)
{
    struct buf b = {0};
    (void)state;
    buf_puts(&b, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 400; i++)
        buf_printf(&b, "X-%d: %01000d\r\n", i, 0);
    buf_puts(&b, "\r\n");
    assert_int_equal(fetch_raw(b.data), 0);
    failed_with("protocol", "larger than 256 KiB");
    buf_fini(&b);
}

static void passes_over_trailers_and_interim_answers(void **state)
{
    (void)state;
    assert_int_equal(
        fetch_raw("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
                  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                  "X-A: 1\r\n  2\r\n\r\n3\r\nabc\r\n0\r\nX-B: 3\r\n\r\n"),
        200);
    assert_memory_equal(w.body.data, "abc", 3);
    assert_string_equal(field("x-a"), "1 2");
    assert_null(field("x-b"));
    assert_null(field("link"));
}

static void keeps_its_deadlines(void **state)
{
    struct httpc_options o = {.timeout_ms = 100, .idle_ms = 100};
    (void)state;
    assert_int_equal(fetch("GET", "/hold", &o), 0);
    failed_with("timeout", "no answer after 0.1 s");
    assert_string_equal(httpc_failure(w.r)->deadline, "request");
    assert_false(httpc_failure(w.r)->retryable);
    finish_up();
    assert_int_equal(fetch("GET", "/stall", &o), 0);
    failed_with("timeout", "silent for 0.1 s");
    assert_string_equal(httpc_failure(w.r)->deadline, "idle");
    assert_int_equal(w.body.len, 3);
}

static void is_not_idle_while_nobody_reads(void **state)
{
    struct httpc_options o = {.timeout_ms = 5000, .idle_ms = 50};
    (void)state;
    begin("GET", "/big", &o);
    assert_true(turn_until(has_answer));
    for (int i = 0; i < 60; i++)
        loop_turn(w.loop, 5);
    assert_int_equal(httpc_state(w.r), HTTPC_BODY);
    assert_true(turn_until(is_over));
    assert_int_equal(w.body.len, 20u << 20);
}

/* A listener whose queue is full answers no connect. */
static void keeps_the_deadline_of_the_connect(void **state)
{
    struct httpc_options o = {.timeout_ms = 5000, .connect_ms = 200};
    struct httpc_req *more[4];
    struct err e;
    int port, fd = stream_bind_tcp("127.0.0.1", 0, &port, &e);
    (void)state;
    assert_int_equal(listen(fd, 0), 0);
    for (int i = 0; i < 4; i++) {
        more[i] = httpc_prepare(w.client, "GET", url_of(port, "/"), &e);
        assert_int_equal(httpc_start(more[i], &o, &e), 0);
    }
    w.r = more[3];
    assert_true(turn_until(is_over));
    failed_with("timeout", "no connection to 127.0.0.1");
    assert_string_equal(httpc_failure(w.r)->deadline, "request");
    assert_true(httpc_failure(w.r)->retryable);
    for (int i = 0; i < 3; i++)
        httpc_close(more[i]);
    close(fd);
}

static bool was_aborted(void)
{
    return w.aborts > 0;
}

static bool is_held(void)
{
    return w.held != NULL;
}

static void closes_in_the_middle(void **state)
{
    struct httpc_options o = {
        .timeout_ms = 10000, .upload = true, .length = -1};
    (void)state;
    begin("GET", "/hold", &PLAIN);
    assert_true(turn_until(is_held));
    finish_up();
    assert_int_equal(httpc_active(w.client), 0);
    assert_true(turn_until(was_aborted));
    w.aborts = 0;
    begin("GET", "/big", &PLAIN); /* paused */
    assert_true(turn_until(has_answer));
    for (int i = 0; i < 20; i++)
        loop_turn(w.loop, 2);
    finish_up();
    assert_true(turn_until(was_aborted));
    w.aborts = 0;
    begin("POST", "/hold", &o);
    httpc_write(w.r, "abc", 3);
    assert_true(turn_until(is_held));
    httpd_read(w.held, true); /* who does not read does not see the end */
    finish_up();
    assert_true(turn_until(was_aborted));
    begin("GET", "/hello", &PLAIN); /* not even connected */
    finish_up();
}

static void survives_the_client(void **state)
{
    struct err e;
    (void)state;
    begin("GET", "/hold", &PLAIN);
    assert_true(turn_until(is_held));
    httpc_free(w.client);
    assert_int_equal(httpc_state(w.r), HTTPC_FAILED);
    finish_up();
    w.client = httpc_new(w.loop, &e);
    w.r = httpc_prepare(w.client, "GET", "http://slow-to-resolve.invalid", &e);
    assert_int_equal(httpc_start(w.r, &PLAIN, &e), 0);
    loop_turn(w.loop, 0);
    httpc_free(w.client); /* while a thread may look the name up */
    finish_up();
    w.client = httpc_new(w.loop, &e);
}

enum { MANY = 1000 };
static struct httpc_req *many[MANY];

static bool all_over(void)
{
    for (int i = 0; i < MANY; i++)
        if (httpc_state(many[i]) < HTTPC_ENDED)
            return false;
    return true;
}

static void makes_a_thousand_at_once(void **state)
{
    struct rlimit before, more;
    struct httpc_options o = {.timeout_ms = 20000, .connect_ms = 20000};
    const char *p;
    struct err e;
    (void)state;
    getrlimit(RLIMIT_NOFILE, &before);
    more = before;
    more.rlim_cur = 4096;
    if (setrlimit(RLIMIT_NOFILE, &more) < 0)
        skip();
    for (int i = 0; i < MANY; i++) {
        many[i] = prepare("GET", "/hello");
        assert_int_equal(httpc_start(many[i], &o, &e), 0);
    }
    assert_int_equal(httpc_active(w.client), MANY);
    assert_true(turn_until(all_over));
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(httpc_state(many[i]), HTTPC_ENDED);
        assert_int_equal(httpc_peek(many[i], &p), 5);
        httpc_close(many[i]);
    }
    assert_int_equal(w.requests, MANY);
    setrlimit(RLIMIT_NOFILE, &before);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static const struct CMUnitTest tests[] = {
    T(gets_and_reuses_the_connection),
    T(sends_only_what_was_asked_for),
    T(knows_answers_without_a_body),
    T(posts_a_body),
    T(waits_for_100_continue),
    T(bounds_what_it_buffers_of_a_response),
    T(bounds_what_it_buffers_of_an_upload),
    T(uploads_with_a_length),
    T(streams_both_ways_at_once),
    T(drops_an_upload_that_was_answered_early),
    T(follows_only_when_asked),
    T(keeps_keys_from_other_hosts),
    T(refuses_bad_requests),
    T(sends_an_empty_header),
    T(says_who_refuses),
    T(says_which_name_has_no_address),
    T(talks_to_unix_sockets),
    T(tells_a_cut_from_an_end),
    T(calls_garbage_by_its_name),
    T(bounds_the_head),
    T(passes_over_trailers_and_interim_answers),
    T(keeps_its_deadlines),
    T(is_not_idle_while_nobody_reads),
    T(keeps_the_deadline_of_the_connect),
    T(closes_in_the_middle),
    T(survives_the_client),
    T(makes_a_thousand_at_once),
};

int main(void)
{
    /* the machine's proxies are not what is tested here */
    unsetenv("http_proxy");
    unsetenv("all_proxy");
    unsetenv("ALL_PROXY");
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
