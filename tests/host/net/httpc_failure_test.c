/* The HTTP client: bad requests, peers that are gone, slow or no HTTP servers,
 * requests closed in the middle. */
#include "httpc_world.h"

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

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static const struct CMUnitTest tests[] = {
    T(refuses_bad_requests),
    T(says_who_refuses),
    T(says_which_name_has_no_address),
    T(talks_to_unix_sockets),
    T(tells_a_cut_from_an_end),
    T(calls_garbage_by_its_name),
    T(bounds_the_head),
    T(keeps_its_deadlines),
    T(is_not_idle_while_nobody_reads),
    T(keeps_the_deadline_of_the_connect),
    T(closes_in_the_middle),
    T(survives_the_client),
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
