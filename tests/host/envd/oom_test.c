/* The count of processes killed for memory, from files as v1 and v2 write them.
 */
#include "envd/oom.h"

#include "ctest.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static void write_file(int fd, const char *text)
{
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, text, strlen(text), 0), (int)strlen(text));
}

static int temp_file(void)
{
    char path[] = "/tmp/e2b-oom-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

static void test_count(void **state)
{
    (void)state;
    struct oom o = {.fd = temp_file(), .limit_mb = 512};
    assert_int_equal(oom_count(&o), 0);
    write_file(o.fd, "oom_kill_disable 0\nunder_oom 0\noom_kill 12\n");
    assert_int_equal(oom_count(&o), 12);
    write_file(o.fd, "low 0\nhigh 0\nmax 3\noom 2\noom_kill 4\n"
                     "oom_group_kill 0\n");
    assert_int_equal(oom_count(&o), 4);
    write_file(o.fd, "oom_kill_disable 0\nunder_oom 0\n");
    assert_int_equal(oom_count(&o), 0);
    write_file(o.fd, "oom_kill 4\n");
    o.limit_mb = 0; /* standard input is anything then */
    assert_int_equal(oom_count(&o), 0);
    close(o.fd);
    o = (struct oom){.fd = -1, .limit_mb = 512};
    assert_int_equal(oom_count(&o), 0);
}

/* Each killed process is told of once, to one that began before. */
static void test_tell(void **state)
{
    (void)state;
    struct oom o = {.fd = temp_file(), .limit_mb = 512};
    write_file(o.fd, "oom_kill 1\n");
    assert_false(oom_tell(&o, 1));
    assert_true(oom_tell(&o, 0));
    assert_false(oom_tell(&o, 0));
    write_file(o.fd, "oom_kill 3\n");
    assert_false(oom_tell(&o, 3));
    assert_true(oom_tell(&o, 1));
    assert_false(oom_tell(&o, 2));
    close(o.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_count),
        cmocka_unit_test(test_tell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
