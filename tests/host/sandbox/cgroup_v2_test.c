/* cgroup v2 and delegation: decisions on made trees, and a real cgroup2, which
 * on a machine with v1 has no controllers for us but kills, freezes, and takes
 * a process at its clone. */
#include "sandbox/cgroup_tree.h"

#include "cgroup_made.h"
#include "ctest_root.h"

#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOBODY = 65534 };

static const char V2[] =
    "30 23 0:26 / @/cg rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
static const char V1[] =
    "35 31 0:32 / @/memory rw - cgroup cgroup rw,memory\n"
    "37 31 0:36 / @/pids rw - cgroup cgroup rw,pids\n"
    "38 31 0:30 / @/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    "41 31 0:38 / @/cg rw - cgroup2 cgroup2 rw";
static const char SCOPE[] = "0::/user.slice/user-7.slice/user@7.service/"
                            "app.slice/run-1.scope\n";

/* ---- decisions ------------------------------------------------------------
 */

static int may_service(const char *dir, bool v2)
{
    return v2 && strstr(dir, "/user@7.service") ? 0 : EACCES;
}

static int may_scope(const char *dir, bool v2)
{
    return v2 && strstr(dir, "/run-1.scope") ? 0 : EACCES;
}

static int may_nothing(const char *dir, bool v2)
{
    (void)dir;
    (void)v2;
    return EACCES;
}

static int may_not_write(const char *dir, bool v2)
{
    (void)dir;
    (void)v2;
    return EROFS;
}

static void want_place(const struct made *m, enum cgroup_kind k,
                       const char *place)
{
    char path[256];
    str_fmt(path, sizeof(path), "%s/cg%s", m->dir, place);
    assert_string_equal(m->tree.kind[k].path, path);
}

/* The uppermost of the groups on the way to ours, with what it was given. */
static void test_delegated(void **state)
{
    struct made *m = *state;
    put(m, "cg/cgroup.controllers", "cpu memory pids\n");
    put(m,
        "cg/user.slice/user-7.slice/user@7.service/"
        "cgroup.controllers",
        "memory pids\n");
    put(m,
        "cg/user.slice/user-7.slice/user@7.service/app.slice/run-1.scope/"
        "cgroup.controllers",
        "pids\n");
    scan_as(m, V2, SCOPE, may_service);
    want_place(m, CGROUP_MEMORY, "/user.slice/user-7.slice/user@7.service");
    want_place(m, CGROUP_FREEZER, "/user.slice/user-7.slice/user@7.service");
    assert_string_equal(m->tree.kind[CGROUP_CPU].path, "");
    assert_int_equal(m->tree.kind[CGROUP_CPU].lack, CGROUP_NO_CONTROLLER);
    scan_as(m, V2, SCOPE, may_scope);
    want_place(m, CGROUP_PIDS,
               "/user.slice/user-7.slice/user@7.service/app.slice/run-1.scope");
    assert_string_equal(m->tree.kind[CGROUP_MEMORY].path, "");
    /* a session of ssh is root's all the way */
    scan_as(m, V2, "0::/user.slice/user-7.slice/session-3.scope\n",
            may_service);
    for (int k = 0; k < CGROUP_KINDS; k++) {
        assert_string_equal(m->tree.kind[k].path, "");
        assert_int_equal(m->tree.kind[k].lack, CGROUP_NOT_DELEGATED);
    }
}

/* In a container the mount shows a part: our path begins with that part. */
static void test_container(void **state)
{
    struct made *m = *state;
    put(m, "cg/cgroup.controllers", "memory\n");
    put(m, "cg/run-1.scope/cgroup.controllers", "memory\n");
    scan_as(m, "30 23 0:26 /docker/0a @/cg rw - cgroup2 cgroup2 rw\n",
            "0::/docker/0a/run-1.scope\n", may_scope);
    want_place(m, CGROUP_MEMORY, "/run-1.scope");
    scan_as(m, V2, "0::/../../elsewhere\n", may_scope);
    assert_string_equal(m->tree.kind[CGROUP_MEMORY].path, "");
    scan_as(m, V2, "a line of nonsense\n0::\n", may_scope);
    assert_string_equal(m->tree.kind[CGROUP_MEMORY].path, "");
}

