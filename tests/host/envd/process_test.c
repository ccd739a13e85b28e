/* Commands in a sandbox, as the daemon's clients meet them. */
#include "envdrig.h"

#include <sys/prctl.h>

static void ends_with(const char *script, int code, const char *status)
{
    struct events s;
    start(&s, "", script, NO_INPUT);
    events_all(&s);
    if (!s.ended || !s.finished || strcmp(s.status, status) != 0 ||
        s.exit_code != code)
        fail_msg("%s: %d '%s' %s", script, s.exit_code, s.status, s.error);
    assert_int_equal(s.exited, code >= 0);
    assert_string_equal(s.end_error, code ? status : "");
    assert_string_equal(s.code, "");
    events_close(&s);
}

static void output_and_exit(void **state)
{
    (void)state;
    struct events s;
    start(&s, "", "echo hi; echo no >&2; exit 7", NO_INPUT);
    events_all(&s);
    assert_true(s.pid > 0);
    assert_string_equal(s.out.data, "hi\n");
    assert_string_equal(s.err.data, "no\n");
    assert_int_equal(s.exit_code, 7);
    events_close(&s);
    ends_with("exit 0", 0, "exit status 0");
    ends_with("exit 255", 255, "exit status 255");
    ends_with("kill -9 $$", -1, "signal: killed");
    ends_with("kill -15 $$", -1, "signal: terminated");
    ends_with("ulimit -c 0; kill -11 $$", -1, "signal: segmentation fault");
    ends_with("kill -13 $$", -1, "signal: broken pipe");
}

static void binary_output(void **state)
{
    (void)state;
    struct events s;
    start(&s, "", "printf '\\000\\377\\303('; head -c 100000 /dev/zero",
          NO_INPUT);
    events_all(&s);
    assert_int_equal(s.out.len, 100004);
    assert_memory_equal(s.out.data, "\0\377\303(\0\0", 6);
    events_close(&s);
}

static void environment(void **state)
{
    (void)state;
    struct events s;
    start(&s, "", "echo $A-$HOME-$USER-$LOGNAME-$E2B_SANDBOX-$#; pwd", "");
    events_all(&s);
    assert_string_equal(s.out.data, "-/root-root-root-true-0\n/root\n");
    events_close(&s);
    events_open(&s, "Start", "",
                "{\"process\":{\"cmd\":\"env\",\"envs\":{\"A\":\"1\",\"HOME\":"
                "\"/x\",\"PATH\":\"/usr/bin:/bin\"},\"cwd\":\"/tmp\"}}");
    events_all(&s);
    assert_non_null(strstr(s.out.data, "A=1\n"));
    assert_non_null(strstr(s.out.data, "HOME=/x\n"));
    assert_null(strstr(s.out.data, "HOME=/root"));
    assert_non_null(strstr(s.out.data, "PATH=/usr/bin:/bin\n"));
    events_close(&s);
}

/* What is envd's own does not reach a program. */
static void clean_start(void **state)
{
    (void)state;
    struct events s;
    start(&s, "",
          "ulimit -n; ls /proc/self/fd | wc -l; grep -E 'Sig(Blk|Ign)' "
          "/proc/self/status; ps -o sid= -p $$ | tr -d ' '; echo $$",
          NO_INPUT);
    events_all(&s);
    char want[256];
    snprintf(want, sizeof(want),
             "200\n4\nSigBlk:\t%016d\nSigIgn:\t%016d\n%ld\n%ld\n", 0, 0, s.pid,
             s.pid);
    assert_string_equal(s.out.data, want);
    events_close(&s);
}

static void fails(const char *headers, const char *json, const char *code,
                  const char *text)
{
    struct events s;
    events_open(&s, "Start", headers, json);
    events_all(&s);
    if (strcmp(s.code, code) != 0 || !strstr(s.error, text))
        fail_msg("%s: %s %s", json, s.code, s.error);
    assert_int_equal(s.pid, 0);
    events_close(&s);
}

