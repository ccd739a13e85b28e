/* GET /files over a real connection, and large files both ways. */
#include "filesrig.h"

#include "base/gzip.h"
#include "base/mem.h"
#include "envd/content.h"

#include <sys/resource.h>

/* ---- download ------------------------------------------------------------ */

static void downloads_a_file(void **state)
{
    (void)state;
    struct timespec t[2] = {{0, UTIME_OMIT}, {1767323045, 500}};
    write_text("a.txt", "hello");
    utimensat(AT_FDCWD, "a.txt", t, 0);
    assert_int_equal(get("path=a.txt&username=user"), 200);
    assert_string_equal(
        w.got.data,
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nVary: Accept-Encoding\r\n"
        "Content-Disposition: inline; filename=a.txt\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Last-Modified: Fri, 02 Jan 2026 03:04:05 GMT\r\n"
        "Accept-Ranges: bytes\r\nConnection: close\r\n\r\nhello");
    assert_int_equal(get("path=%2Fhome%2Fuser%2Fa.txt"), 200);
    assert_string_equal(body(), "hello");
    assert_int_equal(ask("HEAD", "path=a.txt&username=user", ""), 200);
    has_header("Content-Length: 5");
    assert_string_equal(body(), "");
    int fd = open("x.json", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(fd);
    assert_int_equal(get("username=user&path=~/x.json"), 200);
    has_header("Content-Length: 0");
    has_header("Content-Type: application/json");
    assert_int_equal(
        ask("GET", "username=user&path=x.json", "Accept-Encoding: gzip\r\n"),
        200);
    has_header("Content-Length: 0");
}

static void says_what_is_wrong(void **state)
{
    (void)state;
    mkdir("d", 0755);
    mkfifo("fifo", 0644);
    get("path=/nope");
    error_is(404, "path '/nope' does not exist");
    get("path=d&username=user");
    error_is(400, "path '/home/user/d' is a directory");
    get("username=user");
    error_is(400, "path '/home/user' is a directory");
    get("path=fifo&username=user");
    error_is(400, "path '/home/user/fifo' is not a regular file");
    get("path=/dev/zero");
    error_is(400, "path '/dev/zero' is not a regular file");
    get("path=~bin&username=user");
    error_is(400, "failed to expand path '~bin' for user 'user': cannot expand "
                  "user-specific home dir");
    get("path=a&username=nobody2");
    error_is(401, "error looking up user 'nobody2': invalid username: "
                  "'nobody2'");
    get("path=%zz");
    error_is(400, "query parameter path: broken percent-encoding");
    get("path=a%00b");
    error_is(400, "query parameter path: holds a NUL byte");
    write_text("a", "x");
    assert_int_equal(
        ask("GET", "path=/home/user/a", "Accept-Encoding: *;q=0\r\n"), 406);
    get("path=/home/user/a/b");
    error_is(404, "path '/home/user/a/b' does not exist");
}

static void serves_ranges(void **state)
{
    (void)state;
    write_text("a", "0123456789");
#define RANGE(r) ask("GET", "path=/home/user/a", "Range: bytes=" r "\r\n")
    assert_int_equal(RANGE("2-4"), 206);
    assert_string_equal(body(), "234");
    has_header("Content-Range: bytes 2-4/10");
    has_header("Content-Length: 3");
    assert_int_equal(RANGE("7-"), 206);
    assert_string_equal(body(), "789");
    assert_int_equal(RANGE("-4"), 206);
    assert_string_equal(body(), "6789");
    assert_int_equal(RANGE("-40"), 206);
    assert_string_equal(body(), "0123456789");
    assert_int_equal(RANGE("0-99"), 206);
    has_header("Content-Range: bytes 0-9/10");
    assert_int_equal(RANGE("10-"), 416);
    has_header("Content-Range: bytes */10");
    assert_int_equal(RANGE("5-4"), 416);
    assert_int_equal(RANGE("x"), 416);
    assert_int_equal(RANGE("99999999999999999999-"), 416);
    assert_int_equal(RANGE("1-2,4-5"), 200);
    assert_string_equal(body(), "0123456789");
    assert_int_equal(ask("HEAD", "path=/home/user/a", "Range: bytes=1-2\r\n"),
                     206);
    has_header("Content-Length: 2");
    assert_int_equal(ask("GET", "path=/home/user/a",
                         "Range: bytes=1-2\r\nAccept-Encoding: gzip\r\n"),
                     206);
    assert_string_equal(body(), "12");
}

static void honours_conditions(void **state)
{
    (void)state;
    struct timespec t[2] = {{0, UTIME_OMIT}, {1767323045, 0}};
    write_text("a", "0123456789");
    utimensat(AT_FDCWD, "a", t, 0);
#define COND(h) ask("GET", "path=/home/user/a", h "\r\n")
#define AT      "Fri, 02 Jan 2026 03:04:05 GMT"
    assert_int_equal(COND("If-Modified-Since: " AT), 304);
    assert_string_equal(body(), "");
    has_header("Vary: Accept-Encoding");
    assert_int_equal(COND("If-Modified-Since: Fri, 02 Jan 2026 03:04:04 GMT"),
                     200);
    assert_int_equal(COND("If-Modified-Since: rubbish"), 200);
    assert_int_equal(COND("If-None-Match: \"x\""), 200);
    assert_int_equal(COND("If-None-Match: *"), 304);
    assert_int_equal(COND("If-Match: \"x\""), 412);
    assert_int_equal(COND("If-Match: *"), 200);
    assert_int_equal(COND("If-Unmodified-Since: Fri, 02 Jan 2026 03:04:04 GMT"),
                     412);
    assert_int_equal(COND("Range: bytes=0-0\r\nIf-Range: " AT), 206);
    assert_int_equal(COND("Range: bytes=0-0\r\nIf-Range: \"tag\""), 200);
}

static void names_content(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"plain.txt", "inline; filename=plain.txt"},
        {"a b", "inline; filename=\"a b\""},
        {"q\"\\", "inline; filename=\"q\\\"\\\\\""},
        {"new\nline", "inline; filename*=utf-8''new%0Aline"},
        {"\xc3\xa9", "inline; filename*=utf-8''%C3%A9"},
        {"bad\xff", "inline; filename*=utf-8''bad%FF"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf q;
        char line[200];
        buf_init(&q);
        buf_puts(&q, "username=user&path=");
        write_text(cases[i][0], "x");
        http1_escape(&q, cases[i][0], strlen(cases[i][0]));
        assert_int_equal(get(q.data), 200);
        snprintf(line, sizeof(line), "Content-Disposition: %s", cases[i][1]);
        has_header(line);
        buf_fini(&q);
    }
    assert_string_equal(content_sniff("%PDF-1", 6), "application/pdf");
    assert_string_equal(content_sniff("a\0b", 3), "application/octet-stream");
    assert_string_equal(content_sniff("#!/bin/sh\n", 10),
                        "text/plain; charset=utf-8");
    assert_string_equal(content_type("/a.b/c.PNG"), "image/png");
    assert_null(content_type("/a.png/c"));
}