/* On a hybrid machine a user has the freezer of v2 only. */
static void test_hybrid(void **state)
{
    struct made *m = *state;
    put(m, "cg/cgroup.controllers", "hugetlb\n");
    scan_as(m, V1,
            "4:memory:/user/7\n8:pids:/\n1:cpu,cpuacct:/\n0::/run-1.scope\n",
            may_scope);
    assert_string_equal(m->tree.kind[CGROUP_MEMORY].path, "");
    assert_int_equal(m->tree.kind[CGROUP_MEMORY].lack, CGROUP_OF_ROOT);
    want_place(m, CGROUP_FREEZER, "/run-1.scope");
    want_place(m, CGROUP_CPUACCT, "/run-1.scope");
    scan(m, V1);
    assert_false(m->tree.kind[CGROUP_MEMORY].v2);
    assert_true(m->tree.kind[CGROUP_FREEZER].v2);
}

static void want_offer(struct made *m, const char *why, const char *remedy)
{
    struct cgroup_offer o;
    cgroup_tree_offer(&m->tree, &o);
    assert_false(o.memory);
    if (!strstr(o.why, why) || !strstr(o.remedy, remedy))
        fail_msg("why: %s; remedy: %s", o.why, o.remedy);
}

static void test_offer_reasons(void **state)
{
    struct made *m = *state;
    struct cgroup_offer o;
    put(m, "cg/cgroup.controllers", "hugetlb\n");
    put(m,
        "cg/user.slice/user-7.slice/user@7.service/app.slice/run-1.scope/"
        "cgroup.controllers",
        "pids\n");
    scan(m, "");
    want_offer(m, "no cgroup file system is mounted", "mount -t cgroup2");
    scan_as(m, V2, SCOPE, may_not_write);
    want_offer(m, "/cg is mounted read-only", "docker run");
    scan_as(m, V1, SCOPE, may_nothing);
    want_offer(m, "/memory belongs to root", "unified_cgroup_hierarchy");
    scan_as(m, V2, SCOPE, may_nothing);
    want_offer(m, "that e2blua runs in is this user's", "systemd-run --user");
    scan_as(m, V2, SCOPE, may_scope);
    want_offer(m, "run-1.scope was not given the controller memory",
               "Delegate=cpu cpuset io memory pids");
    scan(m, V2);
    want_offer(m, "this kernel offers no controller memory",
               "cgroup_enable=memory");
    put(m, "cg/cgroup.controllers", "memory\n");
    scan(m, V2); /* there are no files to write to */
    want_offer(m, "/cg did not take a limit of memory", "Delegate=yes");
    cgroup_tree_offer(&m->tree, &o);
    assert_int_equal(o.version, 2);
    assert_false(o.pids || o.cpu || o.swap);
    assert_true(o.freeze);
    assert_true(strlen(o.where) > strlen(m->dir));
}

/* Processes of the group that hands down go aside first; never those of the
 * hierarchy's root, which has no cgroup.events. */
static void test_move_out(void **state)
{
    struct made *m = *state;
    char missing[64];
    struct err e = {0};
    struct cgroup_limits none = {0};
    put(m, "cg/cgroup.controllers", "memory\n");
    put(m, "cg/cgroup.procs", "41\n42\n");
    put(m, "cg/cgroup.subtree_control", "");
    put(m, "cg/e2blua.host/cgroup.procs", "");
    scan(m, V2);
    assert_int_equal(cgroup_tree_make(&m->tree, "e2blua/a", &none, missing,
                                      sizeof(missing), &e),
                     0);
    want(m, "cg/e2blua.host/cgroup.procs", "");
    put(m, "cg/cgroup.events", "populated 1\n");
    assert_int_equal(cgroup_tree_make(&m->tree, "e2blua/a", &none, missing,
                                      sizeof(missing), &e),
                     0);
    char path[128];
    str_fmt(path, sizeof(path), "%s/cg/e2blua.host/cgroup.procs", m->dir);
    char *got = path_read_file(AT_FDCWD, path, 4096, NULL, &e);
    assert_non_null(got); /* a real file is emptied by each write's kernel */
    assert_true(strstr(got, "41") || strstr(got, "42"));
    free(got);
    want(m, "cg/cgroup.subtree_control", "+cpu+memory+pids");
}

