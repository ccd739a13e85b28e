/* The layer store: a layer is there whole or not at all, and damage is seen. */
#include "cacherig.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID "abc123"

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
    assert_non_null(strstr(b.data, "{\"id\":\"" ID "\",\"content\":\""));
    assert_non_null(strstr(b.data, "\"files\":1,\"top\":1,\"ids\":\"all\","));
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

static void test_remove(void **state)
{
    struct err e = {0};
    (void)state;
    publish("x");
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
    struct layers_sum sum;
    if (layers_measure(fs, &sum, &e))
        fail_msg("%s", e.msg);
    memcpy(out, sum.digest, 65);
}

static void test_digest(void **state)
{
    char first[65], again[65], name[LAYERS_TMP_NAME];
    struct err e = {0};
    struct layers_sum sum;
    (void)state;
    int FD_AUTO tmp = tmp_with(name, "text");
    int FD_AUTO fs = openat(tmp, "fs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdirat(fs, "sub", 0755), 0);
    assert_int_equal(symlinkat("file", fs, "sub/link"), 0);
    digest(fs, first);
    int FD_AUTO path = openat(tmp, "fs", O_PATH | O_CLOEXEC);
    assert_int_equal(layers_measure(path, &sum, &e), 0);
    assert_string_equal(first, sum.digest);
    assert_true(sum.bytes > 0 && sum.files == 3 && sum.top == 2);
    assert_int_equal(fchmodat(fs, "file", 0600, 0), 0);
    digest(fs, again);
    assert_string_not_equal(first, again);
    assert_int_equal(fchmodat(fs, "file", 0644, 0), 0);
    digest(fs, again);
    assert_string_equal(first, again);
    /* One byte, the size is the same. */
    put(fs, "file", "tExt");
    digest(fs, again);
    assert_string_not_equal(first, again);
    put(fs, "file", "text");
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

/* ---- damage ---- */

static int check(struct err *e)
{
    struct buf meta = {0};
    assert_int_equal(layers_meta(cache, ID, &meta, e), 0);
    int r = layers_check(cache, ID, &meta, e);
    buf_fini(&meta);
    return r;
}

static void test_check(void **state)
{
    struct err e = {0};
    (void)state;
    publish("x");
    assert_int_equal(check(&e), 0);
    put(cache, "layers/" ID "/fs/more", "");
    assert_int_equal(check(&e), -1);
    assert_non_null(strstr(e.msg, "2 entries in its root, 1 when it was made"));
    put(cache, "layers/" ID "/meta.json", "{\"id\":\"other\"}");
    assert_int_equal(check(&e), -1);
    assert_non_null(strstr(e.msg, "that of another layer"));
    put(cache, "layers/" ID "/meta.json", "{\"id\":");
    assert_int_equal(check(&e), -1);
    assert_non_null(strstr(e.msg, "no JSON object"));
    put(cache, "layers/" ID "/meta.json", "");
    assert_int_equal(check(&e), -1);
    put(cache, "layers/" ID "/meta.json", "{}"); /* of an older version */
    assert_int_equal(check(&e), 0);
    assert_int_equal(path_remove_tree(cache, "layers/" ID "/fs", &e), 0);
    assert_int_equal(check(&e), -1);
    assert_non_null(strstr(e.msg, "fs cannot be read"));
}

static void test_verify(void **state)
{
    struct err e = {0};
    (void)state;
    assert_int_equal(layers_verify(cache, ID, &e), -1);
    publish("as it was");
    assert_int_equal(layers_verify(cache, ID, &e), 0);
    put(cache, "layers/" ID "/fs/file", "as it Was");
    assert_int_equal(check(&e), 0);
    assert_int_equal(layers_verify(cache, ID, &e), 1);
    assert_non_null(strstr(e.msg, "layer " ID " is damaged: its content has"));
    put(cache, "layers/" ID "/meta.json", "{}");
    assert_int_equal(layers_verify(cache, ID, &e), 2);
    put(cache, "layers/" ID "/meta.json",
        "{\"content\":\"of other ids\",\"ids\":\"one\"}");
    assert_int_equal(layers_verify(cache, ID, &e), 2);
}

/* As if the machine had been booted since: the last digit of the boot id. */
static void boot_anew(void)
{
    struct buf meta = {0};
    struct err e = {0};
    assert_int_equal(layers_meta(cache, ID, &meta, &e), 0);
    char *end = strstr(meta.data, "\"boot\":\"") + 8 + 35;
    *end = *end == '0' ? '1' : '0';
    put(cache, "layers/" ID "/meta.json", meta.data);
    buf_fini(&meta);
}

static void test_unsynced(void **state)
{
    struct err e = {0};
    const char *ids[] = {ID, "gone"};
    (void)state;
    publish("text");
    assert_int_equal(check(&e), 0);
    boot_anew();
    assert_int_equal(check(&e), 1);
    put(cache, "layers/" ID "/fs/file", ""); /* what a power cut leaves */
    assert_int_equal(layers_verify(cache, ID, &e), 1);
    assert_int_equal(check(&e), 1);
    put(cache, "layers/" ID "/fs/file", "text");
    assert_int_equal(layers_verify(cache, ID, &e), 0);
    assert_int_equal(check(&e), 0); /* once is enough */
    assert_int_equal(layers_remove(cache, ID, &e), 0);
    publish("again");
    assert_int_equal(layers_sync(cache, ids, 2, &e), 0);
    boot_anew();
    assert_int_equal(check(&e), 0);
    ids[0] = "../x";
    assert_int_equal(layers_sync(cache, ids, 1, &e), -1);
}

static void test_aside(void **state)
{
    struct err e = {0};
    char first[LAYERS_ASIDE_NAME], second[LAYERS_ASIDE_NAME], path[160];
    struct stat st;
    (void)state;
    assert_int_equal(layers_aside(cache, ID, first, &e), -1);
    assert_false(layers_was_damaged(cache, ID));
    publish("bad");
    assert_int_equal(layers_aside(cache, ID, first, &e), 0);
    assert_false(layers_have(cache, ID));
    assert_true(layers_was_damaged(cache, ID));
    assert_false(layers_was_damaged(cache, "abc12"));
    publish("good");
    assert_content("good");
    assert_int_equal(layers_aside(cache, ID, second, &e), 0);
    assert_string_not_equal(first, second);
    snprintf(path, sizeof(path), "%s/fs/file", first);
    assert_int_equal(fstatat(cache, path, &st, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_publish, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_ids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half, setup, teardown),
        cmocka_unit_test_setup_teardown(test_seal, setup, teardown),
        cmocka_unit_test_setup_teardown(test_remove, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_digest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_check, setup, teardown),
        cmocka_unit_test_setup_teardown(test_verify, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unsynced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_aside, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
