/* The launcher, by what a static program (inside.c) sees as pid 1 and what is
 * left when it is gone. Needs root. */
#include "sandbox/launcher.h"
#include "sandbox/netns.h"

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "ctest_root.h"
#include "launchrig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* ---- tests ----------------------------------------------------------------
 */

static void test_identity(void **state)
{
    struct world *w = *state;
    /* 32 is one that libc keeps to itself */
    const uintptr_t ignore[8] = {1}; /* the kernel's struct: SIG_IGN */
    signal(SIGUSR1, SIG_IGN);
    syscall(SYS_rt_sigaction, 32, ignore, NULL, 8);
    RUN_VERBS(w, V("about"), V("descriptors"), V("processes"), V("network"));
    want(w, "pid: 1 sid: 1 uid: 0\n");
    want(w, "host: e2b.local\n");
    want(w, "nofile: 1024\n");
    struct rootless_ids ids;
    char map[40];
    rootless_ids(&ids);
    str_fmt(map, sizeof(map), "0 %10u %10u\n", ids.first, ids.count);
    want(w, map);
    want(w, "fds: 0 1 2\n");
    want(w, "procs: 1\n");
    want(w, "net: lo\n");
    want(w, "CapEff:\t00000000a80425fb\n");
    want(w, "CapBnd:\t00000000a80425fb\n");
    want(w, "CapPrm:\t00000000a80425fb\n");
    want(w, "CapInh:\t0000000000000000\n");
    /* Ours adds none; bwrap's would stay. */
    want(w, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) ? "NoNewPrivs:\t1\n"
                                                   : "NoNewPrivs:\t0\n");
    want(w, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    want(w, "Groups:\t \n");
    assert_null(strstr(w->log, "e2blua"));
    assert_null(strstr(w->log, "lo\t00000000"));
    if (access("/proc/net/if_inet6", F_OK) == 0)
        want(w, "00000000000000000000000000000001");
}

static void test_refused(void **state)
{
    struct world *w = *state;
    static const char *const denied[] = {
        "unshare_user", "unshare_net", "clone_user", "mount",       "umount",
        "keyctl",       "bpf",         "perf",       "userfaultfd", "kexec",
        "module",       "io_uring",    "setns",      "sethostname", "no_aslr"};
    char line[64];
    RUN_VERBS(w, V("refused"), V("inotify"));
    for (size_t i = 0; i < sizeof(denied) / sizeof(*denied); i++) {
        str_fmt(line, sizeof(line), "%s: %d\n", denied[i], EPERM);
        want(w, line);
    }
    str_fmt(line, sizeof(line), "clone3: %d\n", ENOSYS);
    want(w, line);
    str_fmt(line, sizeof(line), "newer: %d\n", ENOSYS);
    want(w, line);
    str_fmt(line, sizeof(line),
            "vsock: %d\nvsock_high: %d\ninet: 0\n"
            "packet: 0\npersonality: 0\n",
            EAFNOSUPPORT, EAFNOSUPPORT);
    want(w, line);
    want(w, "unshare_fs: 0\n");
    want(w, "kmsg: 2\n");
    want(w, "keys: \n");
    str_fmt(line, sizeof(line), "inotify_limit: %d\n", EACCES);
    want(w, line);
    assert_null(strstr(w->log, "kcore: 0\n"));
    assert_null(strstr(w->log, "sysrq: 0\n"));
    assert_null(strstr(w->log, "sys: 0\n"));
    str_fmt(line, sizeof(line), "inotify: %d\n",
            (int)LAUNCHER_INOTIFY_INSTANCES);
    want(w, line);
}

