/* Collections: which layers go, on made facts; and carried out on a small
 * cache, beside leases, roots and what killed ones have left. */
#include "sandbox/layers_gc.h"

#include "base/str.h"
#include "cacherig.h"
#include "sandbox/leases.h"

#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the plan ------------------------------------------------------------ */

enum { MANY = 8 };

struct facts {
    struct layers_gc_layer v[MANY];
    size_t n;
};

static struct layers_gc_layer *add(struct facts *f, const char *id,
                                   const char *parent, uint64_t bytes,
                                   int64_t used)
{
    struct layers_gc_layer *l = &f->v[f->n++];
    memset(l, 0, sizeof(*l));
    str_fmt(l->id, sizeof(l->id), "%s", id);
    str_fmt(l->parent, sizeof(l->parent), "%s", parent);
    l->bytes = bytes;
    l->used = used;
    return l;
}

static enum layers_gc_why why(const struct facts *f, const char *id)
{
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->v[i].id, id) == 0)
            return f->v[i].why;
    fail_msg("no layer %s", id);
    return LAYERS_GC_STAYS;
}

static void test_oldest_first(void **state)
{
    struct facts f = {.n = 0};
    (void)state;
    add(&f, "base", "", 100, 1);
    add(&f, "old", "base", 10, 5);
    add(&f, "new", "base", 10, 9);
    add(&f, "mid", "base", 10, 7);
    assert_int_equal(layers_gc_plan(f.v, f.n, 0, 120), 120);
    assert_int_equal(why(&f, "old"), LAYERS_GC_OVER);
    assert_int_equal(why(&f, "mid"), LAYERS_GC_STAYS);
    assert_int_equal(why(&f, "base"), LAYERS_GC_STAYS);
    /* What else is in the cache counts. */
    assert_int_equal(layers_gc_plan(f.v, f.n, 5, 120), 110);
    assert_int_equal(why(&f, "mid"), LAYERS_GC_OVER);
    assert_int_equal(why(&f, "new"), LAYERS_GC_STAYS);
    assert_int_equal(layers_gc_plan(f.v, f.n, 0, UINT64_MAX), 130);
    assert_int_equal(layers_gc_plan(f.v, f.n, 500, 120), 0);
    assert_int_equal(layers_gc_plan(f.v, 0, 0, 0), 0);
}

/* The use of a layer is one of those below it: the chain goes from its top. */
static void test_chain(void **state)
{
    struct facts f = {.n = 0};
    (void)state;
    add(&f, "b", "", 1, 1);
    add(&f, "c1", "b", 1, 2);
    add(&f, "c2", "c1", 1, 3);
    add(&f, "d", "b", 1, 8);
    assert_int_equal(layers_gc_plan(f.v, f.n, 0, 3), 3);
    assert_int_equal(why(&f, "c2"), LAYERS_GC_OVER);
    assert_int_equal(why(&f, "c1"), LAYERS_GC_STAYS);
    assert_int_equal(layers_gc_plan(f.v, f.n, 0, 2), 2);
    assert_int_equal(why(&f, "c1"), LAYERS_GC_OVER);
    assert_int_equal(why(&f, "b"), LAYERS_GC_STAYS);
}

static void test_what_stays(void **state)
{
    struct facts f = {.n = 0};
    (void)state;
    add(&f, "b", "", 1, 1);
    add(&f, "leased", "b", 1, 1)->leased = true;
    add(&f, "mid", "b", 1, 1);
    add(&f, "root", "mid", 1, 1)->kept = true;
    add(&f, "free", "root", 1, 99);
    assert_int_equal(layers_gc_plan(f.v, f.n, 0, 0), 4);
    assert_int_equal(why(&f, "free"), LAYERS_GC_OVER);
    assert_int_equal(why(&f, "root"), LAYERS_GC_TEMPLATE);
    assert_int_equal(why(&f, "mid"), LAYERS_GC_TEMPLATE);
    assert_int_equal(why(&f, "leased"), LAYERS_GC_LEASED);
    assert_int_equal(why(&f, "b"), LAYERS_GC_LEASED);
}

