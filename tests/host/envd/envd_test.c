/* The daemon in a sandbox: the protocol's edges, its other calls, its end. */
#include "envdrig.h"

#include <sys/prctl.h>

/* ---- the protocol's edges ------------------------------------------------ */

static void garbage(void **state)
{
    (void)state;
    struct events s;
    struct talk t;
    struct buf out = {0};
    static const char start_path[] = "/process.Process/Start";
    expect_rpc("List", "", "{", 400, "\"code\":\"invalid_argument\"");
    expect_rpc("List", "", "[]", 400, "invalid_argument");
    expect_rpc("List", "Content-Encoding: br\r\n", "{}", 501, "unimplemented");
    expect_rpc("SendSignal", "", "{\"process\":{\"pid\":-5}}", 404, "");
    expect_rpc("SendSignal", "", "{\"process\":{\"pid\":\"x\"}}", 404, "");
    expect_http("POST", "/process.Process/Nope", JSON_TYPE, "{}", 404, "code");
    expect_http("GET", "/process.Process/List", "", "", 405, "");
    expect_http("POST", "/process.Process/List", "Content-Type: text/html\r\n",
                "", 415, "");
    expect_http("POST", start_path, JSON_TYPE, "{}", 415, "");
    expect_http("GET", "/nope", "", "", 404, "\"code\":404");
    expect_http("DELETE", "/health", "", "", 405, "");

    /* an envelope that says it is too long, one cut short, one compressed */
    static const struct {
        const char *bytes;
        size_t n;
        const char *code;
    } bad[] = {
        {"\0\377\377\377\377{}", 7, "resource_exhausted"},
        {"\0\0\0\0\12{}", 7, "invalid_argument"},
        {"\1\0\0\0\2{}", 7, "unimplemented"},
        {"\10\0\0\0\2{}", 7, "invalid_argument"},
        {"", 0, "invalid_argument"},
        {"\0\0\0\0\2x}", 7, "invalid_argument"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        talk_open(&t);
        talk_ask(&t, "POST", start_path, STREAM_TYPE, bad[i].bytes, bad[i].n);
        assert_int_equal(talk_head(&t), 200);
        buf_clear(&out);
        talk_body(&t, &out);
        assert_true(out.len > 5 && out.data[0] == CONNECT_END);
        if (!strstr(out.data + 5, bad[i].code))
            fail_msg("%zu: %s", i, out.data + 5);
        talk_close(&t);
    }
    buf_fini(&out);
    start(&s, "", "echo alive", NO_INPUT);
    events_all(&s);
    assert_string_equal(s.out.data, "alive\n");
    events_close(&s);
}

static void file_system(void **state)
{
    (void)state;
    static const char fs[] = "/filesystem.Filesystem/";
    struct talk t;
    struct buf out = {0};
    char target[64];
    snprintf(target, sizeof(target), "%sStat", fs);
    expect_http("POST", target, JSON_TYPE, "{\"path\":\"/nope\"}", 404,
                "\"code\":\"not_found\"");
    expect_http("POST", target, JSON_TYPE, "{\"path\":\"/etc/passwd\"}", 200,
                "\"FILE_TYPE_FILE\"");
    expect_http("POST", target,
                JSON_TYPE "Authorization: Basic bm9zdWNoOg==\r\n",
                "{\"path\":\"/\"}", 401, "invalid username: 'nosuch'");
    snprintf(target, sizeof(target), "%sNope", fs);
    expect_http("POST", target, JSON_TYPE, "{}", 501, "unimplemented");
    snprintf(target, sizeof(target), "%sWatchDir", fs);
    talk_open(&t);
    talk_ask(&t, "POST", target, STREAM_TYPE, "\0\0\0\0\2{}", 7);
    assert_int_equal(talk_head(&t), 200);
    talk_body(&t, &out);
    assert_true(out.len > 5 && strstr(out.data + 5, "unimplemented"));
    talk_close(&t);
    buf_fini(&out);
    /* the client goes while a worker has its call */
    for (int i = 0; i < 20; i++) {
        snprintf(target, sizeof(target), "%sListDir", fs);
        talk_open(&t);
        talk_ask(&t, "POST", target, JSON_TYPE,
                 "{\"path\":\"/usr\",\"depth\":3}", 25);
        talk_close(&t);
    }
    expect_http("GET", "/health", "", "", 204, "");
}

static void oversized_unary(void **state)
{
    (void)state;
    struct talk t;
    char piece[65536];
    talk_open(&t);
    int n =
        snprintf(piece, sizeof(piece),
                 "POST /process.Process/List HTTP/1.1\r\nHost: x\r\n" JSON_TYPE
                 "Content-Length: %u\r\n\r\n",
                 CONNECT_MAX + 65536);
    talk_send(&t, piece, (size_t)n);
    memset(piece, ' ', sizeof(piece));
    for (unsigned i = 0; i < CONNECT_MAX / sizeof(piece) + 1; i++)
        talk_send(&t, piece, sizeof(piece));
    assert_int_equal(talk_head(&t), 429);
    talk_close(&t);
}

static void plain_endpoints(void **state)
{
    (void)state;
    struct talk t;
    expect_http("GET", "/health", "", "", 204, "");
    expect_http("GET", "/health?x=1", "", "", 204, "");
    expect_http("GET", "/envs", "", "", 200, "\"E2B_SANDBOX\":\"true\"");
    expect_http("GET", "/metrics", "", "", 200, "\"cpu_count\":");
    talk_open(&t);
    talk_ask(&t, "OPTIONS", "/process.Process/Start",
             "Origin: http://a\r\nAccess-Control-Request-Method: POST\r\n"
             "Access-Control-Request-Headers: x-access-token\r\n",
             "", 0);
    assert_int_equal(talk_head(&t), 204);
    const struct http1_head *h = http1_head(t.parser);
    assert_string_equal(http1_get(h, "Access-Control-Allow-Origin"), "*");
    assert_string_equal(http1_get(h, "Access-Control-Allow-Headers"),
                        "x-access-token");
    talk_close(&t);
    talk_open(&t);
    talk_ask(&t, "GET", "/health", "Origin: http://a\r\n", "", 0);
    assert_int_equal(talk_head(&t), 204);
    h = http1_head(t.parser);
    assert_non_null(http1_get(h, "Access-Control-Expose-Headers"));
    talk_close(&t);
}

#define TOKEN "X-Access-Token: secret1\r\n"

static void token_and_init(void **state)
{
    (void)state;
    struct events s;
    static const char wrong[] = "X-Access-Token: nope\r\n";
    static const char text[] = "unauthorized access, please provide";
    expect_http("POST", "/init", "", "{\"accessToken\":5}", 400, "accessToken");
    expect_http("POST", "/init", "", "nonsense", 400, "");
    expect_http("POST", "/init", "", "{\"timestamp\":\"x\"}", 400, "RFC 3339");
    expect_http("POST", "/init", "",
                "{\"accessToken\":\"secret1\",\"envVars\":{\"G\":\"1\","
                "\"E2B_SANDBOX\":\"no\"},\"defaultWorkdir\":\"/usr\","
                "\"timestamp\":\"2026-01-02T03:04:05.5Z\"}",
                204, "");
    expect_http("GET", "/health", "", "", 204, "");
    expect_http("GET", "/envs", "", "", 401, text);
    expect_http("GET", "/envs", wrong, "", 401, text);
    expect_http("GET", "/health/", "", "", 401, text);
    expect_http("POST", "/health", "", "", 401, text);
    expect_http("GET", "/nope", "", "", 401, text);
    expect_http("GET", "/files?path=/etc/passwd", "", "", 401,
                "missing signature query parameter");
    expect_http("GET", "/files?path=/etc/passwd", wrong, "", 401,
                "does not match");
    expect_http("GET", "/files?path=/etc/passwd", TOKEN, "", 200, "root:");
    expect_http("POST", "/_engine/deadline", "", "{}", 401, text);
    expect_rpc("List", "", "{}", 401, text);
    expect_rpc("List", TOKEN, "{}", 200, "processes");
    expect_http("GET", "/envs", TOKEN, "", 200, "\"E2B_SANDBOX\":\"true\"");
    expect_http("GET", "/envs", TOKEN, "", 200, "\"G\":\"1\"");
    start(&s, TOKEN, "pwd; echo $G", NO_INPUT);
    events_all(&s);
    assert_string_equal(s.out.data, "/usr\n1\n");
    events_close(&s);

    expect_http("POST", "/init", "", "{}", 401, "access token");
    expect_http("POST", "/init", wrong, "{}", 401, "access token");
    /* older than what was applied: accepted and ignored */
    expect_http("POST", "/init", TOKEN,
                "{\"accessToken\":\"old\",\"timestamp\":"
                "\"2026-01-02T04:04:05.4+01:00\"}",
                204, "");
    expect_http("GET", "/envs", TOKEN, "", 200, "\"G\"");
    /* the token may change with the old one shown, or vanish */
    expect_http("POST", "/init", TOKEN, "{\"accessToken\":\"new\"}", 204, "");
    expect_http("GET", "/envs", TOKEN, "", 401, text);
    expect_http("POST", "/init", "X-Access-Token: new\r\n",
                "{\"envVars\":{},\"defaultWorkdir\":\"\",\"defaultUser\":"
                "\"daemon\"}",
                204, "");
    expect_http("GET", "/envs", "", "", 200, "{\"E2B_SANDBOX\":\"true\"}");
    start(&s, "", "id -un", NO_INPUT);
    events_all(&s);
    assert_string_equal(s.out.data, "daemon\n");
    events_close(&s);
    expect_http("POST", "/init", "", "{\"defaultUser\":\"root\"}", 204, "");
}

static void hand_over(void **state)
{
    (void)state;
    int sock = rig_dial();
    for (int family = 4; family <= 6; family += 2) {
        char word[8] = {0, 'E', '2', 'B', (char)('0' + family), 3, 0, 0};
        char answer = 0;
        int fds[8], n = 0, domain = 0;
        socklen_t len = sizeof(domain);
        /* in two pieces: the first byte decides, the rest is awaited */
        assert_int_equal(fd_write_all(sock, word, 2, &rig.e), 0);
        rig_sleep(20);
        assert_int_equal(fd_write_all(sock, word + 2, 6, &rig.e), 0);
        assert_int_equal(fd_recv(sock, &answer, 1, fds, 8, &n, &rig.e), 1);
        assert_int_equal(answer, 'k');
        assert_int_equal(n, 3);
        assert_int_equal(
            getsockopt(fds[0], SOL_SOCKET, SO_DOMAIN, &domain, &len), 0);
        assert_int_equal(domain, family == 4 ? AF_INET : AF_INET6);
        assert_true(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
        while (n > 0)
            close(fds[--n]);
    }
    char bad[8] = {0, 'E', '2', 'B', '5', 1, 0, 0}, c;
    assert_int_equal(fd_write_all(sock, bad, 8, &rig.e), 0);
    assert_int_equal(read(sock, &c, 1), 0);
    close(sock);
}

/* ---- the dead-man deadline ----------------------------------------------- */

static bool gone_within(int ms)
{
    for (int i = 0; i < ms / 20; i++) {
        int status;
        if (waitpid(rig.pid, &status, WNOHANG) == rig.pid) {
            rig.pid = 0;
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            return true;
        }
        rig_sleep(20);
    }
    return false;
}

static void deadline(void **state)
{
    (void)state;
    struct events s;
    rig_stop();
    rig_start("400");
    expect_http("POST", "/_engine/deadline", "", "{}", 400, "milliseconds");
    expect_http("POST", "/_engine/deadline", "",
                "{\"deadline_ms_from_now\":-1}", 400, "milliseconds");
    expect_http("POST", "/_engine/deadline", "",
                "{\"deadline_ms_from_now\":100}", 204, "");
    started(&s, "", "exec sleep 60", NO_INPUT);
    /* an engine that goes on speaking keeps it */
    for (int i = 0; i < 5; i++) {
        rig_sleep(250);
        expect_http("POST", "/init", "", "{}", 204, "");
    }
    expect_http("POST", "/_engine/deadline", "",
                "{\"deadline_ms_from_now\":null}", 204, "");
    assert_false(gone_within(800));
    expect_http("POST", "/_engine/deadline", "", "{\"deadline_ms_from_now\":0}",
                204, "");
    assert_true(gone_within(5000));
    int status = 0; /* what it had started has come to us */
    assert_int_equal(waitpid((pid_t)s.pid, &status, 0), s.pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    events_close(&s);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(garbage),         cmocka_unit_test(file_system),
    cmocka_unit_test(oversized_unary), cmocka_unit_test(plain_endpoints),
    cmocka_unit_test(token_and_init),  cmocka_unit_test(hand_over),
    cmocka_unit_test(deadline),
};

int main(void)
{
    if (geteuid() != 0) {
        puts("skipped: needs root to start commands as some user");
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    return cmocka_run_group_tests(tests, group_start, group_stop);
}