static void test_files(void **state)
{
    struct world *w = *state;
    struct stat st;
    put(w, "l0/kept", "lower");
    put(w, "l0/changed", "lower");
    put(w, "l0/removed", "lower");
    own(w, "l0/kept", 1000);
    RUN_VERBS(w, V("stat"), V("/kept"), V("write"), V("/new"), V("text"),
              V("1000"), V("write"), V("/changed"), V("upper"), V("0"), V("rm"),
              V("/removed"), V("cat"), V("/changed"), V("stat"), V("/"));
    want(w, "stat /kept: 100644 1000 1000\n");
    want(w, "/changed: upper\n");
    want(w, "stat /: 40755 0 0\n");
    assert_int_equal(fstatat(w->dirfd, "upper/u/new", &st, 0), 0);
    assert_int_equal(st.st_uid, on_disk(1000));
    assert_int_equal(fstatat(w->dirfd, "upper/u/changed", &st, 0), 0);
    assert_int_equal(st.st_uid, on_disk(0));
    assert_false(exists(w, "l0/new"));
    assert_true(exists(w, "l0/removed"));
    assert_int_equal(
        fstatat(w->dirfd, "upper/u/removed", &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_true(S_ISCHR(st.st_mode));
    char *text = path_read_file(w->dirfd, "l0/changed", 100, NULL, NULL);
    assert_string_equal(text, "lower");
    free(text);
}

static void test_layers(void **state)
{
    struct world *w = *state;
    char path[128];
    folder(w, "l0/full");
    folder(w, "l0/open");
    put(w, "l0/full/below", "0");
    put(w, "l0/open/below", "0");
    put(w, "l0/both", "0");
    put(w, "l0/gone", "0");
    layer(w, "l1");
    folder(w, "l1/full");
    folder(w, "l1/open");
    put(w, "l1/full/above", "1");
    put(w, "l1/open/above", "1");
    put(w, "l1/both", "1");
    assert_int_equal(mknodat(w->dirfd, "l1/gone", S_IFCHR, makedev(0, 0)), 0);
    str_fmt(path, sizeof(path), "%s/l1/full", w->dir);
    assert_int_equal(setxattr(path, "user.overlay.opaque", "y", 1, 0), 0);
    RUN_VERBS(w, V("ls"), V("/full"), V("ls"), V("/open"), V("cat"), V("/both"),
              V("cat"), V("/gone"));
    want(w, "ls /full: above\n");
    want(w, "ls /open: above below\n");
    want(w, "/both: 1\n");
    want(w, "/gone: errno 2\n");
}

static void test_many_layers(void **state)
{
    struct world *w = *state;
    char name[32];
    for (int i = 1; i < MAX_LAYERS; i++) {
        str_fmt(name, sizeof(name), "l%d", i);
        layer(w, name);
        str_fmt(name, sizeof(name), "l%d/file%d", i, i);
        put(w, name, "x");
        str_fmt(name, sizeof(name), "l%d/top", i);
        put(w, name, name);
    }
    RUN_VERBS(w, V("cat"), V("/file1"), V("cat"), V("/file44"), V("cat"),
              V("/top"));
    want(w, "/file1: x\n/file44: x\n/top: l44/top\n");
}

static void test_system_folders(void **state)
{
    struct world *w = *state;
    w->spec.tmp_tmpfs = true;
    w->spec.shm_bytes = 1 << 20;
    folder(w, "l0/etc");
    assert_int_equal(symlinkat("../run/systemd/resolve/stub-resolv.conf",
                               w->dirfd, "l0/etc/resolv.conf"),
                     0);
    RUN_VERBS(w, V("ls"), V("/dev"), V("ls"), V("/"), V("cat"), V("/etc/hosts"),
              V("cat"), V("/etc/resolv.conf"), V("cat"), V("/etc/hostname"),
              V("stat"), V("/tmp"), V("stat"), V("/run/lock"), V("stat"),
              V("/dev/shm"), V("write"), V("/tmp/x"), V("x"), V("0"),
              V("write"), V("/dev/null"), V("x"), V("0"), V("write"),
              V("/etc/hosts"), V("mine"), V("0"), V("cat"), V("/etc/hosts"),
              V("cat"), V("/proc/self/mountinfo"));
    want(w, "ls /dev: fd full mqueue null ptmx pts random shm stderr stdin "
            "stdout tty urandom zero\n");
    want(w, "ls /: dev etc proc run sys tmp\n");
    want(w, "/etc/hosts: 127.0.0.1 localhost\n");
    want(w, "/etc/resolv.conf: nameserver 127.0.0.53\n");
    want(w, "/etc/hostname: e2b.local\n");
    want(w, "stat /tmp: 41777 0 0\n");
    want(w, "stat /run/lock: 41777 0 0\n");
    want(w, "stat /dev/shm: 41777 0 0\n");
    want(w, "/etc/hosts: mine\n");
    assert_null(strstr(w->log, "write /tmp/x"));
    assert_false(exists(w, "upper/u/tmp/x"));
    assert_non_null(strstr(w->log, " / / "));
    assert_null(strstr(w->log, "/sys/fs/cgroup"));
    /* nothing of the sandbox is in the layer */
    char *text = path_read_file(w->dirfd, "upper/u/etc/hosts", 99, NULL, NULL);
    assert_string_equal(text, "");
    free(text);
}

static void test_passed(void **state)
{
    struct world *w = *state;
    struct err e = {0};
    int fds[2];
    char text[8] = "";
    assert_int_equal(fd_pipe(fds, &e), 0);
    /* numbers that would collide with the targets when copied in order */
    char id[32], cgroup[64]; /* the group's name of its own accord */
    str_fmt(id, sizeof(id), "test%d", (int)getpid());
    str_fmt(cgroup, sizeof(cgroup), "e2blua/%s", id);
    w->spec.id = id;
    w->spec.cgroup = NULL;
    int pass[] = {fds[1], w->log_fd, fds[0]};
    w->spec.pass_fds = pass;
    w->spec.npass = 3;
    START_VERBS(w, V("descriptors"), V("tell"), V("3"), V("hello"));
    assert_string_equal(w->child.cgroup, cgroup);
    assert_int_equal(wait_end(w), 0);
    finish(w);
    read_log(w);
    want(w, "fds: 0 1 2 3 4 5\ntell: 0\n");
    assert_int_equal(read(fds[0], text, sizeof(text)), 5);
    assert_string_equal(text, "hello");
    close(fds[0]);
    close(fds[1]);
}

/* The program finds the sockets of its network behind what is passed. */
static void test_network_passed(void **state)
{
    struct world *w = *state;
    struct netns_sockets net;
    int pass[] = {w->log_fd};
    w->spec.pass_fds = pass;
    w->spec.npass = 1;
    w->spec.net = &net;
    w->spec.net_pass = true;
    START_VERBS(w, V("descriptors"));
    assert_int_equal(wait_end(w), 0);
    finish(w);
    read_log(w);
    if (net.errnum)
        want(w, "fds: 0 1 2 3\n");
    else
        want(w, net.fd[NETNS_TCP6] >= 0 ? "fds: 0 1 2 3 4 5 6 7\n"
                                        : "fds: 0 1 2 3 4 5\n");
    netns_sockets_close(&net);
    w->spec.net = NULL;
    w->spec.net_pass = false;
}

static void test_adopted(void **state)
{
    struct world *w = *state;
    struct err e = {0};
    START_VERBS(w, V("stay"));
    struct launcher_child next = {
        .pidfd = -1, .pid = w->child.pid, .start_time = w->child.start_time};
    assert_int_equal(launcher_adopt(&next, &e), 0);
    assert_true(next.pidfd >= 0);
    struct launcher_child other = next;
    other.start_time++;
    assert_int_equal(launcher_adopt(&other, &e), -1);
    assert_string_equal(e.kind, "not_found");
    assert_int_equal(other.pidfd, -1);
    other = (struct launcher_child){.pidfd = -1};
    assert_int_equal(launcher_adopt(&other, &e), -1);
    struct pollfd p = {.fd = next.pidfd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    kill(w->child.pid, SIGKILL);
    assert_int_equal(poll(&p, 1, 5000), 1);
    close(next.pidfd);
    wait_end(w);
    finish(w);
}

/* The parent has more descriptors than the sandbox may have. */
static void test_many_descriptors(void **state)
{
    struct world *w = *state;
    struct rlimit had, wide;
    int fds[LAUNCHER_NOFILE];
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &had), 0);
    wide = had;
    wide.rlim_cur = LAUNCHER_NOFILE + 200;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &wide), 0);
    for (int i = 0; i < LAUNCHER_NOFILE; i++)
        assert_true((fds[i] = dup(w->log_fd)) >= 0);
    RUN_VERBS(w, V("descriptors"));
    for (int i = 0; i < LAUNCHER_NOFILE; i++)
        close(fds[i]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &had), 0);
    want(w, "fds: 0 1 2\n");
}