static void test_memory_events(void **state)
{
    struct made *m = *state;
    char text[32];
    put(m, "cg/cgroup.controllers", "memory\n");
    put(m, "cg/e2blua/a/memory.events", "oom_kill 3\n");
    put(m, "memory/e2blua/a/memory.oom_control", "oom_kill 2\n");
    static const char *const infos[] = {V2, V1};
    for (int i = 0; i < 2; i++) {
        scan(m, infos[i]);
        int fd = cgroup_tree_memory_events(&m->tree, "e2blua/a");
        assert_int_equal(read(fd, text, sizeof(text)), 11);
        assert_int_equal(text[9], i ? '2' : '3');
        close(fd);
        assert_int_equal(cgroup_tree_memory_events(&m->tree, "e2blua/b"), -1);
        assert_int_equal(cgroup_tree_memory_events(&m->tree, "../b"), -1);
    }
}

/* ---- the real one ---------------------------------------------------------
 */

/* Run in a child, which says where it failed. */
#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            (void)fprintf(stderr, "%s:%d: %s (%s; %s)\n", __FILE__, __LINE__,  \
                          #condition, strerror(errno), e.msg);                 \
            return 1;                                                          \
        }                                                                      \
    } while (0)

static int in_child(int (*fn)(struct made *m), struct made *m)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        _exit(fn(m));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static pid_t clone_into(int group)
{
    struct clone_args a = {.flags = CLONE_INTO_CGROUP,
                           .exit_signal = SIGCHLD,
                           .cgroup = (uint64_t)group};
    pid_t pid = (pid_t)syscall(SYS_clone3, &a, sizeof(a));
    if (pid == 0)
        for (;;)
            pause();
    return pid;
}

/* Made, entered at the clone, frozen, killed as a whole, removed. */
static int life(const struct cgroup_tree *t, const char *name)
{
    struct err e = {0};
    char missing[64];
    int status;
    struct cgroup_usage u;
    MUST(cgroup_tree_make(t, name, &(struct cgroup_limits){0}, missing,
                          sizeof(missing), &e) == 0);
    int group = cgroup_tree_fd(t, name);
    MUST(group >= 0);
    pid_t one = clone_into(group), two = clone_into(group);
    MUST(one > 0 && two > 0);
    MUST(!cgroup_tree_empty(t, name));
    MUST(cgroup_tree_usage(t, name, &u, &e) == 0 && u.pids == 2);
    MUST(cgroup_tree_freeze(t, name, true, &e) == 0);
    MUST(cgroup_tree_kill(t, name, &e) == 0); /* the frozen too */
    MUST(waitpid(one, &status, 0) == one && WTERMSIG(status) == SIGKILL);
    MUST(waitpid(two, &status, 0) == two && WTERMSIG(status) == SIGKILL);
    MUST(cgroup_tree_empty(t, name));
    close(group);
    MUST(cgroup_tree_remove(t, name, 2000, &e) == 0);
    MUST(cgroup_tree_usage(t, name, &u, &e) < 0);
    return 0;
}

static int mounted(struct made *m)
{
    struct err e = {0};
    char name[64];
    MUST(unshare(CLONE_NEWNS) == 0);
    MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    str_fmt(name, sizeof(name), "%s/cg", m->dir);
    MUST(mkdir(name, 0755) == 0);
    MUST(mount("cgroup2", name, "cgroup2", 0, NULL) == 0);
    scan(m, V2);
    str_fmt(name, sizeof(name), "e2blua/test%d/one", (int)getpid());
    return life(&m->tree, name);
}