static void refused_starts(void **state)
{
    (void)state;
    static const char bad[] = "invalid_argument";
    fails("", "{\"process\":{\"cmd\":\"true\",\"cwd\":\"/nope\"}}", bad,
          "cwd '/nope' does not exist");
    fails("", "{\"process\":{\"cmd\":\"true\",\"cwd\":\"/etc/passwd\"}}", bad,
          "error starting process 'true': chdir /etc/passwd: not a directory");
    fails("", "{\"process\":{\"cmd\":\"nope\",\"args\":[\"a\"]}}", bad,
          "error starting process 'nope a': exec: \"nope\": executable file "
          "not found in $PATH");
    fails("", "{\"process\":{\"cmd\":\"/nope\"}}", bad,
          "fork/exec /nope: no such file or directory");
    fails("", "{\"process\":{\"cmd\":\"/etc/passwd\"}}", bad,
          "fork/exec /etc/passwd: permission denied");
    fails("", "{}", bad, "no command");
    fails("", "{\"process\":5}", bad, "process: must be an object");
    fails("", "{\"process\":{\"cmd\":\"true\",\"args\":[1]}}", bad, "args[0]");
    fails("", "{\"process\":{\"cmd\":\"true\",\"envs\":{\"A=B\":\"\"}}}", bad,
          "'A=B'");
    fails("", "{\"process\":{\"cmd\":\"a\\u0000b\"}}", bad, "NUL");
    fails("Authorization: Basic bm9zdWNoOg==\r\n",
          "{\"process\":{\"cmd\":\"true\"}}", "unauthenticated",
          "invalid username: 'nosuch'");
    fails("Connect-Timeout-Ms: x\r\n", "{\"process\":{\"cmd\":\"true\"}}", bad,
          "Connect-Timeout-Ms");
    fails("",
          "{\"process\":{\"cmd\":\"true\"},\"pty\":{\"size\":{\"cols\":-1}}}",
          bad, "pty.size.cols");
    fails("",
          "{\"process\":{\"cmd\":\"/nope\",\"cwd\":\"/\"},\"pty\":{\"size\":"
          "{\"cols\":80,\"rows\":24}}}",
          bad,
          "error starting pty with command '/nope' in dir '/' with '80' cols "
          "and '24' rows: fork/exec /nope: no such");
}

static void other_user(void **state)
{
    (void)state;
    struct events s;
    events_open(&s, "Start", "Authorization: Basic ZGFlbW9uOg==\r\n",
                "{\"process\":{\"cmd\":\"id\",\"cwd\":\"/\"}}");
    events_all(&s);
    assert_non_null(strstr(s.out.data, "(daemon)"));
    assert_null(strstr(s.out.data, "root"));
    events_close(&s);
    fails("Authorization: Basic ZGFlbW9uOg==\r\n",
          "{\"process\":{\"cmd\":\"id\",\"cwd\":\"/root\"}}",
          "invalid_argument", "chdir /root: permission denied");
}

static void standard_input(void **state)
{
    (void)state;
    struct events s;
    char text[256];
    started(&s, "", "cat; echo end", "");
    snprintf(text, sizeof(text),
             "{\"process\":{\"pid\":%ld},\"input\":{\"stdin\":\"YWIK\"}}",
             s.pid);
    expect_rpc("SendInput", "", text, 200, "{}");
    snprintf(text, sizeof(text), "{\"process\":{\"pid\":\"%ld\"}}", s.pid);
    expect_rpc("CloseStdin", "", text, 200, "{}");
    expect_rpc("CloseStdin", "", text, 200, "{}");
    events_all(&s);
    assert_string_equal(s.out.data, "ab\nend\n");
    expect_rpc("CloseStdin", "", text, 404, "not_found");
    events_close(&s);

    started(&s, "", "read x; echo $x; sleep 5", NO_INPUT);
    snprintf(text, sizeof(text),
             "{\"process\":{\"pid\":%ld},\"input\":{\"stdin\":\"YWIK\"}}",
             s.pid);
    expect_rpc("SendInput", "", text, 500, "stdin not enabled or closed");
    snprintf(text, sizeof(text), "{\"process\":{\"pid\":%ld}}", s.pid);
    expect_rpc("SendInput", "", text, 501, "unimplemented");
    snprintf(text, sizeof(text),
             "{\"process\":{\"pid\":%ld},\"input\":{\"pty\":\"YWIK\"}}", s.pid);
    expect_rpc("SendInput", "", text, 500, "tty not assigned");
    snprintf(text, sizeof(text),
             "{\"process\":{\"pid\":%ld},\"signal\":\"SIGNAL_SIGKILL\"}",
             s.pid);
    expect_rpc("SendSignal", "", text, 200, "{}");
    events_all(&s);
    assert_string_equal(s.status, "signal: killed");
    events_close(&s);
}

