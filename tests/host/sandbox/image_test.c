/* Making the base image, with a small script in the place of the recipe: what
 * fails or is stopped leaves nothing, the next one begins anew. */
#include "sandbox/image.h"

#include "base/fd.h"
#include "base/path.h"
#include "ctest.h"
#include "sandbox/cacerts.h"
#include "sandbox/layers.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], cache[80], program[80];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/e2b-image-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(cache, sizeof(cache), "%s/cache", dir);
    snprintf(program, sizeof(program), "%s/recipe", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    path_remove_tree(AT_FDCWD, dir, NULL);
    return 0;
}

/* $4 is the root folder, $5 the work folder. */
static void script(const char *text)
{
    char all[512];
    struct err e = {0};
    snprintf(all, sizeof(all), "#!/bin/sh\nroot=$4 work=$5\n%s", text);
    if (path_write_file(AT_FDCWD, program, all, strlen(all), 0755, &e))
        fail_msg("%s", e.msg);
}

struct told {
    char text[2048];
    volatile int stop;
    const char *stop_at;
};

static void tell(void *arg, const char *stage, int percent)
{
    struct told *t = arg;
    size_t n = strlen(t->text);
    snprintf(t->text + n, sizeof(t->text) - n, "%d %s\n", percent, stage);
    if (t->stop_at && strstr(stage, t->stop_at))
        t->stop = 1;
}

static int make(struct told *t, char id[65], struct err *e)
{
    struct image_maker m = {
        .progress = tell,
        .arg = t,
        .stop = &t->stop,
        .program = program,
        .timeout_ms = 20000,
    };
    return image_base_make_by(cache, id, &m, e);
}

