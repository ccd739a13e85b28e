/* Users, paths and the unary Filesystem methods. */
#include "envdtest.h"

#include <sys/resource.h>
#include <sys/xattr.h>
#include <time.h>

static struct {
    bool came;
    json_t *answer;
    struct err e;
} got;

static void take(void *arg, json_t *answer, const struct err *e)
{
    (void)arg;
    got.came = true;
    got.answer = json_incref(answer);
    if (e)
        got.e = *e;
    else
        got.e.kind = "ok";
}

static void wait_answer(void)
{
    uint64_t end = loop_now(v.loop) + 30000;
    while (!got.came && loop_now(v.loop) < end)
        loop_turn(v.loop, 5);
    assert_true(got.came);
}

/* Calls and returns the kind; got holds the rest. */
static const char *call(const char *method, const char *user, const char *req)
{
    struct err e;
    struct user u;
    json_decref(got.answer);
    memset(&got, 0, sizeof(got));
    assert_int_equal(users_find(&v, user, &u, &e), 0);
    json_t *r = json_parse(req, strlen(req), &e);
    assert_non_null(r);
    fs_call(&v, method, &u, r, take, NULL);
    json_decref(r);
    assert_false(got.came);
    wait_answer();
    return got.e.kind;
}

static const char *entry_text(const char *key)
{
    json_t *o = json_object_get(got.answer, "entry");
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "(none)";
}

static int fs_teardown(void **state)
{
    json_decref(got.answer);
    got.answer = NULL;
    return envd_teardown(state);
}

/* ---- users and paths ----------------------------------------------------- */

static void finds_users(void **state)
{
    (void)state;
    struct user u;
    struct err e;
    gid_t g[8];
    char name[64];
    assert_int_equal(users_find(&v, NULL, &u, &e), 0);
    assert_string_equal(u.name, "root");
    assert_int_equal(users_find(&v, "user", &u, &e), 0);
    assert_int_equal(u.uid, 1000);
    assert_string_equal(u.shell, "/bin/zsh");
    assert_int_equal(users_groups(&u, g, 8, &e), 3);
    assert_int_equal(g[0], 1000);
    assert_int_equal(g[1], 27);
    assert_int_equal(g[2], 99);
    assert_int_equal(users_groups(&u, g, 2, &e), 2);
    assert_int_equal(users_find(&v, "bare", &u, &e), 0);
    assert_string_equal(u.home, "/");
    assert_string_equal(u.shell, "/bin/sh");
    assert_int_equal(users_find(&v, "no'body", &u, &e), -1);
    assert_string_equal(e.kind, "unauthenticated");
    assert_string_equal(e.msg, "invalid username: 'no'body'");
    static char gone[] = "gone";
    v.default_user = gone;
    assert_int_equal(users_find(&v, "", &u, &e), -1);
    assert_string_equal(e.msg, "invalid default user: 'gone'");
    users_name(1000, name, sizeof(name));
    assert_string_equal(name, "user");
    users_name(4242, name, sizeof(name));
    assert_string_equal(name, "4242");
    users_group_name(27, name, sizeof(name));
    assert_string_equal(name, "sudo");
    users_group_name(4242, name, sizeof(name));
    assert_string_equal(name, "4242");
}