static void test_real_mount(void **state)
{
    if (!ctest_has_cgroups())
        skip();
    assert_int_equal(in_child(mounted, *state), 0);
}

/* As systemd makes a delegated group: the folder and two of its files are the
 * user's. */
static int delegate(const char *dir)
{
    static const char *const files[] = {
        "", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads"};
    char path[CGROUP_PATH_MAX];
    if (mkdir(dir, 0755) < 0)
        return -1;
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        str_fmt(path, sizeof(path), "%s%s", dir, files[i]);
        if (chown(path, NOBODY, NOBODY) < 0)
            return -1;
    }
    return 0;
}

static int write_text(const char *dir, const char *file, const char *text)
{
    char path[CGROUP_PATH_MAX];
    str_fmt(path, sizeof(path), "%s/%s", dir, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
    if (fd >= 0)
        close(fd);
    return n < 0 ? -1 : 0;
}

/* Root at first, then nobody in a scope of his. */
static int as_nobody(struct made *m)
{
    struct err e = {0};
    char missing[64];
    struct cgroup_tree t;
    MUST(write_text(m->dir, "cgroup.procs", "0") == 0);
    MUST(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
    MUST(cgroup_tree_open(&t, &e) == 0);
    MUST(!strcmp(t.kind[CGROUP_FREEZER].path, m->dir));
    if (life(&t, "e2blua/one") != 0)
        return 1;
    /* As if pids had been delegated: we ourselves stand in the way. */
    t.kind[CGROUP_PIDS] = t.unified;
    MUST(cgroup_tree_make(&t, "e2blua/two", &(struct cgroup_limits){0}, missing,
                          sizeof(missing), &e) == 0);
    char *own = path_read_file(AT_FDCWD, "/proc/self/cgroup", 65536, NULL, &e);
    MUST(own && strstr(own, ".scope/e2blua.host\n"));
    free(own);
    MUST(cgroup_tree_open(&t, &e) == 0);
    MUST(!strcmp(t.kind[CGROUP_FREEZER].path, m->dir));
    MUST(cgroup_tree_remove(&t, "e2blua/two", 1000, &e) == 0);
    struct cgroup_offer o;
    MUST(cgroup_offer(&o, &e) == 0 && o.freeze);
    /* Where v2 has them, the scope's own controllers hold for what is in it. */
    char path[CGROUP_PATH_MAX];
    str_fmt(path, sizeof(path), "%s/cgroup.controllers", m->dir);
    char *given = path_read_file(AT_FDCWD, path, 4096, NULL, &e);
    MUST(given);
    if (strstr(given, "memory"))
        MUST(o.memory && o.pids && o.cpu && o.version == 2 &&
             !strcmp(o.where, m->dir));
    else
        MUST(!o.memory && *o.why && *o.remedy);
    free(given);
    return 0;
}

static void test_real_delegation(void **state)
{
    (void)state;
    struct cgroup_tree t;
    struct made scope;
    char dir[CGROUP_PATH_MAX];
    struct err e = {0};
    if (!ctest_has_cgroups())
        skip();
    assert_int_equal(cgroup_tree_open(&t, &e), 0);
    if (!*t.unified.path)
        skip();
    str_fmt(dir, sizeof(dir), "%.255s/e2btest%d.scope", t.unified.path,
            (int)getpid());
    assert_true(strlen(dir) < sizeof(scope.dir));
    str_fmt(scope.dir, sizeof(scope.dir), "%.63s", dir);
    /* As systemd does; it fails where v1 has them. */
    static const char *const give[] = {"+memory", "+pids", "+cpu"};
    for (int i = 0; i < 3; i++)
        (void)write_text(t.unified.path, "cgroup.subtree_control", give[i]);
    assert_int_equal(delegate(scope.dir), 0);
    int status = in_child(as_nobody, &scope);
    str_fmt(dir, sizeof(dir), "%s/e2blua.host", scope.dir);
    for (int i = 0; i < 100 && rmdir(dir) < 0 && errno == EBUSY; i++)
        usleep(10000);
    assert_int_equal(rmdir(scope.dir), 0);
    assert_int_equal(status, 0);
}

/* ---- limits of whatever the machine has, v1 or v2 -------------------------
 */

/* Runs fn in a child that is in the group; its status as by waitpid. */
static int in_group(const char *name, void (*fn)(void))
{
    struct err e = {0};
    int status = -1, pair[2];
    char go;
    assert_int_equal(pipe(pair), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (read(pair[0], &go, 1) == 1)
            fn();
        _exit(0);
    }
    if (cgroup_add(name, pid, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(write(pair[1], "g", 1), 1);
    close(pair[0]);
    close(pair[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void take_memory(void)
{
    enum { BYTES = 200 << 20 };
    volatile char *p = malloc(BYTES);
    for (size_t i = 0; p && i < BYTES; i += 4096)
        p[i] = 1;
    _exit(3);
}

/* Exits with how many it got; they end with it. */
static void take_pids(void)
{
    pid_t got[40];
    int n = 0;
    while (n < 40 && (got[n] = fork()) > 0)
        n++;
    if (n < 40 && got[n] == 0) {
        for (;;)
            pause();
    }
    for (int i = 0; i < n; i++) {
        kill(got[i], SIGKILL);
        (void)waitpid(got[i], NULL, 0);
    }
    _exit(n);
}

/* 2 s of three busy processes; the group counts what they got. */
static void take_cpu(void)
{
    for (int i = 0; i < 2; i++)
        if (fork() == 0)
            break;
    alarm(2);
    for (;;) {
    }
}

static void test_real_limits(void **state)
{
    (void)state;
    struct cgroup_offer o;
    struct cgroup_usage u;
    struct err e = {0};
    struct cgroup_limits l = {
        .cpu_count = 1, .memory_bytes = 64 << 20, .pids = 10};
    char name[64], missing[64], text[512] = "";
    assert_int_equal(cgroup_offer(&o, &e), 0);
    if (!o.memory || !o.pids || !o.cpu) {
        print_message("%s\n", o.why);
        skip();
    }
    str_fmt(name, sizeof(name), "e2blua/test%d/limits", (int)getpid());
    assert_int_equal(cgroup_make(name, &l, missing, sizeof(missing), &e), 0);
    assert_string_equal(missing, "");
    int events = cgroup_memory_events(name);
    int status = in_group(name, take_memory);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(cgroup_usage(name, &u, &e), 0);
    assert_int_equal(u.oom_kills, 1);
    assert_true(pread(events, text, sizeof(text) - 1, 0) > 0);
    assert_non_null(strstr(text, "oom_kill 1\n"));
    close(events);
    status = in_group(name, take_pids);
    assert_int_equal(WEXITSTATUS(status), 9); /* and itself */
    assert_int_equal(cgroup_usage(name, &u, &e), 0);
    uint64_t before = u.cpu_ns;
    (void)in_group(name, take_cpu);
    assert_int_equal(cgroup_kill(name, &e), 0);
    assert_int_equal(cgroup_usage(name, &u, &e), 0);
    double used = (double)(u.cpu_ns - before) / 1e9;
    if (used > 2.4 || used < 0.1)
        fail_msg("%.2f s of processor in 2 s", used);
    print_message("limits by cgroup v%d at %s\n", o.version, o.where);
    if (cgroup_remove(name, 5000, &e) < 0)
        fail_msg("%s", e.msg);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_delegated),   TEST(test_container),
        TEST(test_hybrid),      TEST(test_offer_reasons),
        TEST(test_move_out),    TEST(test_memory_events),
        TEST(test_real_mount),  TEST(test_real_delegation),
        TEST(test_real_limits),
    };
    if (ctest_root() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
