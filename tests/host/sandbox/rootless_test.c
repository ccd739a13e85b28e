/* What ids a process has, on made texts and in real namespaces. */
#include "sandbox/rootless.h"
#include "sandbox/seccomp.h"
#include "ctest.h"

#include "base/fd.h"

#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void is(const char *uids, const char *gids, enum rootless_grade grade,
               uint32_t first, uint32_t count)
{
    struct rootless_ids ids;
    rootless_ids_of(uids, gids, &ids);
    assert_int_equal(ids.grade, grade);
    assert_int_equal(ids.first, first);
    assert_int_equal(ids.count, count);
    assert_int_equal(ids.idmap, grade == ROOTLESS_NOT);
}

static void grades(void **state)
{
    (void)state;
    const char *all = "         0          0 4294967295\n";
    const char *range = "         0       1000          1\n"
                        "         1     100000      65536\n";
    const char *one = "         0       1000          1\n";
    is(all, all, ROOTLESS_NOT, ROOTLESS_FIRST, ROOTLESS_COUNT);
    is(range, range, ROOTLESS_RANGE, 1, 65536);
    is(one, one, ROOTLESS_ONE, 0, 1);
    /* root of a container with one range: the last id is not to be had */
    is("0 100000 65536\n", "0 100000 65536\n", ROOTLESS_RANGE, 1, 65535);
    is("0 100000 200000\n", "0 100000 200000\n", ROOTLESS_RANGE, 1, 65536);
    /* groups and users must both be there */
    is(range, one, ROOTLESS_ONE, 0, 1);
    is(all, range, ROOTLESS_RANGE, 1, 65536);
    /* behind a hole nothing counts */
    is("0 1000 1\n5 100000 65536\n", range, ROOTLESS_ONE, 0, 1);
    is("", "", ROOTLESS_ONE, 0, 1);
    is("nonsense\n", range, ROOTLESS_ONE, 0, 1);
    is("0 5 4294967290\n1 2 4294967290\n", range, ROOTLESS_RANGE, 1, 65536);
}

static void ranges(void **state)
{
    (void)state;
    uint32_t first = 7;
    const char *text =
        "ada:100000:65536\nbob:165536:1000\n# x\n1003:300000:70000"
        "\nbob:400000:65536";
    assert_int_equal(rootless_range_of(text, "ada", 1, &first), 0);
    assert_int_equal(first, 100000);
    assert_int_equal(rootless_range_of(text, "bob", 2, &first), 0);
    assert_int_equal(first, 400000);
    assert_int_equal(rootless_range_of(text, "", 1003, &first), 0);
    assert_int_equal(first, 300000);
    first = 7;
    assert_int_equal(rootless_range_of(text, "ad", 9, &first), -1);
    assert_int_equal(rootless_range_of(text, "adam", 9, &first), -1);
    assert_int_equal(rootless_range_of("", "ada", 1, &first), -1);
    assert_int_equal(rootless_range_of(":::\nada:x:y\n", "ada", 1, &first), -1);
    assert_int_equal(first, 7);
}

/* The exit status of work in a child: 0 is success. */
static int in_child(int (*work)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(work());
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* As user 65534, who has no range; as ourselves where we are no root. */
static int enter_with_one(void)
{
    char why[160];
    struct err e = {0};
    struct rootless_ids ids;
    if (geteuid() == 0 && (setresgid(65534, 65534, 65534) < 0 ||
                           setresuid(65534, 65534, 65534) < 0))
        return 2;
    /* changing the user has shut /proc/self */
    (void)prctl(PR_SET_DUMPABLE, 1);
    setenv("PATH", "/nowhere", 1); /* no newuidmap for whoever has a range */
    if (rootless_enter(why, sizeof(why), &e) < 0)
        return 3;
    rootless_ids(&ids);
    return ids.grade == ROOTLESS_ONE && geteuid() == 0 && *why ? 0 : 4;
}

static int enter_and_nest(void)
{
    int r = enter_with_one();
    struct err e = {0};
    struct rootless_ids ids;
    if (r != 0)
        return r;
    rootless_ids(&ids);
    FD_AUTO int fd = rootless_userns(&ids, &e);
    if (fd < 0)
        return 5;
    if (setns(fd, CLONE_NEWUSER) < 0)
        return 6;
    rootless_ids(&ids);
    return ids.grade == ROOTLESS_ONE && geteuid() == 0 ? 0 : 7;
}

/* What the filter of one id makes of calls that would fail. */
static int fake_owners(void)
{
    char dir[] = "/tmp/e2blua-fakes-XXXXXX", path[64];
    struct stat st;
    int r = enter_with_one();
    if (r != 0)
        return r;
    if (!mkdtemp(dir))
        return 10;
    if (chown(dir, 5, 5) == 0) /* without the filter */
        return 11;
    if (seccomp_load_fakes() < 0)
        return 12;
    if (chown(dir, 5, 5) < 0 || setgroups(0, NULL) < 0 || setgid(5) < 0 ||
        setuid(5) < 0 || getuid() != 0 || stat(dir, &st) < 0 || st.st_uid != 0)
        return 13;
    snprintf(path, sizeof(path), "%s/node", dir);
    if (mknod(path, S_IFCHR | 0600, makedev(1, 3)) < 0 || stat(path, &st) == 0)
        return 14; /* devices are not made */
    if (mknod(path, S_IFIFO | 0600, 0) < 0 || stat(path, &st) < 0)
        return 15; /* pipes are */
    return unlink(path) < 0 || rmdir(dir) < 0 ? 16 : 0;
}

static int join_a_stranger(void)
{
    struct err e = {0};
    if (rootless_join(getpid(), 1, &e) == 0 || strcmp(e.kind, "not_found") != 0)
        return 2; /* this process, but not of that time */
    if (rootless_join(999999999, 1, &e) == 0)
        return 3;
    return 0;
}

static void real(void **state)
{
    (void)state;
    assert_int_equal(in_child(enter_with_one), 0);
    assert_int_equal(in_child(enter_and_nest), 0);
    assert_int_equal(in_child(fake_owners), 0);
    assert_int_equal(in_child(join_a_stranger), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(grades),
    cmocka_unit_test(ranges),
    cmocka_unit_test(real),
};
RUN(tests)
