/* Groups: what a mountinfo says, what is written on a made tree of v1 and v2,
 * and one life of a real group (needs root). */
#include "sandbox/cgroup_tree.h"

#include "cgroup_made.h"
#include "ctest_root.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char V1[] =
    "22 27 0:21 / /proc rw - proc proc rw\n"
    "32 31 0:29 / @/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup "
    "rw,cpuacct,cpu\n"
    "34 31 0:31 / @/cpuset rw - cgroup cgroup rw,cpuset\n"
    "35 31 0:32 / @/mem\\040ory rw - cgroup cgroup rw,memory\n"
    "36 31 0:34 / @/freezer rw - cgroup cgroup rw,freezer\n"
    "37 31 0:36 / @/pids rw shared:1 master:2 - cgroup cgroup rw,pids\n"
    "38 31 0:37 / @/systemd rw - cgroup cgroup rw,name=systemd\n"
    "41 31 0:38 / @/unified rw - cgroup2 cgroup2 rw";
static const char V2[] =
    "30 23 0:26 / @/cg rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

static void test_scan(void **state)
{
    struct made *m = *state;
    char path[256];
    put(m, "unified/cgroup.controllers", "hugetlb\n");
    scan(m, V1);
    const struct cgroup_root *k = m->tree.kind;
    str_fmt(path, sizeof(path), "%s/cpu,cpuacct", m->dir);
    assert_string_equal(k[CGROUP_CPU].path, path);
    assert_string_equal(k[CGROUP_CPUACCT].path, path);
    str_fmt(path, sizeof(path), "%s/mem ory", m->dir);
    assert_string_equal(k[CGROUP_MEMORY].path, path);
    for (int i = 0; i < CGROUP_KINDS; i++)
        assert_false(k[i].v2);
    assert_int_equal(cgroup_tree_fd(&m->tree, "e2blua/x"), -1);
    scan(m, "");
    assert_string_equal(k[CGROUP_CPU].path, "");
    scan(m, "a line of nonsense\n - cgroup\n1 2 3:4 / /x rw - cgroup\n");
    assert_string_equal(k[CGROUP_CPU].path, "");
}

/* Controllers that v1 does not have are taken from the unified hierarchy. */
static void test_scan_unified(void **state)
{
    struct made *m = *state;
    put(m, "cg/cgroup.controllers", "cpuset cpu io memory\n");
    scan(m, V2);
    const struct cgroup_root *k = m->tree.kind;
    assert_true(k[CGROUP_CPU].v2 && k[CGROUP_MEMORY].v2);
    assert_true(k[CGROUP_CPUACCT].v2 && k[CGROUP_FREEZER].v2);
    assert_string_equal(k[CGROUP_PIDS].path, "");
}

static const struct cgroup_limits LIMITS = {
    .cpu_count = 2, .memory_bytes = 1000000, .pids = 50};

