/* GET and POST /files over a real connection. */
#include "envdtest.h"

#include "base/gzip.h"
#include "base/mem.h"
#include "envd/content.h"
#include "net/core/httpd.h"

#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/xattr.h>

static struct {
    struct httpd *server;
    struct stream *client;
    struct buf got; /* the answer as it comes */
    bool ended;
    size_t received; /* when `counting`, bytes are only counted */
    bool counting;
} w;

/* ---- the server ---------------------------------------------------------- */

static void on_request(void *arg, struct httpd_req *r)
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

static void c_read(void *arg, const char *p, long n, const struct err *e)
{
    (void)arg, (void)e;
    if (n <= 0)
        w.ended = true;
    else if (w.counting)
        w.received += (size_t)n;
    else
        buf_append(&w.got, p, (size_t)n);
}

static void c_fail(void *arg, const struct err *e)
{
    (void)arg, (void)e;
    w.ended = true;
}

static const struct stream_ops CLIENT = {c_read, NULL, c_fail};

static void hang_up(void)
{
    if (w.client)
        stream_close(w.client, false);
    w.client = NULL;
}

static void dial(void)
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

static int setup(void **state)
{
    memset(&w, 0, sizeof(w));
    int r = envd_setup(state);
    w.server = httpd_new(v.loop, &SERVER, NULL);
    return r;
}

static int teardown(void **state)
{
    hang_up();
    httpd_free(w.server);
    buf_fini(&w.got);
    return envd_teardown(state);
}

static void say(const void *p, size_t n)
{
    stream_write(w.client, p, n);
}

static uint64_t deadline(void)
{
    return loop_now(v.loop) + 30000;
}

/* Until the server has ended the connection (requests say "close"). */
static void wait_end(void)
{
    for (uint64_t end = deadline(); !w.ended && loop_now(v.loop) < end;)
        loop_turn(v.loop, 5);
    assert_true(w.ended);
    buf_append(&w.got, "", 0);
}

static const char *body(void)
{
    const char *p = w.got.data ? strstr(w.got.data, "\r\n\r\n") : NULL;
    return p ? p + 4 : "(no answer)";
}

static int status(void)
{
    return w.got.data ? atoi(w.got.data + strlen("HTTP/1.1 ")) : 0;
}

static void has_header(const char *line)
{
    char text[300];
    snprintf(text, sizeof(text), "\r\n%s\r\n", line);
    if (!strstr(w.got.data, text))
        fprintf(stderr, "no '%s' in\n%s\n", line, w.got.data);
    assert_non_null(strstr(w.got.data, text));
}

/* GET (or HEAD) with headers, each ending in CR LF. */
static int ask(const char *method, const char *query, const char *headers)
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

static int get(const char *query)
{
    return ask("GET", query, "");
}

static int post(const char *query, const char *headers, const void *p, size_t n)
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

static int post_text(const char *query, const char *headers, const char *text)
{
    return post(query, headers, text, strlen(text));
}

static void error_is(int code, const char *message)
{
    char want[600];
    snprintf(want, sizeof(want), "{\"code\":%d,\"message\":\"%s\"}\n", code,
             message);
    assert_int_equal(status(), code);
    assert_string_equal(body(), want);
    has_header("Content-Type: application/json; charset=utf-8");
}

static void file_is(const char *path, const char *want)
{
    size_t n;
    char *text = read_text(path, &n);
    assert_non_null(text);
    assert_string_equal(text, want);
    assert_int_equal(n, strlen(want));
    free(text);
}

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

/* ---- upload -------------------------------------------------------------- */

