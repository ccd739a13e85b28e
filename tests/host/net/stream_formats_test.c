/* host/net/core: Connect envelopes and server-sent events. */
#include "ctest.h"
#include "net/core/connect.h"
#include "net/core/sse.h"

#include <string.h>

static void envelopes(void **state)
{
    (void)state;
    struct buf wire = {0}, got = {0};
    struct connect_reader r;
    struct err e;
    connect_put(&wire, 0, "hello", 5);
    connect_put(&wire, 0, "", 0);
    connect_put(&wire, CONNECT_END, "{}", 2);
    connect_reader_init(&r, 100);
    for (size_t i = 0; i < wire.len; i++) {
        unsigned flags;
        const char *p;
        size_t n;
        connect_reader_feed(&r, wire.data + i, 1);
        while (connect_reader_next(&r, &flags, &p, &n, &e) == 1)
            buf_printf(&got, "%u:%.*s;", flags, (int)n, p);
    }
    assert_string_equal(got.data, "0:hello;0:;2:{};");
    buf_clear(&wire);
    connect_put(&wire, 0, wire.data, 0);
    wire.data[3] = 1; /* 256 bytes announced: over the limit */
    unsigned flags;
    const char *p;
    size_t n;
    connect_reader_feed(&r, wire.data, wire.len);
    assert_int_equal(connect_reader_next(&r, &flags, &p, &n, &e), -1);
    connect_reader_fini(&r);
    buf_fini(&wire);
    buf_fini(&got);
    assert_int_equal(connect_status("not_found"), 404);
    assert_int_equal(connect_status("whatever"), 500);
}

static void note(void *arg, const char *event, const char *data, size_t n)
{
    buf_printf(arg, "%s=%.*s;", event, (int)n, data);
}

static void events(void **state)
{
    (void)state;
    const char *text = "\xEF\xBB\xBF"
                       "event: a\r\ndata: 1\r\ndata:2\r\n\r\n"
                       ": comment\n\ndata\n\nevent: lost\n\n"
                       "data:  x\r\rdata: cut";
    for (size_t step = 1; step < 20; step++) {
        struct sse s;
        struct buf got = {0};
        struct err e;
        sse_init(&s, 1000);
        for (size_t i = 0; i < strlen(text); i += step) {
            size_t n = strlen(text) - i < step ? strlen(text) - i : step;
            assert_int_equal(sse_feed(&s, text + i, n, note, &got, &e), 0);
        }
        assert_string_equal(got.data, "a=1\n2;message=;message= x;");
        buf_fini(&got);
        sse_fini(&s);
    }
    struct sse s;
    struct err e;
    sse_init(&s, 10);
    assert_int_equal(sse_feed(&s, "data: 12345678", 14, note, NULL, &e), -1);
    sse_fini(&s);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(envelopes),
    cmocka_unit_test(events),
};
RUN(tests)