static void test_status(void **state)
{
    struct world *w = *state;
    struct err e = {0};
    int status = 0;
    START_VERBS(w, V("exit"), V("7"));
    status = wait_end(w);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    assert_int_equal(launcher_reap(&w->child, &status, &e), -1);
    finish(w);
    START_VERBS(w, V("stay"));
    assert_int_equal(launcher_reap(&w->child, &status, &e), -1);
    assert_non_null(strstr(e.msg, "still runs"));
    assert_true(launcher_alive(w->child.pid, w->child.start_time));
    assert_false(launcher_alive(w->child.pid, w->child.start_time + 1));
    assert_false(launcher_alive(0, 0));
    kill(w->child.pid, SIGKILL);
    status = wait_end(w);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    finish(w);
    finish(w);
    assert_int_equal(launcher_reap(&w->child, &status, &e), -1);
}

static void test_memory(void **state)
{
    struct world *w = *state;
    struct err e = {0};
    struct cgroup_usage u;
    if (!ctest_has_cgroups())
        skip();
    w->spec.limits.memory_bytes = 64 << 20;
    START_VERBS(w, V("memory"), V("200"), V("stay"));
    assert_string_equal(w->child.missing, "");
    for (int i = 0; i < 200 && (read_log(w), !strstr(w->log, "memory: ")); i++)
        usleep(50000);
    want(w, "memory: 9\n");
    assert_int_equal(cgroup_usage(w->child.cgroup, &u, &e), 0);
    assert_true(u.oom_kills > 0);
    assert_true(u.memory_bytes < 64 << 20);
    assert_true(u.cpu_ns > 0);
    assert_int_equal(u.pids, 1);
    finish(w);
    w->spec.limits.memory_bytes = 512 << 20;
    START_VERBS(w, V("memory"), V("1"));
    wait_end(w);
    assert_int_equal(cgroup_usage(w->child.cgroup, &u, &e), 0);
    assert_int_equal(u.oom_kills, 0);
    finish(w);
    assert_int_equal(cgroup_usage(w->cgroup, &u, &e), -1);
}