static void uploads_raw(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(post_text("path=a/b/c.txt&username=user", RAW, "hello"),
                     200);
    has_header("Content-Type: application/json");
    assert_string_equal(body(), "[{\"path\":\"/home/user/a/b/c.txt\",\"name\":"
                                "\"c.txt\",\"type\":\"file\"}]");
    file_is("a/b/c.txt", "hello");
    assert_int_equal(stat("a/b/c.txt", &st), 0);
    assert_int_equal(st.st_uid, 1000);
    assert_int_equal(st.st_gid, 1000);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(stat("a", &st), 0);
    assert_int_equal(st.st_uid, 1000);
    assert_int_equal(st.st_mode & 07777, 0755);
    chmod("a/b/c.txt", 0751);
    assert_int_equal(post_text("path=a/b/c.txt&username=user", RAW, "h"), 200);
    file_is("a/b/c.txt", "h");
    assert_int_equal(stat("a/b/c.txt", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0751);
    assert_int_equal(post_text("path=/home/user/a/b/c.txt", RAW, ""), 200);
    file_is("a/b/c.txt", "");
    assert_int_equal(stat("a/b/c.txt", &st), 0);
    assert_int_equal(st.st_uid, 0);
    dial();
    const char *chunked =
        "POST /files?path=/home/user/k HTTP/1.1\r\nHost: a\r\n"
        "Connection: close\r\nTransfer-Encoding: chunked\r\n" RAW
        "\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    say(chunked, strlen(chunked));
    wait_end();
    assert_int_equal(status(), 200);
    file_is("k", "abcde");
}

static void keeps_links_and_odd_names(void **state)
{
    (void)state;
    struct stat st;
    write_text("real", "old content");
    assert_int_equal(link("real", "hard") | symlink("real", "soft") |
                         symlink("made", "dangling"),
                     0);
    assert_int_equal(post_text("path=/home/user/soft", RAW, "new"), 200);
    file_is("hard", "new");
    assert_int_equal(lstat("soft", &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(post_text("path=dangling&username=user", RAW, "x"), 200);
    file_is("made", "x");
    assert_int_equal(stat("made", &st), 0);
    assert_int_equal(st.st_uid, 1000);
    assert_int_equal(post_text("path=new%0Aline%FF&username=user", RAW, "n"),
                     200);
    file_is("new\nline\xff", "n");
    assert_string_equal(body(), "[{\"path\":\"/home/user/new\\nline\xef\xbf\xbd"
                                "\",\"name\":\"new\\nline\xef\xbf\xbd\",\"type"
                                "\":\"file\"}]");
}

static void uploads_multipart(void **state)
{
    (void)state;
    assert_int_equal(
        post_text("username=user", FORM,
                  "--XX\r\nContent-Disposition: form-data; name=\"file\"; "
                  "filename=\"d/one.txt\"\r\n\r\n1\r\n\r\n--XX\r\n"
                  "Content-Disposition: form-data; name=\"note\"\r\n\r\n"
                  "ignored\r\n--XX\r\nContent-Disposition: form-data; "
                  "name=file; filename*=utf-8''%2Fhome%2Fuser%2F%C3%A9\r\n\r\n"
                  "2\r\n--XX--\r\n"),
        200);
    assert_string_equal(
        body(), "[{\"path\":\"/home/user/d/one.txt\",\"name\":\"one.txt\","
                "\"type\":\"file\"},{\"path\":\"/home/user/\xc3\xa9\",\"name\":"
                "\"\xc3\xa9\",\"type\":\"file\"}]");
    file_is("d/one.txt", "1\r\n");
    file_is("\xc3\xa9", "2");
#define PART(name)                                                             \
    "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" name  \
    "\"\r\n\r\nx\r\n"
    assert_int_equal(
        post_text("path=p&username=user", FORM, PART("other") "--XX--"), 200);
    file_is("p", "x");
    post_text("username=user", FORM,
              PART("same") PART("/home/user/same") "--XX--");
    error_is(400, "you cannot upload multiple files to the same path "
                  "'/home/user/same' in one upload request, only the first "
                  "specified file was uploaded");
    file_is("same", "x");
    post_text("", FORM,
              "--XX\r\nContent-Disposition: form-data; name=file\r\n\r\nx\r\n"
              "--XX--");
    error_is(400, "error getting multipart custom part file name: filename not "
                  "found in Content-Disposition header");
    post_text("", FORM,
              "--XX\r\nContent-Disposition: form-data; name=f\r\n\r\nx\r\n"
              "--XX--");
    error_is(400, "no part named 'file' in the multipart body: nothing was "
                  "uploaded");
    post_text("username=user", FORM, PART("cut"));
    error_is(400, "error reading multipart body: multipart: the body ends "
                  "before its closing boundary");
    assert_int_equal(access("cut", F_OK), -1);
}

static void refuses_uploads(void **state)
{
    (void)state;
    mkdir("d", 0755);
    mkfifo("fifo", 0644);
    write_text("f", "");
    post_text("path=d&username=user", RAW, "x");
    error_is(400, "path is a directory: /home/user/d");
    post_text("path=/home/user/n/", RAW, "x");
    error_is(400, "path is a directory: /home/user/n/");
    post_text("path=fifo&username=user", RAW, "x");
    error_is(400, "path is not a regular file: /home/user/fifo");
    post_text("path=f/x&username=user", RAW, "x");
    error_is(500, "error ensuring directories: path is a file: /home/user/f");
    post_text("username=user", RAW, "x");
    error_is(400, "path query parameter is required for raw body upload");
    post_text("path=a", "Content-Type: text/plain\r\n", "x");
    error_is(400, "unsupported content type: text/plain, expected "
                  "multipart/form-data or application/octet-stream");
    post_text("path=a", RAW "Content-Encoding: br\r\n", "x");
    error_is(400, "unsupported Content-Encoding: br, supported: [gzip]");
    post_text("path=a&username=u", RAW, "x");
    error_is(401, "error looking up user 'u': invalid username: 'u'");
    post_text("path=~u&username=user", RAW, "x");
    error_is(400, "failed to expand path '~u' for user 'user': cannot expand "
                  "user-specific home dir");
    assert_int_equal(
        post_text("", "Content-Type: multipart/form-data\r\n", "x"), 400);
    assert_int_equal(post_text("path=/proc/nope/x", RAW, "x"), 500);
}

static void gunzips_uploads(void **state)
{
    (void)state;
    struct err e;
    struct buf z;
    size_t used;
    buf_init(&z);
    for (int i = 0; i < 2; i++) {
        struct gzip *g = gzip_new(true);
        assert_int_equal(gzip_run(g, i ? "two" : "one ", i ? 3 : 4, &used, true,
                                  1000, &z, &e),
                         1);
        gzip_free(g);
    }
#define GZ RAW "Content-Encoding: gzip\r\n"
    const char *q = "path=z&username=user";
    assert_int_equal(post(q, GZ, z.data, z.len), 200);
    file_is("z", "one two");
    post(q, GZ, z.data, z.len - 3);
    error_is(400, "error reading gzip body: unexpected end of the data");
    post(q, GZ, "rubbish", 7);
    assert_int_equal(status(), 400);
    buf_puts(&z, "tail");
    post(q, GZ, z.data, z.len);
    error_is(400, "error reading gzip body: bytes behind the end of the "
                  "compressed data");
    post(q, GZ, "", 0);
    error_is(400, "error reading gzip body: unexpected end of the data");
    buf_fini(&z);
}

static void stores_metadata(void **state)
{
    (void)state;
    char value[16] = "", big[5000], line[5200];
    const char *q = "path=m&username=user";
    assert_int_equal(post_text(q,
                               RAW "X-Metadata-Kind: a b\r\n"
                                   "x-metadata-n: 1\r\nX-Metadata-KIND: z\r\n",
                               "x"),
                     200);
    assert_string_equal(
        body(), "[{\"path\":\"/home/user/m\",\"name\":\"m\",\"type\":"
                "\"file\",\"metadata\":{\"kind\":\"a b\",\"n\":\"1\"}}]");
    assert_int_equal(getxattr("m", "user.e2b.kind", value, sizeof(value)), 3);
    assert_memory_equal(value, "a b", 3);
    setxattr("m", "user.mine", "v", 1, 0);
    assert_int_equal(post_text(q, RAW "X-Metadata-n: 2\r\n", "x"), 200);
    assert_int_equal(getxattr("m", "user.e2b.kind", value, sizeof(value)), -1);
    assert_int_equal(getxattr("m", "user.e2b.n", value, sizeof(value)), 1);
    assert_int_equal(post_text(q, RAW, "x"), 200);
    assert_int_equal(getxattr("m", "user.e2b.n", value, sizeof(value)), -1);
    assert_int_equal(getxattr("m", "user.mine", value, sizeof(value)), 1);
    post_text(q, RAW "X-Metadata-: 2\r\n", "x");
    error_is(400, "invalid metadata: empty key");
    assert_int_equal(post_text(q, RAW "X-Metadata-a: \xc3\xa9\r\n", "x"), 400);
    memset(big, 'v', sizeof(big));
    snprintf(line, sizeof(line), RAW "X-Metadata-%.246s: x\r\n", big);
    assert_int_equal(post_text(q, line, "x"), 200);
    snprintf(line, sizeof(line), RAW "X-Metadata-%.247s: x\r\n", big);
    assert_int_equal(post_text(q, line, "x"), 400);
    snprintf(line, sizeof(line), RAW "X-Metadata-k: %.4087s\r\n", big);
    assert_int_equal(post_text(q, line, "x"), 400);
}

static void shows_the_events_clients_count(void **state)
{
    (void)state;
    char events[4096] __attribute__((aligned(8)));
    static const uint32_t want[] = {IN_CREATE, IN_ATTRIB, IN_MODIFY};
    mkdir("d", 0755);
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    inotify_add_watch(fd, "d", IN_CREATE | IN_ATTRIB | IN_MODIFY | IN_MOVE);
    assert_int_equal(
        post_text("path=d/f&username=user", FORM,
                  "--XX\r\nContent-Disposition: form-data; name=\"file\"; "
                  "filename=\"d/f\"\r\n\r\na\r\nb\r\rc\r\n\r\n--XX--\r\n"),
        200);
    ssize_t n = read(fd, events, sizeof(events));
    size_t i = 0;
    for (ssize_t at = 0; at < n; i++) {
        struct inotify_event *ev = (struct inotify_event *)(events + at);
        assert_true(i < 3);
        assert_int_equal(ev->mask, want[i]);
        assert_string_equal(ev->name, "f");
        at += (ssize_t)(sizeof(*ev) + ev->len);
    }
    assert_int_equal(i, 3);
    close(fd);
}

static void cut_uploads_leave_nothing_new(void **state)
{
    (void)state;
    struct stat st;
    write_text("old", "0123456789");
    for (int i = 0; i < 2; i++) {
        char head[200];
        const char *name = i ? "old" : "new";
        snprintf(head, sizeof(head),
                 "POST /files?path=/home/user/%s HTTP/1.1\r\nHost: a\r\n"
                 "Content-Length: 100\r\n" RAW "\r\nabc",
                 name);
        dial();
        say(head, strlen(head));
        for (uint64_t end = deadline(); loop_now(v.loop) < end;) {
            loop_turn(v.loop, 1);
            if (stat(name, &st) == 0 && st.st_size < 10)
                break;
        }
        assert_int_equal(stat(name, &st), 0);
        hang_up();
        for (uint64_t end = deadline(); loop_now(v.loop) < end;) {
            loop_turn(v.loop, 1);
            if (i ? stat(name, &st) == 0 && st.st_size == 0
                  : stat(name, &st) < 0)
                break;
        }
    }
    assert_int_equal(access("new", F_OK), -1);
    assert_int_equal(access("old", F_OK), 0);
}

static void tells_of_a_full_disk(void **state)
{
    (void)state;
    mkdir("small", 0755);
    assert_int_equal(mount("tmpfs", "small", "tmpfs", 0, "size=1m,nr_inodes=4"),
                     0);
    size_t n = 3u << 20;
    char *big = mem_alloc(n);
    memset(big, 'x', n);
    post("path=/home/user/small/f", RAW, big, n);
    error_is(507, "attempted to write 3145728 bytes: not enough disk space "
                  "available");
    assert_int_equal(access("small/f", F_OK), -1);
    free(big);
    assert_int_equal(post_text("path=/home/user/small/a", RAW, "x"), 200);
    assert_int_equal(post_text("path=/home/user/small/b", RAW, "x"), 200);
    assert_int_equal(post_text("path=/home/user/small/c", RAW, "x"), 200);
    post_text("path=/home/user/small/d", RAW, "x");
    error_is(507, "not enough inodes available: open /home/user/small/d: no "
                  "space left on device");
    post_text("path=/home/user/small/d/e", RAW, "x");
    assert_int_equal(status(), 507);
    assert_int_equal(umount("small"), 0);
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

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

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
        CASE(uploads_raw),
        CASE(keeps_links_and_odd_names),
        CASE(uploads_multipart),
        CASE(refuses_uploads),
        CASE(gunzips_uploads),
        CASE(stores_metadata),
        CASE(shows_the_events_clients_count),
        CASE(cut_uploads_leave_nothing_new),
        CASE(tells_of_a_full_disk),
        CASE(moves_64_mib_in_bounded_memory),
        CASE(survives_clients_that_leave),
    };
    if (!envdtest_enter())
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
