/* What the tests of GET and POST /files share: a server, and a client with a
 * real connection to it. */
#ifndef E2B_FILESRIG_H
#define E2B_FILESRIG_H

#include "envdtest.h"
#include "net/core/httpd.h"

#include <sys/socket.h>

static struct {
    struct httpd *server;
    struct stream *client;
    struct buf got; /* the answer as it comes */
    bool ended;
    size_t received; /* when `counting`, bytes are only counted */
    bool counting;
} w;

/* ---- the server ---------------------------------------------------------- */

static inline void on_request(void *arg, struct httpd_req *r)
{
    (void)arg;
    const char *m = httpd_head(r)->method;
    if (strcmp(m, "POST") == 0)
        files_post(&v, r);
    else
        files_get(&v, r);
}

static const struct httpd_ops SERVER = {NULL, on_request};

/* ---- the client ---------------------------------------------------------- */

static inline void c_read(void *arg, const char *p, long n, const struct err *e)
{
    (void)arg, (void)e;
    if (n <= 0)
        w.ended = true;
    else if (w.counting)
        w.received += (size_t)n;
    else
        buf_append(&w.got, p, (size_t)n);
}

static inline void c_fail(void *arg, const struct err *e)
{
    (void)arg, (void)e;
    w.ended = true;
}

static const struct stream_ops CLIENT = {c_read, NULL, c_fail};

static inline void hang_up(void)
{
    if (w.client)
        stream_close(w.client, false);
    w.client = NULL;
}

static inline void dial(void)
{
    struct err e;
    int fds[2];
    hang_up();
    w.ended = w.counting = false;
    w.received = 0;
    buf_clear(&w.got);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds),
                     0);
    assert_int_equal(httpd_serve(w.server, fds[0], &e), 0);
    w.client = stream_new(v.loop, fds[1], &CLIENT, NULL, &e);
    assert_non_null(w.client);
    stream_read(w.client, true);
}

static inline int setup(void **state)
{
    memset(&w, 0, sizeof(w));
    int r = envd_setup(state);
    w.server = httpd_new(v.loop, &SERVER, NULL);
    return r;
}

static inline int teardown(void **state)
{
    hang_up();
    httpd_free(w.server);
    buf_fini(&w.got);
    return envd_teardown(state);
}

static inline void say(const void *p, size_t n)
{
    stream_write(w.client, p, n);
}

static inline uint64_t deadline(void)
{
    return loop_now(v.loop) + 30000;
}

/* Until the server has ended the connection (requests say "close"). */
static inline void wait_end(void)
{
    for (uint64_t end = deadline(); !w.ended && loop_now(v.loop) < end;)
        loop_turn(v.loop, 5);
    assert_true(w.ended);
    buf_append(&w.got, "", 0);
}

static inline const char *body(void)
{
    const char *p = w.got.data ? strstr(w.got.data, "\r\n\r\n") : NULL;
    return p ? p + 4 : "(no answer)";
}

static inline int status(void)
{
    return w.got.data ? atoi(w.got.data + strlen("HTTP/1.1 ")) : 0;
}

static inline void has_header(const char *line)
{
    char text[300];
    snprintf(text, sizeof(text), "\r\n%s\r\n", line);
    if (!strstr(w.got.data, text))
        fprintf(stderr, "no '%s' in\n%s\n", line, w.got.data);
    assert_non_null(strstr(w.got.data, text));
}

/* GET (or HEAD) with headers, each ending in CR LF. */
static inline int ask(const char *method, const char *query,
                      const char *headers)
{
    struct buf b;
    buf_init(&b);
    dial();
    buf_printf(&b, "%s /files?%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n",
               method, query);
    buf_puts(&b, headers);
    buf_puts(&b, "\r\n");
    say(b.data, b.len);
    buf_fini(&b);
    wait_end();
    return status();
}

static inline int get(const char *query)
{
    return ask("GET", query, "");
}

static inline int post(const char *query, const char *headers, const void *p,
                       size_t n)
{
    struct buf b;
    buf_init(&b);
    dial();
    buf_printf(&b,
               "POST /files?%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
               "Content-Length: %zu\r\n%s\r\n",
               query, n, headers);
    buf_append(&b, p, n);
    say(b.data, b.len);
    buf_fini(&b);
    wait_end();
    return status();
}

#define RAW  "Content-Type: application/octet-stream\r\n"
#define FORM "Content-Type: multipart/form-data; boundary=XX\r\n"

static inline int post_text(const char *query, const char *headers,
                            const char *text)
{
    return post(query, headers, text, strlen(text));
}

static inline void error_is(int code, const char *message)
{
    char want[600];
    snprintf(want, sizeof(want), "{\"code\":%d,\"message\":\"%s\"}\n", code,
             message);
    assert_int_equal(status(), code);
    assert_string_equal(body(), want);
    has_header("Content-Type: application/json; charset=utf-8");
}

static inline void file_is(const char *path, const char *want)
{
    size_t n;
    char *text = read_text(path, &n);
    assert_non_null(text);
    assert_string_equal(text, want);
    assert_int_equal(n, strlen(want));
    free(text);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