static void test_useless(void **state)
{
    struct facts f = {.n = 0};
    (void)state;
    strcpy(add(&f, "b", "", 1, 1)->content, "now");
    add(&f, "orphan", "gone", 1, 9);
    add(&f, "child", "orphan", 1, 9);
    add(&f, "template", "gone", 1, 9)->kept = true;
    add(&f, "running", "gone", 1, 9)->leased = true;
    strcpy(add(&f, "stale", "b", 1, 9)->parent_content, "then");
    add(&f, "round", "round", 1, 9);
    assert_int_equal(layers_gc_plan(f.v, f.n, 0, UINT64_MAX), 2);
    assert_int_equal(why(&f, "b"), LAYERS_GC_STAYS);
    assert_int_equal(why(&f, "running"), LAYERS_GC_LEASED);
    const char *gone[] = {"orphan", "child", "template", "stale", "round"};
    for (size_t i = 0; i < sizeof(gone) / sizeof(*gone); i++)
        assert_int_equal(why(&f, gone[i]), LAYERS_GC_USELESS);
}

/* ---- carried out --------------------------------------------------------- */

static void put(const char *path, const char *text)
{
    struct err e = {0};
    if (path_write_file(cache, path, text, strlen(text), 0644, &e))
        fail_msg("%s", e.msg);
}

/* A layer with a file of 64 KiB, used at a time long ago. */
static void make(const char *id, const char *parent, int used)
{
    static char data[64 * 1024 + 1];
    struct err e = {0};
    char name[LAYERS_TMP_NAME], path[128], meta[256];
    memset(data, 'x', sizeof(data) - 1);
    int FD_AUTO tmp = layers_tmp(cache, name, &e);
    assert_true(tmp >= 0);
    assert_int_equal(mkdirat(tmp, "fs", 0755), 0);
    snprintf(path, sizeof(path), "tmp/%s/fs/file", name);
    put(path, data);
    snprintf(meta, sizeof(meta),
             *parent ? "{\"id\":\"%s\",\"parent\":\"%s\"}" : "{\"id\":\"%s\"}",
             id, parent);
    if (layers_publish(cache, name, id, meta, &e))
        fail_msg("%s", e.msg);
    struct timespec at[2] = {{used, 0}, {used, 0}};
    snprintf(path, sizeof(path), "layers/%s", id);
    assert_int_equal(utimensat(cache, path, at, 0), 0);
}

static struct layers_gc_report collect(struct layers_gc_spec s)
{
    struct layers_gc_report r;
    struct err e = {0};
    if (layers_gc(cache, &s, &r, &e))
        fail_msg("%s", e.msg);
    return r;
}

