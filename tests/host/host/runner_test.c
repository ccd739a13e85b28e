/* tests/lib/run.lua: a runner that lets failures pass would hide them all. Runs
 * tests that must fail and reads what it says of them. */
#include "base/buf.h"
#include "base/fd.h"
#include "ctest.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct buf out;
static int status;

static int run_bad_tests(void **state)
{
    char program[4096];
    int fds[2];
    struct err e;
    (void)state;
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    assert_true(n > 0);
    program[n] = '\0';
    char *tests = strstr(program, "/tests/host/");
    assert_non_null(tests);
    strcpy(tests, "/e2blua");
    assert_int_equal(fd_pipe(fds, &e), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(fds[1], 1);
        dup2(fds[1], 2);
        execl(program, program, "tests/lib/run.lua", "--settle", "0.1",
              "tests/fixtures/bad_tests.lua", (char *)NULL);
        _exit(98);
    }
    fd_close(&fds[1]);
    char *dst = buf_reserve(&out, 65536);
    n = fd_read_all(fds[0], dst, 65536, &e);
    assert_true(n >= 0);
    out.len = (size_t)n;
    out.data[out.len] = '\0';
    fd_close(&fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return 0;
}

static int forget(void **state)
{
    (void)state;
    buf_fini(&out);
    return 0;
}

static void said(const char *text)
{
    if (!strstr(out.data, text))
        fail_msg("\"%s\" is not in\n%s", text, out.data);
}

static void counts(void **state)
{
    (void)state;
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    const char *last = "\n1 passed, 10 failed, 0 skipped\n";
    said(last);
    assert_string_equal(out.data + out.len - strlen(last), last);
}

static void says_why(void **state)
{
    (void)state;
    said("bad_tests.lua: compares\n");
    said("got {1, {a = 2}}, wanted {1, {a = 3}}");
    said("wanted an error of kind not_found, got {\"1\"}");
    said("nobody takes it");
    said("sleeps on\n    did not end within 0.1 s");
    said("is busy\n    did not end within 0.1 s");
    said("skips as 'not_listed'");
    said("dirt");
}

static void finds_what_is_left(void **state)
{
    (void)state;
    said("leaves a task\n    left behind: 1 tasks");
    said("left behind: the global made_by_a_test");
    said("keeps a descriptor\n    left behind: 1 descriptors");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(counts),
    cmocka_unit_test(says_why),
    cmocka_unit_test(finds_what_is_left),
};

int main(void)
{
    return cmocka_run_group_tests(tests, run_bad_tests, forget);
}
