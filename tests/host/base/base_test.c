/* host/base: buffers, strings, errors, UTF-8, base64, gzip, hashes, jobs. */
#include "base/base64.h"
#include "base/buf.h"
#include "base/child.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/gzip.h"
#include "base/hash.h"
#include "base/job.h"
#include "base/path.h"
#include "base/str.h"
#include "base/utf8.h"
#include "ctest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void errors(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(err_set(&e, "timeout", "after %d s", 3), -1);
    err_wrap(&e, "create %s", "x");
    assert_string_equal(e.msg, "create x: after 3 s");
    assert_string_equal(e.kind, "timeout");
    errno = ENOSPC;
    err_errno(&e, NULL, "write %s", "f");
    assert_string_equal(e.kind, "not_enough_space");
    assert_string_equal(e.msg, "write f: No space left on device");
    assert_int_equal(e.errnum, ENOSPC);
}

static void buffers(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i % 10);
    assert_int_equal(b.len, 2000);
    buf_consume(&b, 1998);
    assert_string_equal(b.data, "9,");
    size_t n;
    char *p = buf_steal(&b, &n);
    assert_int_equal(n, 2);
    free(p);
    p = buf_steal(&b, &n);
    assert_string_equal(p, "");
    free(p);
    /* As a queue: what goes in at the end comes out at the front. */
    unsigned char in = 0, out = 0;
    for (size_t i = 0; i < 2000; i++) {
        for (size_t k = 0; k < i % 97; k++) {
            char byte = (char)in++;
            buf_append(&b, &byte, 1);
        }
        for (size_t k = i % 89; k > 0 && b.len > 0; k--, out++) {
            assert_int_equal((unsigned char)b.data[0], out);
            buf_consume(&b, 1);
        }
        assert_true(b.len == 0 || b.data[b.len] == '\0');
        assert_int_equal((unsigned char)(in - out), (unsigned char)b.len);
    }
    size_t left = b.len;
    assert_true(left > 256);
    p = buf_steal(&b, &n);
    assert_int_equal(n, left);
    assert_int_equal((unsigned char)p[0], out);
    free(p);
    buf_fini(&b);
    buf_fini(&b);
}

static void strings(void **state)
{
    (void)state;
    uint64_t v = 7;
    assert_int_equal(str_u64("65535", 5, 65535, &v), 0);
    assert_int_equal(v, 65535);
    assert_int_equal(str_u64("65536", 5, 65535, &v), -1);
    assert_int_equal(str_u64("", 0, 9, &v), -1);
    assert_int_equal(str_u64("-1", 2, 9, &v), -1);
    assert_int_equal(str_u64("99999999999999999999", 20, UINT64_MAX, &v), -1);
    assert_true(str_ieq("Content-Type", "content-type"));
    assert_false(str_ieq("a", "ab"));
    assert_true(str_same_secret("abc", "abc"));
    assert_false(str_same_secret("abc", "abcabc"));
    assert_false(str_same_secret("abc", ""));
    char four[4];
    assert_int_equal(str_fmt(four, 4, "%s", "abcd"), -1);
    assert_string_equal(four, "abc");
}

static void repairs(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"ok \xE2\x82\xAC", "ok \xE2\x82\xAC"},
        {"\xFFx", "\xEF\xBF\xBDx"},
        {"\xE2\x82", "\xEF\xBF\xBD"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xF0\x9F\x98\x80", "\xF0\x9F\x98\x80"},
        {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b = {0};
        utf8_repair(&b, cases[i].in, strlen(cases[i].in));
        assert_string_equal(b.data, cases[i].out);
        assert_int_equal(utf8_valid(cases[i].in, strlen(cases[i].in)),
                         strcmp(cases[i].in, cases[i].out) == 0);
        buf_fini(&b);
    }
}