/* More than a pipe holds: the answer comes when it has been read. */
static void slow_input(void **state)
{
    (void)state;
    struct events s;
    struct buf b = {0}, data = {0};
    started(&s, "", "sleep 0.3; wc -c", "");
    memset(buf_reserve(&data, 300000), 'x', 300000);
    data.len = 300000;
    buf_printf(&b, "{\"process\":{\"pid\":%ld},\"input\":{\"stdin\":\"", s.pid);
    base64_encode(&b, data.data, data.len);
    buf_puts(&b, "\"}}");
    double before = rig_now();
    expect_rpc("SendInput", "Connect-Timeout-Ms: 50\r\n", b.data, 504,
               "deadline_exceeded");
    expect_rpc("SendInput", "", b.data, 200, "{}");
    assert_true(rig_now() - before > 0.2);
    buf_clear(&b);
    buf_printf(&b, "{\"process\":{\"pid\":%ld}}", s.pid);
    expect_rpc("CloseStdin", "", b.data, 200, "{}");
    events_all(&s);
    assert_string_equal(s.out.data, "600000\n");
    events_close(&s);
    buf_fini(&b);
    buf_fini(&data);
}

static void put_chunk(struct talk *t, const char *json)
{
    struct buf m = {0}, c = {0};
    connect_put(&m, 0, json, strlen(json));
    http1_put_chunk(&c, m.data, m.len);
    talk_send(t, c.data, c.len);
    buf_fini(&m);
    buf_fini(&c);
}

static void stream_input(void **state)
{
    (void)state;
    struct events s;
    struct talk t;
    struct buf b = {0}, out = {0};
    started(&s, "", "read a; echo got $a; read b; echo got $b", "");
    talk_open(&t);
    buf_puts(&b, "POST /process.Process/StreamInput HTTP/1.1\r\nHost: x\r\n"
                 "Transfer-Encoding: chunked\r\n" STREAM_TYPE "\r\n");
    talk_send(&t, b.data, b.len);
    buf_clear(&b);
    buf_printf(&b, "{\"start\":{\"process\":{\"pid\":%ld}}}", s.pid);
    put_chunk(&t, b.data);
    put_chunk(&t, "{\"data\":{\"input\":{\"stdin\":\"b25lCg==\"}}}");
    while (!s.out.len)
        assert_true(events_next(&s));
    assert_string_equal(s.out.data, "got one\n");
    put_chunk(&t, "{\"keepalive\":{}}");
    put_chunk(&t, "{\"data\":{\"input\":{\"stdin\":\"dHdvCg==\"}}}");
    talk_send(&t, "0\r\n\r\n", 5);
    assert_int_equal(talk_head(&t), 200);
    talk_body(&t, &out);
    assert_int_equal(out.len, 14);
    assert_memory_equal(out.data, "\0\0\0\0\2{}\2\0\0\0\2{}", 14);
    events_all(&s);
    assert_string_equal(s.out.data, "got one\ngot two\n");
    talk_close(&t);
    events_close(&s);
    buf_fini(&b);
    buf_fini(&out);
}

static void read_until(struct events *s, struct buf *b, const char *text)
{
    while (!b->data || !strstr(b->data, text))
        if (!events_next(s))
            fail_msg("ended before '%s'", text);
}

static void pseudo_terminal(void **state)
{
    (void)state;
    struct events s;
    char text[256], target[64];
    events_open(&s, "Start", "Authorization: Basic ZGFlbW9uOg==\r\n",
                "{\"process\":{\"cmd\":\"/bin/sh\",\"cwd\":\"/\",\"args\":["
                "\"-c\",\"stty size; tty; stty -echo; : </dev/tty && echo "
                "owned; read x; stty size; echo $x; read y; exit 6\"]},"
                "\"pty\":{\"size\":{\"cols\":80,\"rows\":24}}}");
    read_until(&s, &s.tty, "owned");
    assert_non_null(strstr(s.tty.data, "24 80\r\n/dev/pts/"));
    snprintf(target, sizeof(target), "{\"process\":{\"pid\":%ld}", s.pid);
    snprintf(text, sizeof(text),
             "%s,\"pty\":{\"size\":{\"cols\":100,\"rows\":\"30\"}}}", target);
    expect_rpc("Update", "", text, 200, "{}");
    snprintf(text, sizeof(text), "%s,\"input\":{\"stdin\":\"YWIK\"}}", target);
    expect_rpc("SendInput", "", text, 500, "written to the pty");
    snprintf(text, sizeof(text), "%s,\"input\":{\"pty\":\"YWIK\"}}", target);
    expect_rpc("SendInput", "", text, 200, "{}");
    read_until(&s, &s.tty, "30 100\r\nab\r\n");
    snprintf(text, sizeof(text), "%s}", target);
    expect_rpc("CloseStdin", "", text, 500, "Ctrl+D");
    snprintf(text, sizeof(text), "%s,\"input\":{\"pty\":\"BA==\"}}", target);
    expect_rpc("SendInput", "", text, 200, "{}");
    events_all(&s);
    assert_int_equal(s.exit_code, 6);
    assert_int_equal(s.out.len + s.err.len, 0);
    events_close(&s);

    started(&s, "", "exec sleep 60", NO_INPUT);
    snprintf(text, sizeof(text),
             "{\"process\":{\"pid\":%ld},\"pty\":{\"size\":{}}}", s.pid);
    expect_rpc("Update", "", text, 500, "tty not assigned to process");
    snprintf(text, sizeof(text), "{\"process\":{\"pid\":%ld},\"signal\":9}",
             s.pid);
    expect_rpc("SendSignal", "", text, 200, "{}");
    events_all(&s);
    events_close(&s);
}

