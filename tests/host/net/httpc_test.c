/* The HTTP client: what it sends, takes and keeps within bounds. Its failures:
 * httpc_failure_test.c; TLS and proxies: httpc_tls_test.c. */
#include "httpc_world.h"

#include <sys/resource.h>

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
    T(sends_an_empty_header),
    T(passes_over_trailers_and_interim_answers),
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
