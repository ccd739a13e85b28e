/* Which disk a sandbox with a limit gets, on made facts, and images that cannot
 * be made. (That one is full for its sandbox alone is launcher_test's.) */
#include "sandbox/disk.h"

#include "base/path.h"
#include "base/str.h"
#include "ctest.h"

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

static void want(struct disk_facts f, enum disk_kind kind, const char *text)
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
    want(f, DISK_LOOP, "");
    f.bytes = (uint64_t)100 << 30;
    want(f, DISK_LOOP, "");
    f.root = false;
    want(f, DISK_NONE,
         "only root may mount an image; in memory, it would take "
         "more than half of it");
    f.bytes = ALL.bytes;
    want(f, DISK_TMPFS, "");
    f.bytes = ALL.memory_bytes / 2 + 1;
    want(f, DISK_NONE, "more than half of it");
    f.bytes = 1 << 20;
    f.memory_bytes = 0; /* no limit: half of the machine's */
    want(f, DISK_TMPFS, "");
    f.tmpfs_xattr = false;
    want(f, DISK_NONE, "an overlay needs Linux 6.6");
    f = ALL;
    f.tmpfs_xattr = false;
    f.loop = false;
    want(f, DISK_NONE, "/dev/loop-control; load the module loop");
    f = ALL;
    f.ext4 = false;
    want(f, DISK_TMPFS, "");
    f.tmpfs_xattr = false;
    want(f, DISK_NONE, "the kernel has no ext4");
    f.ext4 = true;
    f.mkfs = false;
    want(f, DISK_NONE, "install e2fsprogs");
}

static void test_look(void **state)
{
    (void)state;
    struct disk_facts f = {.bytes = 7};
    disk_look(&f);
    assert_int_equal(f.root, geteuid() == 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choose),
        cmocka_unit_test(test_look),
        cmocka_unit_test(test_bad_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
