/* Routing of the data plane: every line of control plane reference 1.5 that a
 * head alone decides, and what must never pass. */
#include "net/server/route.h"
#include "net/server/signature.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>
#include <string.h>

/* A head of NAME, VALUE pairs ended by NULL. */
static struct http1_head head(const char *target, struct http1_header *hs,
                              const char *const *pairs)
{
    struct http1_head h = {.method = "GET", .target = target, .headers = hs};
    for (; pairs[0]; pairs += 2) {
        hs[h.nheaders].name = pairs[0];
        hs[h.nheaders++].value = pairs[1];
    }
    return h;
}

struct sample {
    const char *target;
    const char *pairs[7];
    enum route_kind kind;
    const char *id;
    int port;
    const char *text;
};

static const struct sample SAMPLES[] = {
    {"/", {"Host", "3000-iabc.e2b.localhost:7280"}, ROUTE_BOX, "iabc", 3000, 0},
    {"/", {"Host", "3000-iabc-old.e2b.app"}, ROUTE_BOX, "iabc", 3000, 0},
    {"/x", {"Host", "49983-i1.my.domain"}, ROUTE_BOX, "i1", 49983, 0},
    {"/",
     {"Host", "api.my.domain", "E2b-Sandbox-Id", "i1"},
     ROUTE_CONTROL,
     "",
     0,
     0},
    {"/sandboxes", {"Host", "127.0.0.1:7280"}, ROUTE_CONTROL, "", 0, 0},
    {"/sandboxes", {"Host", "[::1]:7280"}, ROUTE_CONTROL, "", 0, 0},
    {"/sandboxes", {"Host", "e2b.localhost:7280"}, ROUTE_CONTROL, "", 0, 0},
    {"/health",
     {"Host", "localhost", "E2b-Sandbox-Id", "i1", "E2b-Sandbox-Port", "80"},
     ROUTE_BOX,
     "i1",
     80,
     0},
    {"/health",
     {"Host", "[::1]:9", "E2b-Sandbox-Id", "i1", "e2b-sandbox-port", "80"},
     ROUTE_BOX,
     "i1",
     80,
     0},
    {"/",
     {"Host", "sandbox.e2b.app", "E2b-Sandbox-Id", "i1", "E2b-Sandbox-Port",
      "49983"},
     ROUTE_BOX,
     "i1",
     49983,
     0},
    {"/",
     {"Host", "localhost", "E2b-Sandbox-Id", "i1"},
     ROUTE_BAD,
     "",
     0,
     "missing header"},
    {"/",
     {"Host", "localhost", "E2b-Sandbox-Port", "80"},
     ROUTE_BAD,
     "",
     0,
     "missing header"},
    {"/", {"Host", "sandbox.e2b.app"}, ROUTE_BAD, "", 0, "Invalid host"},
    {"/", {"Host", "nodash.e2b.app"}, ROUTE_BAD, "", 0, "Invalid host"},
    {"/", {"Host", "80-i1"}, ROUTE_BAD, "", 0, "Invalid host"},
    {"/", {"Host", "x-i1.e2b.app"}, ROUTE_BAD, "", 0, "Invalid sandbox port"},
    {"/", {"Host", "-i1.e2b.app"}, ROUTE_BAD, "", 0, "Invalid sandbox port"},
    {"/", {"Host", "70000-i1.e.app"}, ROUTE_BAD, "", 0, "Invalid sandbox port"},
    {"/", {"Host", "80-I1.e2b.app"}, ROUTE_BAD, "", 0, "Invalid sandbox ID"},
    {"/", {"Host", "80-.e2b.app"}, ROUTE_BAD, "", 0, "Invalid sandbox ID"},
    {"/",
     {"Host", "localhost", "E2b-Sandbox-Id", "../x", "E2b-Sandbox-Port", "1"},
     ROUTE_BAD,
     "",
     0,
     "Invalid sandbox ID"},
    /* Host beats the headers. */
    {"/",
     {"Host", "80-i1.e2b.app", "E2b-Sandbox-Id", "i2", "E2b-Sandbox-Port",
      "81"},
     ROUTE_BOX,
     "i1",
     80,
     0},
    {"/files?path=a", {"Host", "127.0.0.1:1"}, ROUTE_SIGNED, "", 0, 0},
    {"/filesx", {"Host", "127.0.0.1:1"}, ROUTE_CONTROL, "", 0, 0},
    {"http://h/init", {"Host", "h"}, ROUTE_BAD, "", 0, "Invalid target"},
};