static void negotiates_codings(void **state)
{
    (void)state;
    static const struct {
        const char *accept;
        enum content_coding want;
    } cases[] = {
        {NULL, CONTENT_IDENTITY},
        {"", CONTENT_IDENTITY},
        {"gzip", CONTENT_GZIP},
        {"GZIP ; q=0.5", CONTENT_GZIP},
        {"gzip;q=0", CONTENT_IDENTITY},
        {"gzip, deflate", CONTENT_IDENTITY},
        {"gzip, deflate;q=0", CONTENT_GZIP},
        {"gzip;q=0.5, identity", CONTENT_IDENTITY},
        {"gzip;q=0.5, identity;q=0.1", CONTENT_GZIP},
        {"br, gzip, *;q=0", CONTENT_GZIP},
        {"identity;q=0", CONTENT_NEITHER},
        {"*;q=0", CONTENT_NEITHER},
        {"*;q=0, identity", CONTENT_IDENTITY},
        {"*", CONTENT_IDENTITY},
        {",,;q=,", CONTENT_IDENTITY},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(content_negotiate(cases[i].accept), cases[i].want);
}

/* Reads the chunked body of the answer. */
static void unchunk(struct buf *out)
{
    const char *p = body();
    for (;;) {
        char *end;
        unsigned long n = strtoul(p, &end, 16);
        if (n == 0)
            break;
        buf_append(out, end + 2, n);
        p = end + 2 + n + 2;
    }
}

static void downloads_gzip(void **state)
{
    (void)state;
    enum { N = 700000 };
    char *text = mem_alloc(N + 1);
    struct err e;
    struct buf raw, plain;
    size_t used;
    for (size_t i = 0; i < N; i++)
        text[i] = (char)('a' + i * i % 26);
    write_text("big.txt", text);
    assert_int_equal(
        ask("GET", "path=/home/user/big.txt", "Accept-Encoding: gzip\r\n"),
        200);
    has_header("Content-Encoding: gzip");
    has_header("Transfer-Encoding: chunked");
    buf_init(&raw);
    buf_init(&plain);
    unchunk(&raw);
    struct gzip *g = gzip_new(false);
    assert_int_equal(
        gzip_run(g, raw.data, raw.len, &used, false, 1u << 20, &plain, &e), 1);
    assert_int_equal(plain.len, N);
    assert_memory_equal(plain.data, text, N);
    gzip_free(g);
    buf_fini(&raw);
    buf_fini(&plain);
    free(text);
}

static void downloads_what_proc_holds(void **state)
{
    (void)state;
    assert_int_equal(get("path=/proc/self/status"), 200);
    has_header("Transfer-Encoding: chunked");
    assert_non_null(strstr(body(), "Name:\t"));
}

/* ---- size ---------------------------------------------------------------- */

enum { BIG = 64 << 20, PIECE = 1 << 20 };

/* The sanitizers keep what was freed. */
static long resident(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 0;
#endif
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss; /* KiB */
}

static void moves_64_mib_in_bounded_memory(void **state)
{
    (void)state;
    char *piece = mem_alloc(PIECE);
    struct stat st;
    for (size_t i = 0; i < PIECE; i++)
        piece[i] = (char)(i * 7 + i / 251);
    char head[200];
    snprintf(head, sizeof(head),
             "POST /files?path=/home/user/big HTTP/1.1\r\nHost: a\r\n"
             "Connection: close\r\nContent-Length: %d\r\n" RAW "\r\n",
             BIG);
    long before = resident();
    dial();
    say(head, strlen(head));
    size_t sent = 0;
    for (uint64_t end = deadline(); !w.ended && loop_now(v.loop) < end;) {
        if (sent < BIG && stream_queued(w.client) == 0) {
            say(piece, PIECE);
            sent += PIECE;
        }
        loop_turn(v.loop, 1);
    }
    assert_int_equal(status(), 200);
    assert_int_equal(stat("big", &st), 0);
    assert_int_equal(st.st_size, BIG);
    size_t n;
    char *all = read_text("big", &n);
    long up = resident() - BIG / 1024; /* `all` itself */
    for (size_t i = 0; i < BIG; i += PIECE)
        assert_memory_equal(all + i, piece, PIECE);
    free(all);
    free(piece);
    assert_true(up - before < 8 * 1024);

    dial();
    w.counting = true;
    stream_read(w.client, false); /* a client that does not read */
    const char *ask_big = "GET /files?path=/home/user/big HTTP/1.1\r\n"
                          "Host: a\r\nConnection: close\r\n\r\n";
    say(ask_big, strlen(ask_big));
    before = resident();
    for (int i = 0; i < 300; i++)
        loop_turn(v.loop, 1);
    assert_true(resident() - before < 4 * 1024);
    stream_read(w.client, true);
    for (uint64_t end = deadline(); !w.ended && loop_now(v.loop) < end;)
        loop_turn(v.loop, 5);
    assert_true(w.received > BIG && w.received < BIG + 1000);
    assert_true(resident() - before < 8 * 1024);
}

static void survives_clients_that_leave(void **state)
{
    (void)state;
    char *big = mem_alloc(3u << 20);
    memset(big, 'a', (3u << 20) - 1);
    write_text("big", big);
    free(big);
    for (int i = 0; i < 40; i++) {
        const char *q = i % 2 ? "GET /files?path=/home/user/big HTTP/1.1\r\n"
                                "Host: a\r\nAccept-Encoding: gzip\r\n\r\n"
                              : "GET /files?path=/home/user/big HTTP/1.1\r\n"
                                "Host: a\r\n\r\n";
        dial();
        say(q, strlen(q));
        for (int k = 0; k < i; k++)
            loop_turn(v.loop, 1);
        hang_up();
    }
    /* and the daemon may end with jobs out */
    dial();
    const char *q =
        "GET /files?path=/home/user/big HTTP/1.1\r\nHost: a\r\n\r\n";
    say(q, strlen(q));
    loop_turn(v.loop, 1);
    loop_turn(v.loop, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(downloads_a_file),
        CASE(says_what_is_wrong),
        CASE(serves_ranges),
        CASE(honours_conditions),
        CASE(names_content),
        CASE(negotiates_codings),
        CASE(downloads_gzip),
        CASE(downloads_what_proc_holds),
        CASE(moves_64_mib_in_bounded_memory),
        CASE(survives_clients_that_leave),
    };
    if (!envdtest_enter())
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