static void test_pids(void **state)
{
    struct world *w = *state;
    if (!ctest_has_cgroups())
        skip();
    w->spec.limits.pids = 10;
    w->spec.limits.cpu_count = 1;
    RUN_VERBS(w, V("forks"), V("50"));
    want(w, "forks: 9 errno 11\n");
}

/* Frozen, with children that have sessions of their own, and adopted. */
static void test_kill(void **state)
{
    struct world *w = *state;
    struct err e = {0};
    if (!ctest_has_cgroups())
        skip();
    START_VERBS(w, V("forks"), V("20"), V("stay"));
    for (int i = 0; i < 200 && (read_log(w), !strstr(w->log, "forks: ")); i++)
        usleep(10000);
    assert_int_equal(cgroup_freeze(w->child.cgroup, true, &e), 0);
    struct launcher_child wrong = w->child, adopted = w->child;
    wrong.pidfd = adopted.pidfd = -1;
    wrong.cgroup[0] = '\0';
    wrong.start_time++;
    assert_int_equal(launcher_kill(&wrong, 1000, &e), 0);
    assert_true(launcher_alive(w->child.pid, w->child.start_time));
    if (launcher_kill(&adopted, 5000, &e) < 0)
        fail_msg("%s", e.msg);
    assert_false(launcher_alive(w->child.pid, w->child.start_time));
    assert_true(cgroup_empty(w->child.cgroup));
    finish(w);
}

