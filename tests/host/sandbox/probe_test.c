/* The trials of doctor: an answer either way, and nothing left behind. What
 * this machine can do is not known here, save that /proc cannot be idmapped. */
#include "sandbox/probe.h"
#include "ctest.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

static void answered(int r, const struct err *e)
{
    assert_true(r == 0 || (r == -1 && e->kind && e->msg[0]));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void each_answers(void **state)
{
    (void)state;
    struct err e = {0};
    uint64_t bytes = 0;
    answered(probe_userns(&e), &e);
    answered(probe_nf_tables(&e), &e);
    answered(probe_idmap("/tmp", &e), &e);
    assert_int_equal(probe_space("/", &bytes, &e), 0);
}

static void what_cannot_be_is_said(void **state)
{
    (void)state;
    struct err e = {0};
    uint64_t bytes = 0;
    assert_int_equal(probe_idmap("/proc", &e), -1);
    answered(-1, &e);
    assert_int_equal(probe_idmap("/no/such/folder", &e), -1);
    assert_int_equal(probe_space("/no/such/folder", &bytes, &e), -1);
    assert_non_null(strstr(e.msg, "/no/such/folder"));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(each_answers),
    cmocka_unit_test(what_cannot_be_is_said),
};
RUN(tests)