static void test_v1(void **state)
{
    struct made *m = *state;
    char missing[64];
    struct err e = {0};
    scan(m, V1);
    put(m, "cpu,cpuacct/e2blua/h/a/cpu.cfs_period_us", "");
    put(m, "cpu,cpuacct/e2blua/h/a/cpu.cfs_quota_us", "");
    put(m, "cpu,cpuacct/e2blua/h/a/cpuacct.usage", "12345\n");
    put(m, "mem ory/e2blua/h/a/memory.limit_in_bytes", "");
    put(m, "mem ory/e2blua/h/a/memory.memsw.limit_in_bytes", "");
    put(m, "mem ory/e2blua/h/a/memory.usage_in_bytes", "777\n");
    put(m, "mem ory/e2blua/h/a/memory.stat",
        "cache 1\nrss 2\ntotal_cache 555\n");
    put(m, "mem ory/e2blua/h/a/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
    put(m, "freezer/e2blua/h/a/freezer.state", "THAWED");
    put(m, "freezer/e2blua/h/a/cgroup.procs", "");
    put(m, "pids/cgroup.procs", "");
    if (cgroup_tree_make(&m->tree, "e2blua/h/a", &LIMITS, missing,
                         sizeof(missing), &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(missing, "pids");
    want(m, "cpu,cpuacct/e2blua/h/a/cpu.cfs_period_us", "100000");
    want(m, "cpu,cpuacct/e2blua/h/a/cpu.cfs_quota_us", "200000");
    want(m, "mem ory/e2blua/h/a/memory.limit_in_bytes", "1000000");
    want(m, "mem ory/e2blua/h/a/memory.memsw.limit_in_bytes", "1000000");
    struct cgroup_usage u;
    assert_int_equal(cgroup_tree_usage(&m->tree, "e2blua/h/a", &u, &e), 0);
    assert_int_equal(u.cpu_ns, 12345);
    assert_int_equal(u.memory_bytes, 777);
    assert_int_equal(u.memory_cache_bytes, 555);
    assert_int_equal(u.oom_kills, 3);
    assert_true(cgroup_tree_empty(&m->tree, "e2blua/h/a"));
    put(m, "freezer/e2blua/h/a/cgroup.procs", "123\n");
    assert_false(cgroup_tree_empty(&m->tree, "e2blua/h/a"));
    assert_int_equal(cgroup_tree_freeze(&m->tree, "e2blua/h/a", true, &e), 0);
    want(m, "freezer/e2blua/h/a/freezer.state", "FROZEN");
    /* files keep the folder: as if the kernel still counted */
    assert_int_equal(cgroup_tree_remove(&m->tree, "e2blua/h/a", 5, &e), -1);
    assert_non_null(strstr(e.msg, "cannot remove the cgroup"));
}

static void test_v2(void **state)
{
    struct made *m = *state;
    char missing[64];
    struct err e = {0};
    put(m, "cg/cgroup.controllers", "cpu memory pids\n");
    put(m, "cg/cgroup.subtree_control", "");
    put(m, "cg/e2blua/cgroup.subtree_control", "");
    put(m, "cg/e2blua/h/a/cpu.max", "");
    put(m, "cg/e2blua/h/a/memory.max", "");
    put(m, "cg/e2blua/h/a/memory.swap.max", "");
    put(m, "cg/e2blua/h/a/cgroup.kill", "");
    put(m, "cg/e2blua/h/a/cgroup.procs", "");
    put(m, "cg/e2blua/h/a/cgroup.freeze", "");
    put(m, "cg/e2blua/h/a/cgroup.events", "populated 1\nfrozen 1\n");
    put(m, "cg/e2blua/h/a/cpu.stat", "usage_usec 42\nuser_usec 1\n");
    put(m, "cg/e2blua/h/a/memory.current", "888\n");
    put(m, "cg/e2blua/h/a/memory.stat", "anon 1\nfile 99\nfile_mapped 3\n");
    put(m, "cg/e2blua/h/a/memory.events", "oom 1\noom_kill 0\n");
    scan(m, V2);
    assert_int_equal(cgroup_tree_make(&m->tree, "e2blua/h/a", &LIMITS, missing,
                                      sizeof(missing), &e),
                     0);
    assert_string_equal(missing, "pids");
    want(m, "cg/cgroup.subtree_control", "+cpu+memory+pids");
    want(m, "cg/e2blua/cgroup.subtree_control", "+cpu+memory+pids");
    want(m, "cg/e2blua/h/a/cpu.max", "200000 100000");
    want(m, "cg/e2blua/h/a/memory.max", "1000000");
    want(m, "cg/e2blua/h/a/memory.swap.max", "0");
    put(m, "cg/e2blua/h/a/pids.current", "4\n");
    struct cgroup_usage u;
    assert_int_equal(cgroup_tree_usage(&m->tree, "e2blua/h/a", &u, &e), 0);
    assert_int_equal(u.cpu_ns, 42000);
    assert_int_equal(u.memory_bytes, 888);
    assert_int_equal(u.memory_cache_bytes, 99);
    assert_int_equal(u.pids, 4);
    assert_int_equal(u.oom_kills, 0);
    assert_int_equal(cgroup_tree_freeze(&m->tree, "e2blua/h/a", true, &e), 0);
    want(m, "cg/e2blua/h/a/cgroup.freeze", "1");
    assert_int_equal(cgroup_tree_kill(&m->tree, "e2blua/h/a", &e), 0);
    want(m, "cg/e2blua/h/a/cgroup.kill", "1");
    int fd = cgroup_tree_fd(&m->tree, "e2blua/h/a");
    assert_true(fd >= 0);
    close(fd);
}

static void test_bad_names(void **state)
{
    struct made *m = *state;
    static const char *const bad[] = {"",     "/a", "a/", "a//b",
                                      "../a", "A",  "a b"};
    struct err e;
    struct cgroup_usage u;
    char missing[8];
    int doors[CGROUP_DOORS];
    scan(m, V1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        memset(&e, 0, sizeof(e));
        assert_int_equal(cgroup_tree_make(&m->tree, bad[i], &LIMITS, missing,
                                          sizeof(missing), &e),
                         -1);
        assert_string_equal(e.kind, "invalid_argument");
        assert_int_equal(cgroup_tree_kill(&m->tree, bad[i], &e), -1);
        assert_int_equal(cgroup_tree_remove(&m->tree, bad[i], 0, &e), -1);
        assert_int_equal(cgroup_tree_add(&m->tree, bad[i], 1, &e), -1);
        assert_int_equal(cgroup_tree_doors(&m->tree, bad[i], doors, &e), -1);
        assert_int_equal(cgroup_tree_usage(&m->tree, bad[i], &u, &e), -1);
        assert_true(cgroup_tree_empty(&m->tree, bad[i]));
    }
    assert_int_equal(cgroup_tree_doors(&m->tree, "e2blua/none", doors, &e), -1);
    assert_string_equal(e.kind, "not_found");
    assert_int_equal(cgroup_tree_kill(&m->tree, "e2blua/none", &e), 0);
    assert_int_equal(cgroup_tree_remove(&m->tree, "e2blua/none", 0, &e), 0);
}

/* A process that moves itself in, as the launcher's child does; without v1 it
 * is moved. Returns when it is there. */
static pid_t enter(const char *name)
{
    struct err e = {0};
    int doors[CGROUP_DOORS], there[2];
    char c;
    int n = cgroup_doors(name, doors, &e);
    if (n < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(pipe(there), 0);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < n; i++)
            if (write(doors[i], "0", 1) != 1)
                _exit(1);
        if (write(there[1], "t", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(there[1]);
    for (int i = 0; i < n; i++)
        close(doors[i]);
    assert_int_equal(read(there[0], &c, 1), 1);
    close(there[0]);
    if (n == 0 && cgroup_add(name, pid, &e) < 0)
        fail_msg("%s", e.msg);
    return pid;
}

static void test_real(void **state)
{
    (void)state;
    char name[64];
    struct err e = {0};
    struct cgroup_usage u;
    char missing[64];
    if (!ctest_has_cgroups())
        skip();
    str_fmt(name, sizeof(name), "e2blua/test%d/one", (int)getpid());
    if (cgroup_make(name, &LIMITS, missing, sizeof(missing), &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(missing, "");
    pid_t pid = fork();
    if (pid == 0) {
        for (;;)
            pause();
    }
    if (cgroup_add(name, pid, &e) < 0)
        fail_msg("%s", e.msg);
    assert_false(cgroup_empty(name));
    assert_int_equal(cgroup_usage(name, &u, &e), 0);
    assert_int_equal(u.pids, 1);
    assert_int_equal(u.oom_kills, 0);
    pid_t other = enter(name);
    assert_int_equal(cgroup_usage(name, &u, &e), 0);
    assert_int_equal(u.pids, 2);
    assert_int_equal(cgroup_freeze(name, true, &e), 0);
    assert_int_equal(cgroup_remove(name, 5, &e), -1);
    assert_int_equal(cgroup_kill(name, &e), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(waitpid(other, NULL, 0), other);
    assert_true(cgroup_empty(name));
    if (cgroup_remove(name, 2000, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(cgroup_usage(name, &u, &e), -1);
    assert_string_equal(e.kind, "not_found");
    assert_int_equal(cgroup_remove(name, 0, &e), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_scan), TEST(test_scan_unified), TEST(test_v1),
        TEST(test_v2),   TEST(test_bad_names),    TEST(test_real),
    };
    if (ctest_root() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
