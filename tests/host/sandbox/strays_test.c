/* Sandboxes by their groups: on a made tree with real processes' numbers. */
#include "sandbox/strays.h"

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "ctest_root.h"
#include "sandbox/launcher.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];
static struct cgroup_tree tree;

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/e2b-strays-XXXXXX");
    assert_non_null(mkdtemp(dir));
    memset(&tree, 0, sizeof(tree));
    str_fmt(tree.kind[CGROUP_CPU].path, CGROUP_ROOT_MAX, "%s/cpu", dir);
    str_fmt(tree.kind[CGROUP_PIDS].path, CGROUP_ROOT_MAX, "%s/pids", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    path_remove_tree(AT_FDCWD, dir, NULL);
    return 0;
}

static void group(const char *path, pid_t first, pid_t second)
{
    struct err e = {0};
    char full[256], text[64];
    snprintf(full, sizeof(full), "%s/%s", dir, path);
    assert_int_equal(path_mkdirs(AT_FDCWD, full, 0755, &e), 0);
    snprintf(full, sizeof(full), "%s/%s/cgroup.procs", dir, path);
    snprintf(text, sizeof(text), "%d\n%d\n", (int)first, (int)second);
    if (path_write_file(AT_FDCWD, full, text, strlen(text), 0644, &e))
        fail_msg("%s", e.msg);
}

struct seen {
    struct stray v[8];
    int n;
};

static void on_stray(void *arg, const struct stray *s)
{
    struct seen *seen = arg;
    assert_in_range(seen->n, 0, 7);
    seen->v[seen->n++] = *s;
}

static const struct stray *by_id(const struct seen *seen, const char *id)
{
    for (int i = 0; i < seen->n; i++)
        if (strcmp(seen->v[i].id, id) == 0)
            return &seen->v[i];
    fail_msg("%s is not found", id);
    return NULL;
}

static void test_none(void **state)
{
    struct seen seen = {.n = 0};
    struct err e = {0};
    (void)state;
    strays_find_in(&tree, "e2blua/none", on_stray, &seen);
    assert_int_equal(seen.n, 0);
    assert_int_equal(strays_find("e2blua/no-such-home", on_stray, &seen, &e),
                     0);
    assert_int_equal(seen.n, 0);
}

/* The first process of a pid namespace, which waits to be killed. */
static pid_t first_of_namespace(void)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    if (unshare(CLONE_NEWPID) == 0) {
        pid_t first = fork();
        if (first == 0)
            pause();
        if (first > 0)
            pause();
    }
    _exit(1);
}

static pid_t child_of(pid_t parent)
{
    char path[64], text[32] = "";
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)parent,
             (int)parent);
    for (int i = 0; i < 500; i++) {
        FILE *f = fopen(path, "re");
        if (f && fgets(text, sizeof(text), f) && atoi(text) > 0) {
            fclose(f);
            return (pid_t)atoi(text);
        }
        if (f)
            fclose(f);
        usleep(10000);
    }
    return -1;
}

static void test_found(void **state)
{
    struct seen seen = {.n = 0};
    (void)state;
    pid_t parent = first_of_namespace(), first = child_of(parent);
    assert_true(first > 0);
    group("cpu/e2blua/home/ione", getpid(), first);
    group("pids/e2blua/home/ione", getpid(), first);
    group("pids/e2blua/home/itwo", getpid(), 0);
    group("pids/e2blua/other/ithree", getpid(), first);
    strays_find_in(&tree, "e2blua/home", on_stray, &seen);
    uint64_t start = 0;
    int known = launcher_identity(first, &start);
    kill(first, SIGKILL);
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    assert_int_equal(known, 0);
    assert_int_equal(seen.n, 2);
    assert_int_equal(by_id(&seen, "ione")->pid, first);
    assert_int_equal(by_id(&seen, "ione")->start_time, start);
    assert_string_equal(by_id(&seen, "ione")->cgroup, "e2blua/home/ione");
    assert_int_equal(by_id(&seen, "itwo")->pid, 0);
}

/* The first of a namespace listens anew on the socket it was given. */
static void test_by_socket(void **state)
{
    struct err e = {0};
    pid_t pid = 0;
    uint64_t start = 0;
    (void)state;
    int FD_AUTO run = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int FD_AUTO api = fd_unix_listen(run, "ibox.sock", 0600, &e);
    assert_true(api >= 0);
    /* Ours, and we are no sandbox. */
    assert_int_equal(strays_at(run, "ibox.sock", &pid, &start), -1);
    pid_t parent = fork();
    if (parent == 0) {
        if (unshare(CLONE_NEWPID) == 0 && fork() == 0)
            listen(api, SOMAXCONN);
        pause();
    }
    pid_t first = child_of(parent);
    int found = -1;
    for (int i = 0; found < 0 && i < 500; i++) {
        found = strays_at(run, "ibox.sock", &pid, &start);
        usleep(found < 0 ? 10000 : 0);
    }
    kill(first, SIGKILL);
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    assert_int_equal(found, 0);
    assert_int_equal(pid, first);
    assert_true(start > 0);
    assert_int_equal(strays_at(run, "none.sock", &pid, &start), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_found, setup, teardown),
        cmocka_unit_test_setup_teardown(test_by_socket, setup, teardown),
    };
    if (ctest_root() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
