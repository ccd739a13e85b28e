/* host/base/json.c: what jansson alone gets wrong. */
#include "base/json.h"
#include "ctest.h"

#include <stdlib.h>
#include <string.h>

static void round_trip(const char *in, const char *want)
{
    struct err e;
    json_t *v = json_parse(in, strlen(in), &e);
    if (!v)
        fail_msg("%s: %s", in, e.msg);
    struct buf b = {0};
    json_write(&b, v);
    assert_string_equal(b.data, want);
    buf_fini(&b);
    json_decref(v);
}

static void values(void **state)
{
    (void)state;
    round_trip("{\"b\":[],\"a\":{},\"n\":null}",
               "{\"b\":[],\"a\":{},\"n\":null}");
    round_trip("9223372036854775807", "9223372036854775807");
    round_trip("0.1", "0.1");
    round_trip("1.0", "1.0");
    round_trip("1e300", "1e+300");
    round_trip("3.141592653589793", "3.141592653589793");
    round_trip("\"\\u0000\\u0001\\n\"", "\"\\u0000\\u0001\\n\"");
    round_trip("\"\\ud800x\"", "\"\xEF\xBF\xBDx\"");
    round_trip("\"\\ud83d\\ude00\"", "\"\xF0\x9F\x98\x80\"");
    round_trip("\"\\\\ud800\"", "\"\\\\ud800\"");
    round_trip("\"\xFF\"", "\"\xEF\xBF\xBD\"");
}

static void refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "{", "[1,]", "99999999999999999999", "1e400", "{}x", "nul"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct err e = {0};
        assert_null(json_parse(bad[i], strlen(bad[i]), &e));
        assert_string_equal(e.kind, "protocol");
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(values),
    cmocka_unit_test(refused),
};
RUN(tests)