static void signals(void **state)
{
    (void)state;
    struct events s, other;
    char text[128];
    started(&s, "", "echo ready; exec sleep 60", NO_INPUT);
    started(&other, "", "trap 'kill 0' EXIT; sleep 0.2; exit 3", NO_INPUT);
    events_all(&other); /* kills its own session only */
    events_close(&other);
    snprintf(text, sizeof(text),
             "{\"process\":{\"pid\":%ld},\"signal\":\"SIGNAL_SIGHUP\"}", s.pid);
    expect_rpc("SendSignal", "", text, 501, "invalid signal");
    snprintf(text, sizeof(text), "{\"process\":{\"pid\":%ld}}", s.pid);
    expect_rpc("SendSignal", "", text, 501,
               "invalid signal: SIGNAL_UNSPECIFIED");
    snprintf(text, sizeof(text),
             "{\"process\":{\"pid\":%ld},\"signal\":\"SIGNAL_SIGTERM\"}",
             s.pid);
    expect_rpc("SendSignal", "", text, 200, "{}");
    events_all(&s);
    assert_string_equal(s.status, "signal: terminated");
    assert_string_equal(s.out.data, "ready\n");
    expect_rpc("SendSignal", "", text, 404, "not found");
    expect_rpc("SendSignal", "", "{\"process\":{\"pid\":1}}", 404,
               "process with pid 1 not found");
    expect_rpc("SendSignal", "", "{}", 501, "selector");
    events_close(&s);
}

/* A background child holds the output: end waits for it, unless signalled. */
static void end_of_output(void **state)
{
    (void)state;
    struct events s;
    char text[128];
    double before = rig_now();
    start(&s, "", "(sleep 0.5; echo late) & echo early", NO_INPUT);
    events_all(&s);
    assert_true(rig_now() - before > 0.4);
    assert_string_equal(s.out.data, "early\nlate\n");
    events_close(&s);

    started(&s, "", "echo $$; sleep 60 & echo x; wait", NO_INPUT);
    snprintf(text, sizeof(text), "{\"process\":{\"pid\":%ld},\"signal\":9}",
             s.pid);
    before = rig_now();
    expect_rpc("SendSignal", "", text, 200, "{}");
    events_all(&s);
    assert_true(s.ended);
    assert_true(rig_now() - before < 5);
    events_close(&s);
}

static void connect_by_pid(void **state)
{
    (void)state;
    struct events s, a, b;
    char text[128];
    started(&s, "", "read x; echo $x; exit 4", ",\"tag\":\"t1\"");
    snprintf(text, sizeof(text), "{\"process\":{\"pid\":%ld}}", s.pid);
    events_open(&a, "Connect", "", text);
    assert_true(events_next(&a));
    assert_int_equal(a.pid, s.pid);
    events_open(&b, "Connect", "", "{\"process\":{\"tag\":\"t1\"}}");
    assert_true(events_next(&b));
    expect_rpc("List", "", "", 200, "\"tag\":\"t1\"");
    expect_rpc("List", "", "{}", 200, "\"cmd\":\"/bin/sh\"");
    expect_rpc("SendInput", "",
               "{\"process\":{\"tag\":\"t1\"},\"input\":{\"stdin\":\"YWIK\"}}",
               200, "{}");
    events_all(&a);
    events_all(&b);
    events_all(&s);
    assert_string_equal(a.out.data, "ab\n");
    assert_string_equal(b.out.data, "ab\n");
    assert_int_equal(a.exit_code + b.exit_code + s.exit_code, 12);
    expect_rpc("List", "", "{}", 200, "{\"processes\":[]}");
    events_close(&a);
    events_close(&b);
    /* Its end is still known. */
    events_open(&a, "Connect", "", text);
    events_all(&a);
    assert_int_equal(a.pid, s.pid);
    assert_int_equal(a.exit_code, 4);
    assert_true(a.finished);
    events_close(&a);
    events_close(&s);
    events_open(&a, "Connect", "", "{\"process\":{\"tag\":\"t1\"}}");
    events_all(&a);
    assert_int_equal(a.exit_code, 4);
    events_close(&a);
    events_open(&a, "Connect", "", "{\"process\":{\"pid\":999999}}");
    events_all(&a);
    assert_string_equal(a.code, "not_found");
    assert_string_equal(a.error, "process with pid 999999 not found");
    events_close(&a);
}

