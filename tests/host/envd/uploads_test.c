/* POST /files over a real connection. */
#include "filesrig.h"

#include "base/gzip.h"
#include "base/mem.h"

#include <sys/inotify.h>
#include <sys/xattr.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(uploads_raw),
        CASE(keeps_links_and_odd_names),
        CASE(uploads_multipart),
        CASE(refuses_uploads),
        CASE(gunzips_uploads),
        CASE(stores_metadata),
        CASE(shows_the_events_clients_count),
        CASE(cut_uploads_leave_nothing_new),
        CASE(tells_of_a_full_disk),
    };
    if (!envdtest_enter())
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