static void refuse(struct world *w, const char *text)
{
    struct err e = {0};
    static char *argv[] = {(char *)"inside", (char *)"stay", NULL};
    w->spec.argv = argv;
    assert_int_equal(launcher_start(&w->spec, &w->child, &e), -1);
    if (!strstr(e.msg, text))
        fail_msg("no '%s' in '%s'", text, e.msg);
    assert_int_equal(w->child.pidfd, -1);
    struct cgroup_usage u;
    assert_int_equal(cgroup_usage(w->cgroup, &u, &e), -1);
}

static void test_bad_specs(void **state)
{
    struct world *w = *state;
    w->spec.id = "../x";
    refuse(w, "sandbox id '../x': 1 to 64 of a-z 0-9");
    w->spec.id = "launchertest";
    w->spec.hostname = "a b";
    refuse(w, "hostname 'a b'");
    w->spec.hostname = "e2b";
    w->spec.nlayers = 0;
    refuse(w, "0 layers: 1 to 120");
    w->spec.nlayers = 1;
    w->spec.npass = 65;
    refuse(w, "65 descriptors to pass");
    w->spec.npass = 0;
    w->spec.cgroup = "a/../b";
    refuse(w, "cgroup name 'a/../b'");
}

static void test_failures(void **state)
{
    struct world *w = *state;
    put(w, "l0/proc", "a file");
    refuse(w, "place /dev, /proc, /sys, /run and /tmp: Invalid argument");
    assert_int_equal(unlinkat(w->dirfd, "l0/proc", 0), 0);
    w->spec.exec_fd = w->log_fd; /* no program, not executable */
    refuse(w, "sandbox launchertest: execute the program: Permission denied");
    w->spec.exec_fd = fd_memfd_sealed("junk", "junk", 4, NULL);
    refuse(w, "execute the program: Exec format error");
    close(w->spec.exec_fd);
    w->spec.exec_fd = w->exec_fd;
    folder(w, "bad");
    put(w, "bad/u", "a file");
    w->spec.upper_fd = openat(w->dirfd, "bad", O_PATH | O_CLOEXEC);
    refuse(w, "mount the overlay of the layers: ");
    close(w->spec.upper_fd);
    w->spec.upper_fd = w->upper_fd;
    int saved = w->layers[0];
    w->layers[0] = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
    refuse(w, ctest_is_root() ? "layer 0: its file system cannot be idmapped"
                              : "mount the overlay of the layers: ");
    close(w->layers[0]);
    w->layers[0] = 999;
    refuse(w, "layer 0: open_tree of descriptor 999: Bad file descriptor");
    w->layers[0] = saved;
}

/* ---- nothing is left ------------------------------------------------------
 */

