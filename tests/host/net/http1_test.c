/* host/net/core/http1.c: events, limits, and what must be refused. */
#include "ctest.h"
#include "net/core/http1.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Feeds text in pieces of step bytes and writes the events as one string:
 * H(method target), B(bytes), E, X(status). */
static void trace(char *out, size_t cap, bool request, bool no_body,
                  const char *text, size_t n, size_t step)
{
    struct http1_parser *p = http1_new(request);
    struct buf b = {0};
    struct err e;
    size_t at = 0, end = 0;
    if (no_body)
        http1_no_body(p);
    bool in_body = false;
    while (end < n || at < end) {
        if (at == end)
            end = end + step > n ? n : end + step;
        size_t used, nbody;
        const char *body;
        enum http1_event ev =
            http1_feed(p, text + at, end - at, &used, &body, &nbody, &e);
        at += used;
    again:
        if (ev != HTTP1_BODY && ev != HTTP1_MORE && in_body) {
            buf_puts(&b, ")");
            in_body = false;
        }
        if (ev == HTTP1_HEAD) {
            const struct http1_head *h = http1_head(p);
            if (request)
                buf_printf(&b, "H(%s %s)", h->method, h->target);
            else
                buf_printf(&b, "H(%d)", h->status);
        } else if (ev == HTTP1_BODY) {
            if (!in_body)
                buf_puts(&b, "B(");
            in_body = true;
            buf_append(&b, body, nbody);
        } else if (ev == HTTP1_END) {
            buf_puts(&b, "E");
            http1_next(p);
        } else if (ev == HTTP1_ERROR) {
            buf_printf(&b, "X(%d)", http1_status(p));
            break;
        }
        if (ev != HTTP1_MORE && at == end) {
            ev = http1_feed(p, text + at, 0, &used, &body, &nbody, &e);
            if (ev != HTTP1_MORE)
                goto again;
        }
    }
    if (in_body)
        buf_puts(&b, ")");
    snprintf(out, cap, "%s", b.data ? b.data : "");
    buf_fini(&b);
    http1_free(p);
}

static void expect(bool request, const char *text, const char *want)
{
    char got[4096];
    for (size_t step = 1; step <= 64; step = step * 3 + 1) {
        trace(got, sizeof(got), request, false, text, strlen(text), step);
        assert_string_equal(got, want);
    }
    trace(got, sizeof(got), request, false, text, strlen(text), 1 << 20);
    assert_string_equal(got, want);
}

static void requests(void **state)
{
    (void)state;
    expect(true, "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n", "H(GET /a?b=c)E");
    expect(true,
           "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
           "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n",
           "H(POST /p)B(hello)EH(GET /2)E");
    expect(true,
           "POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
           "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
           "H(POST /p)B(abcde)E");
    expect(true, "GET / HTTP/1.0\r\n\r\n", "H(GET /)E");
    /* Upgrade on a POST is nothing but a header here. */
    expect(true,
           "POST /p HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
           "Upgrade: h2c\r\nContent-Length: 2\r\n\r\nhi"
           "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n",
           "H(POST /p)B(hi)EH(GET /2)E");
}

static void responses(void **state)
{
    (void)state;
    expect(false,
           "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
           "HTTP/1.1 204\r\n\r\n",
           "H(200)B(hi)EH(204)E");
    expect(false,
           "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 X\r\n"
           "Content-Length: 0\r\n\r\n",
           "H(100)EH(201)E");
    char got[256];
    const char *head = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    trace(got, sizeof(got), false, true, head, strlen(head), 7);
    assert_string_equal(got, "H(200)E");
}

static void smuggling(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        "Content-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "1\r\nabc\r\n0\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    };
    char got[256];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        trace(got, sizeof(got), true, false, bad[i], strlen(bad[i]), 1000);
        if (!strstr(got, "X("))
            fail_msg("accepted: %s -> %s", bad[i], got);
    }
}

