/* Which disk a sandbox with a limit gets, on made facts; images that cannot be
 * made; and disks that are full. Needs root. */
#include "sandbox/disk.h"

#include "base/path.h"
#include "base/str.h"
#include "ctest_root.h"
#include "launchrig.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static const struct disk_facts ALL = {.root = true,
                                      .loop = true,
                                      .ext4 = true,
                                      .mkfs = true,
                                      .tmpfs_xattr = true,
                                      .bytes = 64 << 20,
                                      .memory_bytes = 1 << 30};

static void choose(struct disk_facts f, enum disk_kind kind, const char *text)
{
    char why[192] = "";
    assert_int_equal(disk_choose(&f, why, sizeof(why)), kind);
    if (!strstr(why, text))
        fail_msg("%s", why);
}

static void test_choose(void **state)
{
    (void)state;
    struct disk_facts f = ALL;
    choose(f, DISK_LOOP, "");
    f.bytes = (uint64_t)100 << 30;
    choose(f, DISK_LOOP, "");
    f.root = false;
    choose(f, DISK_NONE,
           "only root may mount an image; in memory, it would take "
           "more than half of it");
    f.bytes = ALL.bytes;
    choose(f, DISK_TMPFS, "");
    f.bytes = ALL.memory_bytes / 2 + 1;
    choose(f, DISK_NONE, "more than half of it");
    f.bytes = 1 << 20;
    f.memory_bytes = 0; /* no limit: half of the machine's */
    choose(f, DISK_TMPFS, "");
    f.tmpfs_xattr = false;
    choose(f, DISK_NONE, "an overlay needs Linux 6.6");
    f = ALL;
    f.tmpfs_xattr = false;
    f.loop = false;
    choose(f, DISK_NONE, "/dev/loop-control; load the module loop");
    f = ALL;
    f.ext4 = false;
    choose(f, DISK_TMPFS, "");
    f.tmpfs_xattr = false;
    choose(f, DISK_NONE, "the kernel has no ext4");
    f.ext4 = true;
    f.mkfs = false;
    choose(f, DISK_NONE, "install e2fsprogs");
}

static void test_look(void **state)
{
    (void)state;
    struct disk_facts f = {.bytes = 7};
    disk_look(&f);
    assert_int_equal(f.root, ctest_is_root());
    assert_int_equal(f.bytes, 7);
}

static void test_bad_places(void **state)
{
    (void)state;
    struct err e = {0};
    char dir[] = "/tmp/e2b-disk-XXXXXX", seeds[64];
    assert_non_null(mkdtemp(dir));
    str_fmt(seeds, sizeof(seeds), "%s/a/b", dir);
    assert_int_equal(disk_open(seeds, "/nowhere/x.img", 32 << 20, &e), -1);
    assert_non_null(strstr(e.msg, seeds));
    str_fmt(seeds, sizeof(seeds), "%s/disks", dir);
    assert_int_equal(disk_open(seeds, "/nowhere/x.img", 32 << 20, &e), -1);
    assert_non_null(strstr(e.msg, "/nowhere/x.img"));
    assert_int_equal(path_remove_tree(AT_FDCWD, dir, NULL), 0);
}

/* A limited disk is full for the sandbox alone, and has room again after a
 * removal. */
static void check_full(struct world *w)
{
    put(w, "l0/x", "lower");
    RUN_VERBS(w, V("cat"), V("/x"), V("fill"), V("/a"), V("rm"), V("/a"),
              V("fill"), V("/b"), V("stat"), V("/"));
    want(w, "lower");
    want(w, "fill: No space left on device after 3");
    char *second = strstr(w->log, "after 3");
    assert_non_null(strstr(second + 1, "No space left on device after 3"));
    want(w, "stat /: 40755 0 0");
    assert_false(exists(w, "upper/u/b"));
}

static void test_disk_image(void **state)
{
    struct world *w = *state;
    struct err e = {0};
    struct disk_facts f = {0};
    char seeds[128], image[128], why[192];
    struct stat st;
    disk_look(&f);
    if (disk_choose(&f, why, sizeof(why)) != DISK_LOOP)
        skip();
    str_fmt(seeds, sizeof(seeds), "%s/disks", w->dir);
    str_fmt(image, sizeof(image), "%s/disk.img", w->dir);
    int mount = disk_open(seeds, image, 32 << 20, &e);
    if (mount < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(disk_open(seeds, image, 32 << 20, &e), -1);
    assert_non_null(strstr(e.msg, "File exists"));
    w->spec.upper_fd = mount;
    w->spec.upper_detached = true;
    check_full(w);
    close(mount);
    assert_int_equal(stat(image, &st), 0);
    assert_true(st.st_size > 32 << 20 && st.st_size < 40 << 20);
}

static void test_disk_memory(void **state)
{
    struct world *w = *state;
    w->spec.upper_bytes = 32 << 20;
    check_full(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choose),
        cmocka_unit_test(test_look),
        cmocka_unit_test(test_bad_places),
        cmocka_unit_test_setup_teardown(test_disk_image, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disk_memory, setup, teardown),
    };
    if (ctest_root() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