static void base64(void **state)
{
    (void)state;
    struct buf text = {0}, back = {0};
    unsigned char raw[300];
    for (size_t n = 0; n < sizeof(raw); n++) {
        str_random(raw, n);
        buf_clear(&text);
        buf_clear(&back);
        base64_encode(&text, raw, n);
        assert_int_equal(base64_decode(&back, text.data, text.len), 0);
        assert_int_equal(back.len, n);
        assert_memory_equal(back.data, raw, n);
    }
    buf_clear(&back);
    assert_int_equal(base64_decode(&back, "_-8", 3), 0);
    assert_memory_equal(back.data, "\xFF\xEF", 2);
    assert_int_equal(base64_decode(&back, "a", 1), -1);
    assert_int_equal(base64_decode(&back, "ab=", 3), -1);
    assert_int_equal(base64_decode(&back, "a b=", 4), -1);
    buf_fini(&text);
    buf_fini(&back);
}

static void gzip(void **state)
{
    (void)state;
    struct buf in = {0}, packed = {0}, out = {0};
    struct err e;
    size_t used;
    for (int i = 0; i < 40000; i++)
        buf_printf(&in, "line %d\n", i);
    struct gzip *g = gzip_new(true);
    assert_int_equal(
        gzip_run(g, in.data, in.len, &used, true, SIZE_MAX, &packed, &e), 1);
    gzip_free(g);
    assert_true(packed.len < in.len / 3);
    g = gzip_new(false);
    size_t at = 0;
    int r = 0;
    while (r == 0) { /* a bounded piece of output at a time */
        size_t before = out.len;
        r = gzip_run(g, packed.data + at, packed.len - at, &used, false, 1000,
                     &out, &e);
        at += used;
        assert_true(r >= 0 && out.len - before <= 1000);
    }
    assert_int_equal(out.len, in.len);
    assert_memory_equal(out.data, in.data, in.len);
    gzip_free(g);
    g = gzip_new(false);
    assert_int_equal(gzip_run(g, "garbage", 7, &used, false, 99, &out, &e), -1);
    assert_string_equal(e.kind, "protocol");
    gzip_free(g);
    buf_fini(&in);
    buf_fini(&packed);
    buf_fini(&out);
}

static void hashes(void **state)
{
    (void)state;
    char hex[65];
    hash_hex("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9c"
                             "b410ff61f20015ad");
}

static void paths(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"a//b/./c/..", "a/b"},
                                           {"", "."},
                                           {"/../x", "/x"},
                                           {"../a/../..", "../.."},
                                           {"/", "/"},
                                           {"a/..", "."},
                                           {"./a/", "a"},
                                           {"/a/b/../../..", "/"}};
    char out[64];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(path_clean(out, sizeof(out), cases[i][0]), 0);
        assert_string_equal(out, cases[i][1]);
    }
    assert_int_equal(path_clean(out, 4, "abcdef"), -1);
}

