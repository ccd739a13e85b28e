/* Which folders can hold home and cache: decided on made facts, gathered from
 * real file systems; and the room for descriptors. */
#include "sandbox/hostfs.h"

#include "base/fd.h"
#include "ctest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static struct hostfs_facts good(void)
{
    return (struct hostfs_facts){.type = EXT4_SUPER_MAGIC,
                                 .free_bytes = (uint64_t)1 << 30,
                                 .free_files = 100000};
}

static void refused(const struct hostfs_facts *f, const char *kind,
                    const char *says)
{
    struct err e = {0};
    assert_int_equal(hostfs_judge(f, "E2BLUA_HOME", "/srv/x", &e), -1);
    assert_string_equal(e.kind, kind);
    if (!strstr(e.msg, says) || !strstr(e.msg, "/srv/x"))
        fail_msg("%s", e.msg);
}

static void test_good(void **state)
{
    struct err e = {0};
    struct hostfs_facts f = good();
    (void)state;
    assert_int_equal(hostfs_judge(&f, "E2BLUA_HOME", "/srv/x", &e), 0);
    f.type = TMPFS_MAGIC;
    f.free_files = UINT64_MAX; /* not counted: btrfs */
    assert_int_equal(hostfs_judge(&f, "E2BLUA_HOME", "/srv/x", &e), 0);
}

static void test_types(void **state)
{
    static const struct {
        uint64_t type;
        const char *name;
    } bad[] = {{OVERLAYFS_SUPER_MAGIC, "is on overlay (the file system of a "
                                       "container), where sandboxes cannot"},
               {NFS_SUPER_MAGIC, "is on NFS"},
               {0xfe534d42, "is on SMB"},
               {V9FS_MAGIC, "is on 9p"},
               {FUSE_SUPER_MAGIC, "is on FUSE"},
               {MSDOS_SUPER_MAGIC, "is on FAT"}};
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct hostfs_facts f = good();
        f.type = bad[i].type;
        refused(&f, "unsupported", bad[i].name);
        refused(&f, "unsupported", "set E2BLUA_HOME to a folder of a local");
    }
}

static void test_unwritable(void **state)
{
    struct hostfs_facts f = good();
    (void)state;
    f.read_only = true;
    f.write_errno = EROFS;
    refused(&f, "invalid_argument", "is mounted read-only: set E2BLUA_HOME");
    f = good();
    f.write_errno = EACCES;
    refused(&f, "invalid_argument", "may not write in /srv/x: set E2BLUA_HOME");
    f.write_errno = EIO;
    refused(&f, "internal", "no file can be made in /srv/x (E2BLUA_HOME)");
    f = good();
    f.xattr_errno = EOPNOTSUPP;
    refused(&f, "unsupported", "keeps no user attributes");
}

static void test_full(void **state)
{
    struct hostfs_facts f = good();
    (void)state;
    f.free_bytes = 3 << 20;
    f.write_errno = ENOSPC;
    refused(&f, "not_enough_space",
            "3.0 MiB are free on the file system of "
            "/srv/x, at least 16 are needed");
    refused(&f, "not_enough_space", "e2blua engine gc");
    f = good();
    f.free_files = 12;
    refused(&f, "not_enough_space", "12 files can still be made");
    f = good();
    f.write_errno = EDQUOT; /* a quota that statfs does not know */
    refused(&f, "not_enough_space", "no file can be made in /srv/x");
}

static void test_gather(void **state)
{
    struct err e = {0};
    struct hostfs_facts f;
    (void)state;
    assert_int_equal(hostfs_gather("/proc/self", &f, &e), 0);
    assert_int_equal(f.type, PROC_SUPER_MAGIC);
    assert_int_not_equal(f.write_errno, 0);
    assert_int_equal(hostfs_gather("/dev/shm", &f, &e), 0);
    assert_int_equal(f.type, TMPFS_MAGIC);
    assert_int_equal(f.write_errno, 0);
    assert_int_equal(hostfs_gather("/no/such/folder", &f, &e), -1);
    assert_non_null(strstr(e.msg, "/no/such/folder"));
    assert_int_equal(hostfs_room("/no/such/folder", &e), -1);
    assert_int_equal(hostfs_room("/proc", &e), -1); /* 0 bytes are free */
    assert_string_equal(e.kind, "not_enough_space");
}

static void test_descriptors(void **state)
{
    enum { MAX = 96, MANY = 80 };
    struct rlimit had, low;
    int fds[MANY], n = 0, have = 0, limit = 0;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &had), 0);
    low = had;
    low.rlim_cur = MAX;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    bool room = fd_room(40, &have, &limit);
    while (n < MANY && fd_room(40, &have, &limit))
        fds[n++] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bool small = fd_room(20, NULL, NULL);
    /* A hole: one that was taken at a peak is above, and still there is room */
    int at_peak = fcntl(0, F_DUPFD_CLOEXEC, MAX - 10);
    for (int i = 0; i < n / 2; i++)
        fd_close(&fds[i]);
    bool again = fd_room(40, NULL, NULL);
    setrlimit(RLIMIT_NOFILE, &had);
    for (int i = 0; i < n; i++)
        fd_close(&fds[i]);
    fd_close(&at_peak);
    assert_true(room && small && again);
    assert_in_range(n, 20, 60);
    assert_in_range(have, MAX - 40, MAX - 38);
    assert_int_equal(limit, MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),       cmocka_unit_test(test_types),
        cmocka_unit_test(test_unwritable), cmocka_unit_test(test_full),
        cmocka_unit_test(test_gather),     cmocka_unit_test(test_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
