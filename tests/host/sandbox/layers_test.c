/* The layer store: a layer is there whole or not at all, one in use stays, and
 * a digest sees what changed. */
#include "sandbox/layers.h"

#include "base/fd.h"
#include "base/path.h"
#include "ctest.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID "abc123"

static char dir[64];
static int cache = -1;

static int setup(void **state)
{
    struct err e = {0};
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/e2b-layers-XXXXXX");
    assert_non_null(mkdtemp(dir));
    if (layers_open(dir, &cache, &e))
        fail_msg("%s", e.msg);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fd_close(&cache);
    path_remove_tree(AT_FDCWD, dir, NULL);
    return 0;
}

static void put(int at, const char *path, const char *text)
{
    struct err e = {0};
    if (path_write_file(at, path, text, strlen(text), 0644, &e))
        fail_msg("%s", e.msg);
}

/* A folder tmp/<name> with fs/<file>; its lock. */
static int tmp_with(char name[LAYERS_TMP_NAME], const char *text)
{
    struct err e = {0};
    int tmp = layers_tmp(cache, name, &e);
    if (tmp < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(mkdirat(tmp, "fs", 0755), 0);
    int FD_AUTO fs = openat(tmp, "fs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    put(fs, "file", text);
    return tmp;
}

static void publish(const char *text)
{
    struct err e = {0};
    char name[LAYERS_TMP_NAME];
    int tmp = tmp_with(name, text);
    if (layers_publish(cache, name, ID, "{\"id\":\"" ID "\"}", &e))
        fail_msg("%s", e.msg);
    fd_close(&tmp);
}

static void assert_content(const char *want)
{
    struct err e = {0};
    size_t n;
    char *got = path_read_file(cache, "layers/" ID "/fs/file", 100, &n, &e);
    assert_non_null(got);
    assert_string_equal(got, want);
    free(got);
}

static void test_publish(void **state)
{
    struct err e = {0};
    struct buf b = {0};
    (void)state;
    assert_false(layers_have(cache, ID));
    assert_int_equal(layers_fd(cache, ID, &e), -1);
    assert_string_equal(e.kind, "not_found");
    publish("first");
    assert_true(layers_have(cache, ID));
    int FD_AUTO fd = layers_fd(cache, ID, &e);
    assert_true(fd >= 0);
    assert_int_equal(layers_meta(cache, ID, &b, &e), 0);
    assert_string_equal(b.data, "{\"id\":\"" ID "\"}");
    buf_clear(&b);
    assert_int_equal(layers_list(cache, &b, &e), 0);
    assert_string_equal(b.data, ID "\n");
    buf_fini(&b);
    /* The loser of a race drops its own. */
    publish("second");
    assert_content("first");
    int FD_AUTO tmp = openat(cache, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    assert_int_equal(fstat(tmp, &st), 0);
    assert_int_equal(st.st_nlink, 2);
}

static void test_bad_ids(void **state)
{
    struct err e = {0};
    static const char long_id[] = "0123456789012345678901234567890123"
                                  "4567890123456789012345678901234";
    const char *bad[] = {"", "..", "a/b", "A", "../tmp", "a b", long_id};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        assert_false(layers_have(cache, bad[i]));
        assert_int_equal(layers_fd(cache, bad[i], &e), -1);
        assert_string_equal(e.kind, "invalid_argument");
        assert_int_equal(layers_lease(cache, bad[i], &e), -1);
        assert_int_equal(layers_remove(cache, bad[i], &e), -1);
    }
}

/* One without meta.json does not exist and does not block a new one. */
static void test_half(void **state)
{
    (void)state;
    assert_int_equal(mkdirat(cache, "layers/" ID, 0700), 0);
    assert_int_equal(mkdirat(cache, "layers/" ID "/fs", 0755), 0);
    assert_false(layers_have(cache, ID));
    publish("whole");
    assert_content("whole");
}

static void test_seal(void **state)
{
    struct err e = {0};
    (void)state;
    assert_int_equal(mkdirat(cache, "box", 0700), 0);
    assert_int_equal(mkdirat(cache, "box/u", 0755), 0);
    int FD_AUTO box = openat(cache, "box", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int FD_AUTO u = openat(box, "u", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    put(u, "file", "sealed");
    if (layers_seal(cache, box, "u", ID, "{}", &e))
        fail_msg("%s", e.msg);
    assert_content("sealed");
    struct stat st;
    assert_int_equal(fstatat(box, "u", &st, 0), -1);
    assert_int_equal(layers_seal(cache, box, "missing", "other", "{}", &e), -1);
    assert_non_null(strstr(e.msg, "missing"));
    assert_false(layers_have(cache, "other"));
}

static void test_lease(void **state)
{
    struct err e = {0};
    (void)state;
    assert_int_equal(layers_lease(cache, ID, &e), -1);
    publish("x");
    int lease = layers_lease(cache, ID, &e);
    int second = layers_lease(cache, ID, &e);
    assert_true(lease >= 0 && second >= 0);
    assert_int_equal(layers_remove(cache, ID, &e), 1);
    fd_close(&lease);
    assert_int_equal(layers_remove(cache, ID, &e), 1);
    assert_true(layers_have(cache, ID));
    fd_close(&second);
    assert_int_equal(layers_remove(cache, ID, &e), 0);
    assert_false(layers_have(cache, ID));
    assert_int_equal(layers_remove(cache, ID, &e), 0);
}

static void test_sweep(void **state)
{
    struct stat st;
    char dead[LAYERS_TMP_NAME], alive[LAYERS_TMP_NAME], path[64];
    (void)state;
    int gone = tmp_with(dead, "x");
    int FD_AUTO held = tmp_with(alive, "y");
    assert_int_equal(mkdirat(cache, "tmp/b-of-another", 0700), 0);
    fd_close(&gone);
    layers_sweep(cache);
    snprintf(path, sizeof(path), "tmp/%s", dead);
    assert_int_equal(fstatat(cache, path, &st, 0), -1);
    snprintf(path, sizeof(path), "tmp/%s/fs/file", alive);
    assert_int_equal(fstatat(cache, path, &st, 0), 0);
    assert_int_equal(fstatat(cache, "tmp/b-of-another", &st, 0), 0);
    (void)held;
}

static void digest(int fs, char out[65])
{
    struct err e = {0};
    if (layers_digest(fs, out, &e))
        fail_msg("%s", e.msg);
}

static void test_digest(void **state)
{
    char first[65], again[65], name[LAYERS_TMP_NAME];
    struct err e = {0};
    uint64_t bytes = 0;
    (void)state;
    int FD_AUTO tmp = tmp_with(name, "text");
    int FD_AUTO fs = openat(tmp, "fs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(fs, "sub", 0755), 0);
    assert_int_equal(symlinkat("file", fs, "sub/link"), 0);
    digest(fs, first);
    int FD_AUTO path = openat(tmp, "fs", O_PATH | O_CLOEXEC);
    assert_int_equal(layers_measure(path, again, &bytes, &e), 0);
    assert_string_equal(first, again);
    assert_true(bytes > 0);
    assert_int_equal(fchmodat(fs, "file", 0600, 0), 0);
    digest(fs, again);
    assert_string_not_equal(first, again);
    assert_int_equal(fchmodat(fs, "file", 0644, 0), 0);
    digest(fs, again);
    assert_string_equal(first, again);
    assert_int_equal(unlinkat(fs, "sub/link", 0), 0);
    assert_int_equal(symlinkat("other", fs, "sub/link"), 0);
    digest(fs, again);
    assert_string_not_equal(first, again);
    /* The same names, one folder up. */
    assert_int_equal(renameat(fs, "sub/link", fs, "link"), 0);
    digest(fs, first);
    assert_string_not_equal(first, again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_publish, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_ids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half, setup, teardown),
        cmocka_unit_test_setup_teardown(test_seal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lease, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_digest, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