static bool exists(const char *path)
{
    struct stat st;
    return fstatat(cache, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int take(const char *name, const char *item)
{
    struct err e = {0};
    int fd = leases_take(cache, name, &item, 1, &e);
    if (fd < 0)
        fail_msg("%s", e.msg);
    return fd;
}

static void test_limit(void **state)
{
    (void)state;
    make("base", "", 1);
    make("one", "base", 100);
    make("two", "base", 200);
    make("three", "base", 300);
    struct layers_gc_spec s = {.max = 200 * 1024, .dry_run = true};
    struct layers_gc_report r = collect(s);
    assert_int_equal(r.gone, 1);
    assert_true(layers_have(cache, "one"));
    assert_non_null(strstr(r.removed.data, "one 65536 over\n"));
    layers_gc_fini(&r);
    s.dry_run = false;
    r = collect(s);
    assert_int_equal(r.gone, 1);
    assert_int_equal(r.layers, 3);
    assert_int_equal(r.gone_bytes, 65536);
    assert_false(exists("layers/one"));
    assert_true(layers_have(cache, "two") && layers_have(cache, "base"));
    layers_gc_fini(&r);
    /* Used by a lease: now it is the newest. */
    layers_touch(cache, "two");
    s.max = 130 * 1024;
    r = collect(s);
    assert_true(layers_have(cache, "two") && !layers_have(cache, "three"));
    layers_gc_fini(&r);
}

static void test_lease(void **state)
{
    struct err e = {0};
    struct layers_gc_spec s = {.max = 0};
    (void)state;
    make("base", "", 1);
    make("one", "base", 2);
    int fd = take("box", "one");
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    const char *more = "later";
    assert_int_equal(leases_add(cache, fd, &more, 1, &e), 0);
    make("later", "base", 3);
    fd_close(&fd);
    struct layers_gc_report r = collect(s);
    assert_int_equal(r.gone, 0);
    assert_int_equal(r.leased_bytes, 3 * 65536);
    layers_gc_fini(&r);
    fd_close(&copy); /* the last of it, as when an envd ends */
    r = collect(s);
    assert_int_equal(r.gone, 3);
    assert_false(exists("leases/box"));
    layers_gc_fini(&r);
    assert_int_equal(leases_take(cache, "../x", &more, 1, &e), -1);
    assert_string_equal(e.kind, "invalid_argument");
    fd = take("box", "x");
    assert_int_equal(leases_take(cache, "box", &more, 1, &e), -1);
    fd_close(&fd);
}

static void test_roots(void **state)
{
    char text[160];
    (void)state;
    make("base", "", 1);
    make("one", "base", 2);
    make("two", "base", 3);
    snprintf(text, sizeof(text), "%s\none\n", dir); /* a home that exists */
    put("roots/here", text);
    put("roots/dead", "/no/such/home\ntwo\n");
    struct layers_gc_spec s = {.max = 0};
    struct layers_gc_report r = collect(s);
    assert_true(layers_have(cache, "one") && layers_have(cache, "base"));
    assert_false(layers_have(cache, "two"));
    assert_int_equal(r.template_bytes, 2 * 65536);
    assert_false(exists("roots/dead"));
    layers_gc_fini(&r);
    unlinkat(cache, "roots/here", 0);
    s.keep = "base";
    r = collect(s);
    assert_true(layers_have(cache, "base") && !layers_have(cache, "one"));
    layers_gc_fini(&r);
}

#define DEAD  "baaaaaaaaaaaaaaaaaaaa"
#define ALIVE "bbbbbbbbbbbbbbbbbbbbb"

static void test_dead_builders(void **state)
{
    char name[LAYERS_TMP_NAME], path[64];
    struct err e = {0};
    (void)state;
    int gone = layers_tmp(cache, name, &e);
    fd_close(&gone);
    assert_int_equal(mkdirat(cache, "tmp/" DEAD, 0700), 0);
    put("tmp/" DEAD "/file", "x");
    assert_int_equal(mkdirat(cache, "tmp/" ALIVE, 0700), 0);
    assert_int_equal(mkdirat(cache, "tmp/not-ours", 0700), 0);
    /* A collection that was killed. */
    assert_int_equal(mkdirat(cache, "layers/.gone-x", 0700), 0);
    int FD_AUTO lease = take("build-1", "tmp/" ALIVE);
    struct layers_gc_spec s = {.max = UINT64_MAX};
    struct layers_gc_report r = collect(s);
    assert_int_equal(r.tmp, 1);
    assert_false(exists("tmp/" DEAD) || exists("layers/.gone-x"));
    assert_true(exists("tmp/" ALIVE) && exists("tmp/not-ours"));
    snprintf(path, sizeof(path), "tmp/%s", name);
    assert_false(exists(path));
    layers_gc_fini(&r);
    (void)lease;
}

static void test_damage(void **state)
{
    (void)state;
    make("base", "", 1);
    make("one", "base", 2);
    make("two", "one", 3);
    put("layers/one/fs/file", "changed");
    struct layers_gc_spec s = {
        .max = UINT64_MAX, .verify = true, .dry_run = true};
    struct layers_gc_report r = collect(s);
    assert_int_equal(r.checked, 3);
    assert_non_null(strstr(r.damaged.data, "one\t-\tlayer one is damaged"));
    assert_true(layers_have(cache, "one"));
    layers_gc_fini(&r);
    s.dry_run = false;
    r = collect(s);
    assert_non_null(strstr(r.damaged.data, "one\tdamaged/one."));
    assert_false(layers_have(cache, "one"));
    assert_false(layers_have(cache, "two")); /* nothing can use it */
    assert_true(layers_was_damaged(cache, "one"));
    layers_gc_fini(&r);
    /* What was set aside is the first to go, but not while it is in use. */
    int lease = take("box", "one");
    s = (struct layers_gc_spec){.max = 100 * 1024};
    r = collect(s);
    assert_true(layers_was_damaged(cache, "one"));
    layers_gc_fini(&r);
    fd_close(&lease);
    s.max = 66 * 1024;
    s.keep = "base";
    r = collect(s);
    assert_false(layers_was_damaged(cache, "one"));
    layers_gc_fini(&r);
}

static void test_rebuilt_parent(void **state)
{
    (void)state;
    make("base", "", 1);
    make("one", "base", 2);
    put("layers/one/meta.json", "{\"id\":\"one\",\"parent\":\"base\","
                                "\"parent_content\":\"another\",\"size\":1}");
    struct layers_gc_spec s = {.max = UINT64_MAX};
    struct layers_gc_report r = collect(s);
    assert_non_null(strstr(r.removed.data, "one 1 useless"));
    layers_gc_fini(&r);
}

/* What cannot be looked at for lack of descriptors is neither damaged nor
 * useless. */
static void test_no_descriptors(void **state)
{
    enum { MAX = 64 };
    struct rlimit had, low;
    struct err e = {0};
    int fds[MAX], failures = 0;
    (void)state;
    make("base", "", 1);
    make("one", "base", 2);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &had), 0);
    for (int spare = 0; spare < 6; spare++) {
        struct layers_gc_spec s = {.max = UINT64_MAX, .verify = spare % 2};
        struct layers_gc_report r;
        int n = 0;
        low = had;
        low.rlim_cur = MAX;
        setrlimit(RLIMIT_NOFILE, &low);
        while (n < MAX && (fds[n] = open("/dev/null", O_RDONLY)) >= 0)
            n++;
        for (int i = 0; i < spare && n > 0; i++)
            fd_close(&fds[--n]);
        failures += layers_gc(cache, &s, &r, &e) != 0;
        while (n > 0)
            fd_close(&fds[--n]);
        setrlimit(RLIMIT_NOFILE, &had);
        assert_int_equal(r.gone, 0);
        assert_int_equal(r.damaged.len, 0);
        assert_true(layers_have(cache, "base") && layers_have(cache, "one"));
        layers_gc_fini(&r);
    }
    assert_in_range(failures, 2, 6);
    assert_non_null(strstr(e.msg, "Too many open files"));
}