static int count(const char *path)
{
    int n = 0;
    DIR *d = opendir(path);
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static int count_mounts(void)
{
    int n = 0;
    char *text =
        path_read_file(AT_FDCWD, "/proc/self/mountinfo", 4 << 20, NULL, NULL);
    for (const char *p = text; *p; p++)
        n += *p == '\n';
    free(text);
    return n;
}

/* Of the kernel's table; 0 when it cannot be read. Counts are rough. */
static int count_netns(void)
{
    char *text =
        path_read_file(AT_FDCWD, "/proc/slabinfo", 1 << 20, NULL, NULL);
    const char *line = text ? strstr(text, "\nnet_namespace") : NULL;
    int n = 0;
    if (line)
        (void)sscanf(line, "\nnet_namespace %d", &n);
    free(text);
    return n;
}

static double ms_since(const struct timespec *a)
{
    struct timespec b;
    clock_gettime(CLOCK_MONOTONIC, &b);
    return (double)(b.tv_sec - a->tv_sec) * 1e3 +
           (double)(b.tv_nsec - a->tv_nsec) / 1e6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void test_cycles(void **state)
{
    struct world *w = *state;
    enum { N = 50 };
    double up[N], down[N];
    struct timespec t;
    w->spec.limits = (struct cgroup_limits){
        .cpu_count = 2, .memory_bytes = 512 << 20, .pids = 100};
    int fds = count("/proc/self/fd"), mounts = count_mounts();
    int nets = count_netns();
    for (int i = 0; i < N; i++) {
        clock_gettime(CLOCK_MONOTONIC, &t);
        START_VERBS(w, V("stay"));
        up[i] = ms_since(&t);
        clock_gettime(CLOCK_MONOTONIC, &t);
        finish(w);
        down[i] = ms_since(&t);
    }
    assert_int_equal(count("/proc/self/fd"), fds);
    assert_int_equal(count_mounts(), mounts);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_true(cgroup_empty(w->cgroup));
    struct cgroup_usage u;
    assert_int_equal(cgroup_usage(w->cgroup, &u, NULL), -1);
    /* the kernel takes network namespaces down later */
    for (int i = 0; i < 500 && count_netns() > nets + N / 2; i++)
        usleep(10000);
    assert_true(count_netns() <= nets + N / 2);
    qsort(up, N, sizeof(*up), compare);
    qsort(down, N, sizeof(*down), compare);
    print_message("start %.2f ms (max %.2f), kill %.2f ms (max %.2f)\n",
                  up[N / 2], up[N - 1], down[N / 2], down[N - 1]);
}

struct racer {
    pthread_t thread;
    struct world *w;
    int number, failed;
    char msg[480];
};

static void *race(void *arg)
{
    struct racer *r = arg;
    char id[32], name[32], cgroup[64];
    struct err e = {0};
    static char *argv[] = {(char *)"inside", (char *)"stay", NULL};
    str_fmt(id, sizeof(id), "race%d", r->number);
    str_fmt(name, sizeof(name), "race%d", r->number);
    str_fmt(cgroup, sizeof(cgroup), "e2blua/test%d/%s", (int)getpid(), id);
    if (mkdirat(r->w->dirfd, name, 0700) < 0)
        r->failed = 1;
    int upper = openat(r->w->dirfd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 8 && !r->failed; i++) {
        struct launcher_spec s = r->w->spec;
        struct launcher_child c;
        s.id = id;
        s.cgroup = cgroup;
        s.upper_fd = upper;
        s.argv = argv;
        if (launcher_start(&s, &c, &e) < 0 || launcher_kill(&c, 5000, &e) < 0) {
            r->failed = 1;
            str_fmt(r->msg, sizeof(r->msg), "%s", e.msg);
        }
    }
    close(upper);
    return NULL;
}

static void test_threads(void **state)
{
    struct world *w = *state;
    struct racer r[4];
    int fds = count("/proc/self/fd");
    for (int i = 0; i < 4; i++) {
        r[i] = (struct racer){.w = w, .number = i};
        assert_int_equal(pthread_create(&r[i].thread, NULL, race, &r[i]), 0);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(r[i].thread, NULL);
    for (int i = 0; i < 4; i++)
        if (r[i].failed)
            fail_msg("%s", r[i].msg);
    assert_int_equal(count("/proc/self/fd"), fds);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_identity),    TEST(test_refused),
        TEST(test_files),       TEST(test_layers),
        TEST(test_many_layers), TEST(test_system_folders),
        TEST(test_passed),      TEST(test_many_descriptors),
        TEST(test_status),      TEST(test_memory),
        TEST(test_pids),        TEST(test_kill),
        TEST(test_bad_specs),   TEST(test_failures),
        TEST(test_cycles),      TEST(test_threads),
        TEST(test_adopted),     TEST(test_network_passed),
    };
    if (ctest_root() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