static void limits(void **state)
{
    (void)state;
    struct buf b = {0};
    char got[256];
    buf_puts(&b, "GET / HTTP/1.1\r\nHost: x\r\nX: ");
    for (int i = 0; i < 70000; i++)
        buf_append(&b, "a", 1);
    trace(got, sizeof(got), true, false, b.data, b.len, 4096);
    assert_string_equal(got, "X(431)");
    buf_clear(&b);
    buf_puts(&b, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 200; i++)
        buf_puts(&b, "a_b: 1\r\n");
    buf_puts(&b, "\r\n");
    trace(got, sizeof(got), true, false, b.data, b.len, 4096);
    assert_string_equal(got, "X(431)");
    buf_fini(&b);
}

static void headers(void **state)
{
    (void)state;
    const char *text = "GET / HTTP/1.1\r\nhost: x\r\nlang_version:  1 \r\n"
                       "Connection: keep-alive, UPGRADE\r\nUpgrade: ws\r\n"
                       "Empty:\r\nExpect: 100-continue\r\n\r\n";
    struct http1_parser *p = http1_new(true);
    size_t used, nbody;
    const char *body;
    struct err e;
    assert_int_equal(
        http1_feed(p, text, strlen(text), &used, &body, &nbody, &e),
        HTTP1_HEAD);
    const struct http1_head *h = http1_head(p);
    assert_string_equal(http1_get(h, "Lang_Version"), "1");
    assert_string_equal(http1_get(h, "empty"), "");
    assert_null(http1_get(h, "nope"));
    assert_true(h->upgrade && h->expect_continue && h->keep_alive);
    assert_true(http1_has_token(h, "connection", "upgrade"));
    assert_false(http1_has_token(h, "connection", "up"));
    assert_true(h->length == -1 && !h->chunked && h->minor == 1);
    http1_free(p);
}

static void finish(void **state)
{
    (void)state;
    struct err e;
    size_t used, nbody;
    const char *body, *text = "HTTP/1.1 200 OK\r\n\r\nto the end";
    struct http1_parser *p = http1_new(false);
    size_t at = 0;
    enum http1_event ev;
    do {
        ev = http1_feed(p, text + at, strlen(text) - at, &used, &body, &nbody,
                        &e);
        at += used;
    } while (ev != HTTP1_MORE);
    assert_int_equal(http1_finish(p, &e), HTTP1_END);
    http1_next(p);
    http1_free(p);

    p = http1_new(true);
    assert_int_equal(http1_finish(p, &e), HTTP1_MORE);
    text = "GET / HT";
    http1_feed(p, text, strlen(text), &used, &body, &nbody, &e);
    assert_int_equal(http1_finish(p, &e), HTTP1_ERROR);
    assert_string_equal(e.kind, "protocol");
    http1_free(p);
}

static void writers(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_int_equal(http1_put_status(&b, 404), 0);
    assert_int_equal(http1_put_header(&b, "A", "b c"), 0);
    assert_int_equal(http1_put_header(&b, "A", "b\r\nX: y"), -1);
    assert_int_equal(http1_put_header(&b, "A b", "c"), -1);
    assert_int_equal(http1_put_request(&b, "GET", "/a b"), -1);
    http1_put_end(&b);
    http1_put_chunk(&b, "xyz", 3);
    http1_put_chunk(&b, "", 0);
    http1_put_last_chunk(&b);
    assert_string_equal(b.data, "HTTP/1.1 404 Not Found\r\nA: b c\r\n\r\n"
                                "3\r\nxyz\r\n0\r\n\r\n");
    buf_clear(&b);
    assert_int_equal(http1_query("/x?a=1&b%20c=d+e%2F&b=", "b c", &b), 1);
    assert_string_equal(b.data, "d e/");
    buf_clear(&b);
    assert_int_equal(http1_query("/x?a=1&b=", "b", &b), 1);
    assert_string_equal(b.data, "");
    assert_int_equal(http1_query("/x?a=1", "c", &b), 0);
    assert_int_equal(http1_query("/x?a=%zz", "a", &b), -1);
    buf_clear(&b);
    http1_escape(&b, "a/b \xC3\xA4", 6);
    assert_string_equal(b.data, "a%2Fb%20%C3%A4");
    buf_fini(&b);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(requests),  cmocka_unit_test(responses),
    cmocka_unit_test(smuggling), cmocka_unit_test(limits),
    cmocka_unit_test(headers),   cmocka_unit_test(finish),
    cmocka_unit_test(writers),
};
RUN(tests)