/* Takes layers and looks that they stay, while others collect all they may. */
static int user_of_layers(int nr)
{
    struct err e = {0};
    char name[32], id[32];
    for (int i = 0; i < 60; i++) {
        snprintf(name, sizeof(name), "user-%d-%d", nr, i);
        snprintf(id, sizeof(id), "l%dx%d", nr, i % 3);
        const char *item = id;
        int lease = leases_take(cache, name, &item, 1, &e);
        if (lease < 0)
            return 2;
        if (!layers_have(cache, id))
            make(id, "", 1);
        usleep(300);
        if (!layers_have(cache, id))
            return 3; /* a layer in use was taken */
        leases_forget(cache, name);
        fd_close(&lease);
    }
    return 0;
}

static void test_side_by_side(void **state)
{
    pid_t users[3];
    (void)state;
    for (int i = 0; i < 3; i++) {
        users[i] = fork();
        if (users[i] == 0)
            _exit(user_of_layers(i));
    }
    int status, running = 3;
    uint64_t gone = 0;
    while (running > 0) {
        struct layers_gc_spec s = {.max = 0};
        struct layers_gc_report r = collect(s);
        gone += r.gone;
        layers_gc_fini(&r);
        for (int i = 0; i < 3; i++)
            if (users[i] > 0 && waitpid(users[i], &status, WNOHANG) > 0) {
                assert_int_equal(status, 0);
                users[i] = -1;
                running--;
            }
    }
    assert_true(gone > 3);
}

/* Killed at any moment, the next one finishes. */
static void test_killed(void **state)
{
    char id[16];
    (void)state;
    for (int round = 0; round < 8; round++) {
        for (int i = 0; i < 6; i++) {
            snprintf(id, sizeof(id), "r%dx%d", round, i);
            make(id, "", i);
        }
        pid_t pid = fork();
        if (pid == 0) {
            struct layers_gc_spec s = {.max = 65536};
            struct layers_gc_report r;
            layers_gc(cache, &s, &r, NULL);
            _exit(0);
        }
        usleep((useconds_t)(200 * round));
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
    }
    struct layers_gc_spec s = {.max = 0};
    struct layers_gc_report r = collect(s);
    struct buf ids = {0};
    struct err e = {0};
    assert_int_equal(layers_list(cache, &ids, &e), 0);
    assert_int_equal(ids.len, 0);
    buf_fini(&ids);
    layers_gc_fini(&r);
    static const char *const dirs[] = {"layers", "tmp"};
    for (int i = 0; i < 2; i++) {
        struct stat st;
        assert_int_equal(fstatat(cache, dirs[i], &st, 0), 0);
        assert_int_equal(st.st_nlink, 2);
    }
}

int main(void)
{
#define IN_CACHE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oldest_first),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_what_stays),
        cmocka_unit_test(test_useless),
        IN_CACHE(test_limit),
        IN_CACHE(test_lease),
        IN_CACHE(test_roots),
        IN_CACHE(test_dead_builders),
        IN_CACHE(test_damage),
        IN_CACHE(test_rebuilt_parent),
        IN_CACHE(test_no_descriptors),
        IN_CACHE(test_side_by_side),
        IN_CACHE(test_killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