static void assert_nothing_left(void)
{
    struct buf ids = {0};
    struct err e = {0};
    int fd;
    assert_int_equal(layers_open(cache, &fd, &e), 0);
    assert_int_equal(layers_list(fd, &ids, &e), 0);
    assert_int_equal(ids.len, 0);
    buf_fini(&ids);
    int FD_AUTO tmp = openat(fd, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    assert_int_equal(fstat(tmp, &st), 0);
    assert_int_equal(st.st_nlink, 2);
    fd_close(&fd);
}

static void test_made(void **state)
{
    struct told t = {0};
    struct err e = {0};
    char id[65], same[65];
    (void)state;
    script("echo 'I: downloading packages with apt...' >&2\n"
           "mkdir $root/etc; echo hello > $root/etc/motd\n");
    assert_int_equal(image_base_id(false, same, &e), 0);
    assert_false(image_base_ready(cache, false, id));
    if (make(&t, id, &e))
        fail_msg("%s", e.msg);
    assert_string_equal(id, same);
    assert_true(image_base_ready(cache, false, id));
    assert_non_null(strstr(t.text, "6 downloading packages\n"));
    assert_non_null(strstr(t.text, "100 ready\n"));
    int fd;
    struct buf meta = {0};
    assert_int_equal(layers_open(cache, &fd, &e), 0);
    assert_int_equal(layers_meta(fd, id, &meta, &e), 0);
    assert_non_null(strstr(meta.data, "\"kind\":\"base\""));
    assert_non_null(strstr(meta.data, "\"user\":\"user\""));
    assert_non_null(strstr(meta.data, "\"workdir\":\"/home/user\""));
    assert_non_null(strstr(meta.data, "\"env\":{}"));
    buf_fini(&meta);
    fd_close(&fd);
    /* The second time nothing runs. */
    script("exit 1\n");
    assert_int_equal(make(&t, id, &e), 0);
}

static void test_failed(void **state)
{
    struct told t = {0};
    struct err e = {0};
    char id[65];
    (void)state;
    script("mkdir $root/etc; echo 'I: installing node 22' >&2\n"
           "echo 'E: no such mirror' >&2; exit 25\n");
    assert_int_equal(make(&t, id, &e), -1);
    assert_string_equal(e.kind, "build");
    assert_non_null(strstr(e.msg, "installing node"));
    assert_non_null(strstr(e.msg, "exit code 25"));
    assert_non_null(strstr(e.msg, "E: no such mirror"));
    assert_nothing_left();
    script("exit 0\n");
    if (make(&t, id, &e))
        fail_msg("%s", e.msg);
    assert_true(image_base_ready(cache, false, id));
}

static void test_stopped(void **state)
{
    struct told t = {.stop_at = "installing packages"};
    struct err e = {0};
    char id[65];
    (void)state;
    script("touch $root/half\n"
           "echo 'I: installing remaining packages' >&2; sleep 60\n");
    assert_int_equal(make(&t, id, &e), -1);
    assert_string_equal(e.kind, "cancelled");
    assert_nothing_left();
}

static void test_too_long(void **state)
{
    struct err e = {0};
    char id[65];
    (void)state;
    script("trap '' TERM; sleep 60\n");
    struct image_maker m = {.program = program, .timeout_ms = 300};
    assert_int_equal(image_base_make_by(cache, id, &m, &e), -1);
    assert_string_equal(e.kind, "timeout");
    assert_nothing_left();
}

static void test_no_program(void **state)
{
    struct err e = {0};
    char id[65];
    (void)state;
    struct image_maker m = {.program = "/nowhere/program"};
    assert_int_equal(image_base_make_by(cache, id, &m, &e), -1);
    assert_non_null(strstr(e.msg, "/nowhere/program"));
    assert_nothing_left();
}

/* Secrets of the environment do not reach the recipe, proxies do. */
static void test_environment(void **state)
{
    struct told t = {0};
    struct err e = {0};
    char id[65];
    (void)state;
    setenv("E2B_TEST_SECRET", "x", 1);
    setenv("no_proxy", "here", 1);
    script("[ -z \"$E2B_TEST_SECRET\" ] && [ \"$no_proxy\" = here ] || exit 3\n"
           "[ -d $work/cas ]\n");
    int failed = make(&t, id, &e);
    unsetenv("E2B_TEST_SECRET");
    unsetenv("no_proxy");
    if (failed)
        fail_msg("%s", e.msg);
}

static void *make_first(void *arg)
{
    struct err e = {0};
    char id[65];
    return make(arg, id, &e) ? arg : NULL;
}

static void test_two(void **state)
{
    struct told first = {0}, second = {0};
    struct err e = {0};
    char id[65], flag[96];
    pthread_t thread;
    void *failed;
    (void)state;
    snprintf(flag, sizeof(flag), "%s/began", dir);
    script("touch ${0%/*}/began; sleep 1; touch $root/x\n"
           "[ ! -e ${0%/*}/twice ] && touch ${0%/*}/twice\n");
    assert_int_equal(pthread_create(&thread, NULL, make_first, &first), 0);
    for (int i = 0; i < 500 && access(flag, F_OK); i++)
        usleep(10000);
    int result = make(&second, id, &e);
    pthread_join(thread, &failed);
    assert_null(failed);
    if (result)
        fail_msg("%s", e.msg);
    assert_non_null(strstr(second.text, "-1 waiting for another process"));
    assert_null(strstr(second.text, "starting"));
}

#define PEM(body)                                                              \
    "-----BEGIN CERTIFICATE-----\n" body "\n-----END CERTIFICATE-----\n"

static void put(const char *name, const char *text)
{
    char path[160];
    struct err e = {0};
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    assert_int_equal(path_mkdirs(AT_FDCWD, path, 0755, &e), 0);
    *slash = '/';
    assert_int_equal(
        path_write_file(AT_FDCWD, path, text, strlen(text), 0644, &e), 0);
}

static void test_authorities(void **state)
{
    char local[96], distro[96], bundle[96];
    struct buf pem = {0};
    struct err e = {0};
    (void)state;
    snprintf(local, sizeof(local), "%s/local", dir);
    snprintf(distro, sizeof(distro), "%s/distro", dir);
    snprintf(bundle, sizeof(bundle), "%s/bundle.crt", dir);
    struct cacerts_paths p = {local, distro, bundle};
    assert_int_equal(cacerts_extra(&p, &pem, &e), 0);
    assert_int_equal(pem.len, 0);
    put("bundle.crt", PEM("AAAA") PEM("CC\nCC") PEM("BBBB"));
    /* Nothing to compare it with. */
    assert_int_equal(cacerts_extra(&p, &pem, &e), 0);
    assert_int_equal(pem.len, 0);
    put("distro/mozilla/a.crt", PEM("AA\r\nAA"));
    put("local/company/c.crt", PEM("CCCC"));
    put("local/readme.txt", PEM("DDDD"));
    assert_int_equal(cacerts_extra(&p, &pem, &e), 0);
    assert_string_equal(pem.data, PEM("BBBB") PEM("CCCC"));
    buf_fini(&pem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_made, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_program, setup, teardown),
        cmocka_unit_test_setup_teardown(test_environment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two, setup, teardown),
        cmocka_unit_test_setup_teardown(test_authorities, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