static void timeouts(void **state)
{
    (void)state;
    struct events s, c;
    char text[128];
    double before = rig_now();
    started(&s, "Connect-Timeout-Ms: 600\r\n", "sleep 50 & exec sleep 60",
            NO_INPUT);
    snprintf(text, sizeof(text), "{\"process\":{\"pid\":%ld}}", s.pid);
    events_open(&c, "Connect", "Connect-Timeout-Ms: 100\r\n", text);
    events_all(&c);
    assert_string_equal(c.code, "deadline_exceeded");
    assert_false(c.ended);
    events_close(&c);
    events_open(&c, "Connect", "", text);
    events_all(&s);
    assert_string_equal(s.code, "deadline_exceeded");
    assert_false(s.ended);
    events_all(&c); /* the other watcher sees the kill */
    assert_string_equal(c.status, "signal: killed");
    assert_true(rig_now() - before < 10);
    events_close(&c);
    events_close(&s);
}

static void keep_alive(void **state)
{
    (void)state;
    struct events s;
    start(&s, "Keepalive-Ping-Interval: 1\r\n", "sleep 1.5; echo x", NO_INPUT);
    events_all(&s);
    assert_int_equal(s.pings, 1);
    events_close(&s);
}

static void disconnect(void **state)
{
    (void)state;
    struct events s, c;
    char text[128];
    started(&s, "", "sleep 0.3; head -c 1000000 /dev/zero; echo y; exit 5",
            NO_INPUT);
    snprintf(text, sizeof(text), "{\"process\":{\"pid\":%ld}}", s.pid);
    events_close(&s); /* nobody reads: the output is dropped */
    rig_sleep(500);
    events_open(&c, "Connect", "", text);
    events_all(&c);
    assert_int_equal(c.exit_code, 5);
    assert_int_equal(c.out.len, 0);
    events_close(&c);
}

static long rss_kib(void)
{
    char name[64], line[256];
    long kib = 0;
    snprintf(name, sizeof(name), "/proc/%d/status", (int)rig.pid);
    FILE *f = fopen(name, "re");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f))
        sscanf(line, "VmRSS: %ld", &kib);
    fclose(f);
    return kib;
}

static void slow_reader(void **state)
{
    (void)state;
    struct events s;
    start(&s, "", "head -c 10000000 /dev/zero | tr '\\0' x; echo done >&2",
          NO_INPUT);
    rig_sleep(700);
    long before = rss_kib();
    assert_true(before < 100 * 1024);
    for (int i = 0; i < 20; i++) {
        assert_true(events_next(&s));
        rig_sleep(5);
    }
    events_all(&s);
    assert_int_equal(s.out.len, 10000000);
    assert_string_equal(s.err.data, "done\n");
    assert_int_equal(s.exit_code, 0);
    events_close(&s);
}

static void many_at_once(void **state)
{
    (void)state;
    enum { N = 40 };
    static struct events s[N];
    for (int i = 0; i < N; i++)
        start(&s[i], "", "sleep 0.1; echo $PPID", NO_INPUT);
    for (int i = 0; i < N; i++) {
        events_all(&s[i]);
        assert_true(s[i].out.len > 0 && s[i].ended);
        events_close(&s[i]);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(output_and_exit), cmocka_unit_test(binary_output),
    cmocka_unit_test(environment),     cmocka_unit_test(clean_start),
    cmocka_unit_test(refused_starts),  cmocka_unit_test(other_user),
    cmocka_unit_test(standard_input),  cmocka_unit_test(slow_input),
    cmocka_unit_test(stream_input),    cmocka_unit_test(pseudo_terminal),
    cmocka_unit_test(signals),         cmocka_unit_test(end_of_output),
    cmocka_unit_test(connect_by_pid),  cmocka_unit_test(timeouts),
    cmocka_unit_test(keep_alive),      cmocka_unit_test(disconnect),
    cmocka_unit_test(slow_reader),     cmocka_unit_test(many_at_once),
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