static void files(void **state)
{
    (void)state;
    char dir[] = "/tmp/e2blua-base-XXXXXX";
    struct err e;
    assert_non_null(mkdtemp(dir));
    FD_AUTO int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(path_mkdirs(fd, "a/b/c", 0755, &e), 0);
    assert_int_equal(path_write_file(fd, "a/b/f", "text", 4, 0600, &e), 0);
    struct stat st;
    assert_int_equal(fstatat(fd, "a/b/f", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    size_t n;
    char *s = path_read_file(fd, "a/b/f", 4, &n, &e);
    assert_string_equal(s, "text");
    free(s);
    assert_null(path_read_file(fd, "a/b/f", 3, &n, &e));
    assert_null(path_read_file(fd, "nope", 3, &n, &e));
    assert_string_equal(e.kind, "not_found");
    assert_int_equal(symlinkat("/etc", fd, "a/out"), 0);
    assert_int_equal(path_open_beneath(fd, "a/out/passwd", O_RDONLY, 0, &e),
                     -1);
    assert_int_equal(path_open_beneath(fd, "../x", O_RDONLY, 0, &e), -1);
    assert_int_equal(path_remove_tree(fd, "a", &e), 0);
    assert_int_equal(path_remove_tree(fd, "a", &e), 0);
    assert_int_equal(access("/etc/passwd", F_OK), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void passing(void **state)
{
    (void)state;
    int s[2], p[2], got[1], n;
    struct err e;
    char byte;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
    assert_int_equal(fd_pipe(p, &e), 0);
    assert_int_equal(fd_send(s[0], "k", 1, p, 2, &e), 1);
    /* Room for one: the second must be closed, not leaked. */
    assert_int_equal(fd_recv(s[1], &byte, 1, got, 1, &n, &e), 1);
    assert_int_equal(n, 1);
    assert_true(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
    fd_close(&p[0]);
    fd_close(&p[1]);
    assert_int_equal(read(got[0], &byte, 1), 0);
    fd_close(&got[0]);
    fd_close(&s[0]);
    fd_close(&s[1]);
}

struct count_job {
    struct job job;
    int *sum;
};

static void job_run(struct job *j)
{
    (void)j;
    usleep(1000);
}

static void job_done(struct job *j)
{
    struct count_job *c = (struct count_job *)(void *)j;
    ++*c->sum;
    free(c);
}

static void jobs(void **state)
{
    (void)state;
    struct err e;
    int sum = 0;
    struct job_pool *p = job_pool_new(3, &e);
    assert_non_null(p);
    for (int i = 0; i < 20; i++) {
        struct count_job *c = calloc(1, sizeof(*c));
        *c = (struct count_job){{job_run, job_done, NULL}, &sum};
        job_submit(p, &c->job);
    }
    struct pollfd pfd = {.fd = job_pool_fd(p), .events = POLLIN};
    while (sum < 10) {
        assert_int_equal(poll(&pfd, 1, 5000), 1);
        job_drain(p);
    }
    job_pool_free(p);
    assert_int_equal(sum, 20); /* done comes for all, run or dropped */
}

static pid_t child(int code, int signal)
{
    pid_t pid = fork();
    if (pid == 0 && signal)
        raise(signal);
    if (pid == 0 && code < 0)
        pause();
    if (pid == 0)
        _exit(code);
    return pid;
}

static void waits(void **state)
{
    int fds[2];
    struct err e = {0};
    (void)state;
    assert_int_equal(child_await(child(7, 0), 5000), 7);
    assert_int_equal(child_await(child(0, SIGKILL), 5000), 128);
    assert_int_equal(child_await(getpid(), 5000), 129);
    assert_int_equal(child_await(child(-1, 0), 20), 130);
    assert_int_equal(fd_pipe(fds, &e), 0);
    int64_t began = clock_ms();
    assert_int_equal(fd_await(fds[0], began + 20), 0);
    assert_true(clock_ms() - began >= 20);
    fd_close(&fds[1]);
    assert_int_equal(fd_await(fds[0], began + 5000), 1);
    fd_close(&fds[0]);
}

static void folders(void **state)
{
    char dir[] = "/tmp/e2blua-folder-XXXXXX";
    struct err e = {0};
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(path_count(AT_FDCWD, dir), 0);
    FD_AUTO int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(fd, "sub", 0700), 0);
    assert_int_equal(symlinkat("sub", fd, "link"), 0);
    assert_int_equal(path_count(fd, "."), 2);
    assert_int_equal(path_count(fd, "none"), -1);
    assert_int_equal(errno, ENOENT);
    assert_null(path_opendir(fd, "link", O_NOFOLLOW));
    assert_int_equal(errno, ENOTDIR);
    DIR *d = path_opendir(fd, "link", 0);
    assert_non_null(d);
    closedir(d);
    assert_int_equal(path_remove_tree(AT_FDCWD, dir, &e), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(errors),  cmocka_unit_test(buffers),
    cmocka_unit_test(strings), cmocka_unit_test(repairs),
    cmocka_unit_test(base64),  cmocka_unit_test(gzip),
    cmocka_unit_test(hashes),  cmocka_unit_test(paths),
    cmocka_unit_test(files),   cmocka_unit_test(passing),
    cmocka_unit_test(jobs),    cmocka_unit_test(waits),
    cmocka_unit_test(folders),
};
RUN(tests)