static void test_samples(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(SAMPLES) / sizeof(*SAMPLES); i++) {
        const struct sample *s = &SAMPLES[i];
        struct http1_header hs[4];
        struct http1_head h = head(s->target, hs, s->pairs);
        struct route r;
        route_find(&h, &r);
        if (r.kind != s->kind || strcmp(r.id, s->id) != 0 ||
            (r.kind == ROUTE_BOX && r.port != s->port) ||
            (s->text && strcmp(s->text, r.text) != 0))
            fail_msg("%s %s: kind %d id '%s' port %d text %s", s->pairs[1],
                     s->target, r.kind, r.id, r.port, r.text ? r.text : "-");
    }
}

static void test_reserved(void **state)
{
    (void)state;
    static const char *const closed[] = {
        "/init",        "/init?x=1",
        "//init",       "/init/",
        "/%69nit",      "/./init",
        "/a/../init",   "/_engine/listeners",
        "/_engine",     "/INIT",
        "/%5fengine/x", "/freeze",
        "/unfreeze",    "/collapse",
        "/fsfreeze",    "/fsthaw",
        "/upgrade#x",   "/x/%2e%2e/_engine/deadline",
    };
    static const char *const open[] = {
        "/",
        "/health",
        "/files?path=/init",
        "/initial",
        "/process.Process/Start",
    };
    char path[2048];
    for (size_t i = 0; i < sizeof(closed) / sizeof(*closed); i++)
        if (route_reserved(closed[i], path, sizeof(path)) != 1)
            fail_msg("%s passes", closed[i]);
    for (size_t i = 0; i < sizeof(open) / sizeof(*open); i++)
        if (route_reserved(open[i], path, sizeof(path)) != 0)
            fail_msg("%s is refused", open[i]);
    assert_int_equal(route_reserved("/%zz", path, sizeof(path)), -1);
    assert_int_equal(route_reserved("/init%00", path, sizeof(path)), -1);
}

static bool browser(const char *const *pairs)
{
    struct http1_header hs[4];
    struct http1_head h = head("/", hs, pairs);
    return route_browser(&h);
}

static void test_browser(void **state)
{
    (void)state;
    const char *ua = "User-Agent", *moz = "Mozilla/5.0 (X11)";
    assert_true(browser((const char *[]){ua, moz, NULL}));
    assert_false(browser((const char *[]){ua, "curl/7.88", NULL}));
    assert_false(browser((const char *[]){NULL}));
    assert_false(
        browser((const char *[]){ua, moz, "Accept", "application/json", NULL}));
    assert_true(browser((const char *[]){ua, moz, "Accept",
                                         "text/html,application/json", NULL}));
    assert_false(
        browser((const char *[]){ua, moz, "Sec-Fetch-Mode", "cors", NULL}));
    assert_false(browser(
        (const char *[]){ua, moz, "X-Requested-With", "XMLHttpRequest", NULL}));
    assert_true(browser((const char *[]){ua, moz, "X-Requested-With", "x",
                                         "Sec-Fetch-Mode", "navigate", NULL}));
}

#define PLAIN_URL "v1_sImrT6IwEDVeXjOUNJQOOnF5cIT4tQ%2Bm6g3uHKYtpu8"
#define UNTIL_URL "v1_gsaEK1wX%2B6kbiFoEuA5OahHyHuP1eK3eZJ5Of4rGBEA"

static void test_signature(void **state)
{
    (void)state;
    const char *good =
        "/files?path=%2Fhome%2Fuser%2Ff.txt&signature=" PLAIN_URL;
    assert_int_equal(signature_check("GET", good, "tok", 1), SIGNATURE_GOOD);
    assert_int_equal(signature_check("POST", good, "tok", 1), SIGNATURE_WRONG);
    assert_int_equal(signature_check("PUT", good, "tok", 1), SIGNATURE_WRONG);
    assert_int_equal(signature_check("GET", good, "other", 1), SIGNATURE_WRONG);
    const char *until =
        "/files?signature_expiration=1767229200&signature=" UNTIL_URL
        "&path=/home/user/f.txt";
    assert_int_equal(signature_check("GET", until, "tok", 1767229200),
                     SIGNATURE_GOOD);
    assert_int_equal(signature_check("GET", until, "tok", 1767229201),
                     SIGNATURE_EXPIRED);
    assert_int_equal(signature_check("GET", "/files?path=a", "tok", 1),
                     SIGNATURE_MISSING);
    assert_int_equal(signature_check("GET", "/files?signature=", "tok", 1),
                     SIGNATURE_WRONG);
    assert_string_equal(signature_text(SIGNATURE_MISSING),
                        "missing signature query parameter");
    assert_string_equal(signature_text(SIGNATURE_WRONG), "invalid signature");
    assert_string_equal(signature_text(SIGNATURE_EXPIRED),
                        "signature is already expired");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_reserved),
        cmocka_unit_test(test_browser),
        cmocka_unit_test(test_signature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