static void resolves_paths(void **state)
{
    (void)state;
    static char workdir[] = "/srv";
    struct user u;
    struct err e;
    char p[4096];
    assert_int_equal(users_find(&v, "user", &u, &e), 0);
#define IS(in, out)                                                            \
    assert_int_equal(users_path(&v, &u, in, p, sizeof(p), &e), 0);             \
    assert_string_equal(p, out)
    IS("", "/home/user");
    IS("~", "/home/user");
    IS("~/a/../b", "/home/user/b");
    IS("a//b", "/home/user/a/b");
    IS("../../..", "/");
    IS("/a//b/../c/", "/a//b/../c/");
    v.default_workdir = workdir;
    IS("", "/srv");
    IS("x", "/home/user/x");
    assert_int_equal(users_path(&v, &u, "~bin/x", p, sizeof(p), &e), -1);
    assert_string_equal(e.kind, "invalid_argument");
    assert_string_equal(e.msg,
                        "failed to expand path '~bin/x' for user 'user': "
                        "cannot expand user-specific home dir");
    char big[5000];
    memset(big, 'a', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    assert_int_equal(users_path(&v, &u, big, p, sizeof(p), &e), -1);
    big[0] = '/';
    assert_int_equal(users_path(&v, &u, big, p, sizeof(p), &e), -1);
    assert_string_equal(e.kind, "invalid_argument");
}

static void survives_odd_databases(void **state)
{
    (void)state;
    struct user u;
    struct err e;
    mkfifo("fifo", 0600);
    assert_int_equal(mount("fifo", "/etc/passwd", NULL, MS_BIND, NULL), 0);
    assert_int_equal(users_find(&v, "root", &u, &e), -1);
    assert_string_equal(e.msg, "/etc/passwd is not a regular file");
    umount("/etc/passwd");
}

/* ---- Stat ---------------------------------------------------------------- */

static void stats_a_file(void **state)
{
    (void)state;
    struct timespec t[2] = {{0, UTIME_OMIT}, {1767323045, 123456000}};
    write_text("a.txt", "hello");
    assert_int_equal(chown("a.txt", 1000, 27), 0);
    chmod("a.txt", 04640);
    setxattr("a.txt", "user.e2b.k", "v\xff", 2, 0);
    setxattr("a.txt", "user.other", "v", 1, 0);
    utimensat(AT_FDCWD, "a.txt", t, 0);
    assert_string_equal(call("Stat", "user", "{\"path\":\"a.txt\"}"), "ok");
    struct buf b;
    buf_init(&b);
    json_write(&b, got.answer);
    assert_string_equal(
        b.data,
        "{\"entry\":{\"name\":\"a.txt\",\"path\":\"/home/user/a.txt\","
        "\"type\":\"FILE_TYPE_FILE\",\"mode\":416,\"size\":\"5\","
        "\"permissions\":\"urw-r-----\",\"owner\":\"user\",\"group\":\"sudo\","
        "\"modifiedTime\":\"2026-01-02T03:04:05.123456Z\","
        "\"metadata\":{\"k\":\"v\xef\xbf\xbd\"}}}");
    buf_fini(&b);
}

static void stats_what_is_not_there(void **state)
{
    (void)state;
    assert_string_equal(call("Stat", "", "{\"path\":\"/nope\"}"), "not_found");
    assert_string_equal(got.e.msg, "file not found: lstat /nope: no such file "
                                   "or directory");
    assert_string_equal(call("Stat", "", "{\"path\":7}"), "invalid_argument");
    assert_string_equal(got.e.msg, "path: expected a string");
    assert_string_equal(call("Stat", "", "{\"path\":\"a\\u0000b\"}"),
                        "invalid_argument");
    assert_string_equal(call("Stat", "", "{\"path\":\"~x\"}"),
                        "invalid_argument");
    assert_string_equal(call("Chmod", "", "{}"), "unimplemented");
    assert_string_equal(call("Stat", "", "{\"path\":null}"), "ok");
    assert_string_equal(entry_text("path"), "/root");
}

static void stats_links_and_devices(void **state)
{
    (void)state;
    mkdir("dir", 0751);
    assert_int_equal(symlink("dir", "one") | symlink("one", "two") |
                         symlink("nowhere", "broken") | symlink("me", "me"),
                     0);
    assert_string_equal(call("Stat", "user", "{\"path\":\"two\"}"), "ok");
    assert_string_equal(entry_text("type"), "FILE_TYPE_DIRECTORY");
    assert_string_equal(entry_text("symlinkTarget"), "/home/user/dir");
    assert_string_equal(entry_text("permissions"), "Lrwxrwxrwx");
    assert_string_equal(entry_text("size"), "3");
    json_t *o = json_object_get(got.answer, "entry");
    assert_int_equal(json_integer_value(json_object_get(o, "mode")), 0751);
    assert_true(json_is_true(json_object_get(o, "isSymlink")));
    for (int i = 0; i < 2; i++) {
        const char *req = i ? "{\"path\":\"me\"}" : "{\"path\":\"broken\"}";
        assert_string_equal(call("Stat", "user", req), "ok");
        assert_string_equal(entry_text("type"), "FILE_TYPE_UNSPECIFIED");
        assert_string_equal(entry_text("symlinkTarget"),
                            i ? "/home/user/me" : "/home/user/broken");
    }
    mkfifo("fifo", 0600);
    assert_string_equal(call("Stat", "user", "{\"path\":\"fifo\"}"), "ok");
    assert_string_equal(entry_text("permissions"), "prw-------");
    assert_string_equal(call("Stat", "user", "{\"path\":\"/dev/null\"}"), "ok");
    assert_string_equal(entry_text("permissions"), "Dcrw-rw-rw-");
    assert_string_equal(call("Stat", "user", "{\"path\":\"/tmp\"}"), "ok");
    assert_string_equal(entry_text("permissions"), "dtrwxrwxrwx");
    assert_string_equal(call("Stat", "user", "{\"path\":\"/\"}"), "ok");
    assert_string_equal(entry_text("name"), "/");
    assert_string_equal(call("Stat", "user", "{\"path\":\"dir/\"}"), "ok");
    assert_string_equal(entry_text("name"), "dir");
}

/* ---- ListDir ------------------------------------------------------------- */

static void names_are(const char *want)
{
    struct buf b;
    buf_init(&b);
    buf_puts(&b, "");
    size_t i;
    json_t *o;
    json_array_foreach(json_object_get(got.answer, "entries"), i, o)
    {
        buf_puts(&b, i ? " " : "");
        buf_puts(&b, json_string_value(json_object_get(o, "path")));
    }
    assert_string_equal(b.data ? b.data : "", want);
    buf_fini(&b);
}

static void lists_by_depth(void **state)
{
    (void)state;
    mkdir("d", 0755);
    mkdir("d/b", 0755);
    mkdir("d/b/deep", 0755);
    write_text("d/b/deep/x", "");
    write_text("d/a", "");
    write_text("d/c", "");
    assert_int_equal(symlink("b", "d/link") | symlink("d", "way"), 0);
    assert_string_equal(call("ListDir", "user", "{\"path\":\"d\"}"), "ok");
    names_are("/home/user/d/a /home/user/d/b /home/user/d/c /home/user/d/link");
    assert_string_equal(
        call("ListDir", "user", "{\"path\":\"way\",\"depth\":\"2\"}"), "ok");
    names_are("/home/user/way/a /home/user/way/b /home/user/way/b/deep "
              "/home/user/way/c /home/user/way/link");
    assert_string_equal(
        call("ListDir", "user", "{\"path\":\"/home//user/d/b/\",\"depth\":9}"),
        "ok");
    names_are("/home/user/d/b/deep /home/user/d/b/deep/x");
    assert_string_equal(call("ListDir", "user", "{\"path\":\"d/b/deep/x\"}"),
                        "invalid_argument");
    assert_string_equal(got.e.msg,
                        "path is not a directory: /home/user/d/b/deep/x");
    assert_string_equal(call("ListDir", "user", "{\"path\":\"d/no\"}"),
                        "not_found");
    assert_string_equal(got.e.msg, "path not found: lstat /home/user/d/no: no "
                                   "such file or directory");
    assert_string_equal(call("ListDir", "user", "{\"path\":\"d/a/b\"}"),
                        "not_found");
    assert_int_equal(symlink("loop", "loop"), 0);
    assert_string_equal(call("ListDir", "user", "{\"path\":\"loop\"}"),
                        "failed_precondition");
    assert_string_equal(call("ListDir", "", "{\"depth\":-1}"),
                        "invalid_argument");
    assert_string_equal(call("ListDir", "", "{\"depth\":4294967296}"),
                        "invalid_argument");
    mkdir("empty", 0755);
    assert_string_equal(call("ListDir", "user", "{\"path\":\"empty\"}"), "ok");
    names_are("");
}

static void lists_odd_names(void **state)
{
    (void)state;
    mkdir("d", 0755);
    write_text("d/new\nline", "");
    write_text("d/bad\xff\xfe", "");
    write_text("d/\xc3\xa9", "");
    assert_string_equal(call("ListDir", "user", "{\"path\":\"d\"}"), "ok");
    names_are("/home/user/d/bad\xef\xbf\xbd\xef\xbf\xbd "
              "/home/user/d/new\nline /home/user/d/\xc3\xa9");
    assert_string_equal(call("Remove", "user", "{\"path\":\"d/new\\nline\"}"),
                        "ok");
    assert_int_equal(access("d/new\nline", F_OK), -1);
}

/* ---- MakeDir, Move, Remove ----------------------------------------------- */

static bool owned_by(const char *path, uid_t uid, mode_t mode)
{
    struct stat st;
    return lstat(path, &st) == 0 && st.st_uid == uid && st.st_gid == uid &&
           (st.st_mode & 07777) == mode;
}

static void makes_folders(void **state)
{
    (void)state;
    assert_string_equal(call("MakeDir", "user", "{\"path\":\"a/b/../c\"}"),
                        "ok");
    assert_string_equal(entry_text("path"), "/home/user/a/c");
    assert_true(owned_by("a", 1000, 0755));
    assert_true(owned_by("a/c", 1000, 0755));
    assert_string_equal(call("MakeDir", "", "{\"path\":\"/home/user/a/r\"}"),
                        "ok");
    assert_true(owned_by("a/r", 0, 0755));
    assert_string_equal(call("MakeDir", "user", "{\"path\":\"a/c/\"}"),
                        "already_exists");
    assert_string_equal(got.e.msg, "directory already exists: /home/user/a/c");
    write_text("f", "");
    assert_string_equal(call("MakeDir", "user", "{\"path\":\"f\"}"),
                        "invalid_argument");
    assert_string_equal(got.e.msg, "path already exists but it is not a "
                                   "directory: /home/user/f");
    assert_string_equal(call("MakeDir", "user", "{\"path\":\"f/x/y\"}"),
                        "internal");
    assert_string_equal(got.e.msg, "path is a file: /home/user/f");
    assert_int_equal(symlink("a", "link"), 0);
    assert_string_equal(call("MakeDir", "user", "{\"path\":\"link/in\"}"),
                        "ok");
    assert_true(owned_by("a/in", 1000, 0755));
}

static void refuses_names_that_are_too_long(void **state)
{
    (void)state;
    char req[400] = "{\"path\":\"";
    memset(req + 9, 'n', 300);
    memcpy(req + 309, "\"}", 3);
    assert_string_equal(call("MakeDir", "user", req), "internal");
    assert_string_equal(call("Stat", "user", req), "internal");
    assert_non_null(strstr(got.e.msg, ": file name too long"));
}

static void moves(void **state)
{
    (void)state;
    write_text("a", "A");
    write_text("b", "B");
    assert_string_equal(
        call("Move", "user", "{\"source\":\"a\",\"destination\":\"x/y/b\"}"),
        "ok");
    assert_string_equal(entry_text("path"), "/home/user/x/y/b");
    assert_true(owned_by("x/y", 1000, 0755));
    assert_string_equal(
        call("Move", "user", "{\"source\":\"b\",\"destination\":\"x/y/b\"}"),
        "ok");
    char *text = read_text("x/y/b", NULL);
    assert_string_equal(text, "B");
    free(text);
    assert_string_equal(
        call("Move", "user", "{\"source\":\"no\",\"destination\":\"p/q\"}"),
        "not_found");
    assert_string_equal(got.e.msg,
                        "source file not found: rename /home/user/no "
                        "/home/user/p/q: no such file or directory");
    assert_int_equal(access("p", F_OK), -1);
    assert_string_equal(
        call("Move", "user", "{\"source\":\"x\",\"destination\":\"x/y/z\"}"),
        "internal");
    assert_string_equal(got.e.msg, "error renaming: rename /home/user/x "
                                   "/home/user/x/y/z: invalid argument");
}

static void removes(void **state)
{
    (void)state;
    mkdir("keep", 0755);
    write_text("keep/me", "");
    mkdir("d", 0755);
    mkdir("d/shut", 0);
    write_text("d/f", "");
    assert_int_equal(symlink("../keep", "d/link"), 0);
    mkfifo("d/fifo", 0600);
    assert_string_equal(call("Remove", "user", "{\"path\":\"d/\"}"), "ok");
    assert_int_equal(json_object_size(got.answer), 0);
    assert_int_equal(access("d", F_OK), -1);
    assert_int_equal(access("keep/me", F_OK), 0);
    assert_string_equal(call("Remove", "user", "{\"path\":\"d\"}"), "ok");
    assert_string_equal(call("Remove", "user", "{\"path\":\"keep/me/x\"}"),
                        "ok");
    assert_int_equal(symlink("keep", "link"), 0);
    assert_string_equal(call("Remove", "user", "{\"path\":\"link\"}"), "ok");
    assert_int_equal(access("keep/me", F_OK), 0);
    assert_string_equal(call("Remove", "user", "{\"path\":\"/\"}"), "internal");
    assert_string_equal(got.e.msg, "error removing file or directory: /: "
                                   "invalid argument");
    assert_string_equal(call("Remove", "", "{\"path\":\"/home/user/keep/.\"}"),
                        "internal");
    assert_string_equal(call("Remove", "", "{\"path\":\"/dev/shm\"}"),
                        "internal");
}

/* A tree far deeper than PATH_MAX and the descriptors that may be open, and a
 * folder with more folders than a batch. */
static void walks_deep_and_wide_trees(void **state)
{
    (void)state;
    enum { DEEP = 3000, WIDE = 2500 };
    struct rlimit old, few = {90, 90};
    int at;
    assert_int_equal(mkdir("t", 0755), 0);
    at = open("t", O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < WIDE; i++) {
        char name[32];
        snprintf(name, sizeof(name), "w%04d", i);
        assert_int_equal(mkdirat(at, name, 0755), 0);
        if (i % 100 == 0)
            close(openat(at, "f", O_CREAT | O_WRONLY, 0644));
        if (i % 2) { /* not empty, so that rmdir alone is not enough */
            int in = openat(at, name, O_RDONLY | O_DIRECTORY);
            assert_int_equal(mkdirat(in, "in", 0755), 0);
            close(in);
        }
    }
    for (int i = 0; i < DEEP; i++) {
        assert_int_equal(mkdirat(at, "dd", 0755), 0);
        int next = openat(at, "dd", O_RDONLY | O_DIRECTORY);
        close(at);
        at = next;
    }
    close(at);
    getrlimit(RLIMIT_NOFILE, &old);
    few.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_NOFILE, &few);
    assert_string_equal(
        call("ListDir", "user", "{\"path\":\"t\",\"depth\":100000}"), "ok");
    json_t *all = json_object_get(got.answer, "entries");
    assert_int_equal(json_array_size(all), DEEP + WIDE + WIDE / 2 + 1);
    assert_string_equal(call("Remove", "user", "{\"path\":\"t\"}"), "ok");
    assert_int_equal(access("t", F_OK), -1);
    setrlimit(RLIMIT_NOFILE, &old);
}

static void answers_while_a_job_is_long(void **state)
{
    (void)state;
    struct err e;
    struct user u;
    memset(&got, 0, sizeof(got));
    assert_int_equal(users_find(&v, "user", &u, &e), 0);
    json_t *r = json_pack("{s:s}", "path", "~");
    fs_call(&v, "Stat", &u, r, take, NULL);
    json_decref(r);
    /* envd ends at once: done must still come */
    work_free(&v);
    assert_true(got.came);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, envd_setup, fs_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(finds_users),
        CASE(resolves_paths),
        CASE(survives_odd_databases),
        CASE(stats_a_file),
        CASE(stats_what_is_not_there),
        CASE(stats_links_and_devices),
        CASE(lists_by_depth),
        CASE(lists_odd_names),
        CASE(makes_folders),
        CASE(refuses_names_that_are_too_long),
        CASE(moves),
        CASE(removes),
        CASE(walks_deep_and_wide_trees),
        CASE(answers_while_a_job_is_long),
    };
    if (!envdtest_enter())
        return 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
