/* The program as a user meets it: options, look-up of scripts, errors, exit
 * codes, signals. */
#include "base/buf.h"
#include "base/fd.h"
#include "base/path.h"
#include "ctest.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char program[4096];

static void find_program(void)
{
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    assert_true(n > 0);
    program[n] = '\0';
    char *tests = strstr(program, "/tests/host/");
    assert_non_null(tests);
    strcpy(tests, "/e2blua");
}

/* Runs the program in dir with args up to NULL; signal_after_ms > 0 sends
 * SIGINT. Returns the wait status; stdout and stderr land in out. */
static int run(struct buf *out, const char *dir, const char *input,
               int signal_after_ms, char **args)
{
    int in[2], o[2];
    struct err e;
    char *argv[16] = {program};
    for (int i = 0; args[i]; i++)
        argv[i + 1] = args[i];
    assert_int_equal(fd_pipe(in, &e), 0);
    assert_int_equal(fd_pipe(o, &e), 0);
    buf_clear(out);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(o[1], 1);
        dup2(o[1], 2);
        if (dir && chdir(dir) < 0)
            _exit(99);
        execv(program, argv);
        _exit(98);
    }
    fd_close(&in[0]);
    fd_close(&o[1]);
    if (input)
        assert_int_equal(fd_write_all(in[1], input, strlen(input), &e), 0);
    fd_close(&in[1]);
    if (signal_after_ms > 0) {
        struct timespec ts = {signal_after_ms / 1000,
                              signal_after_ms % 1000 * 1000000L};
        nanosleep(&ts, NULL);
        kill(pid, SIGINT);
    }
    char *dst = buf_reserve(out, 65536);
    ssize_t n = fd_read_all(o[0], dst, 65536, &e);
    assert_true(n >= 0);
    out->len += (size_t)n;
    out->data[out->len] = '\0';
    fd_close(&o[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

#define ARGS(...) ((char *[]){__VA_ARGS__, NULL})
#define A(s)      ((char[]){s})

static void expect(char **args, const char *input, int code, const char *text)
{
    struct buf out = {0};
    int status = run(&out, NULL, input, 0, args);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != code ||
        !strstr(out.data, text))
        fail_msg("status %x, wanted exit %d and \"%s\", got:\n%s", status, code,
                 text, out.data);
    buf_fini(&out);
}

static void options(void **state)
{
    (void)state;
    expect(ARGS(A("--version")), NULL, 0, "e2blua 0.");
    expect(ARGS(A("--help")), NULL, 0, "usage: e2blua");
    expect(ARGS(A("--verison")), NULL, 2, "did you mean --version?");
    expect(ARGS(A("-e")), NULL, 2, "needs a piece of code");
    expect(ARGS(A("-v")), NULL, 2, "no script given");
    expect(ARGS(A("-e"), A("print(arg[1], ...)"), A("x"), A("-y")), NULL, 0,
           "x\tx\t-y\n");
    expect(ARGS(A("-"), A("x")), "print(arg[0], ...)", 0, "-\tx\n");
    expect(ARGS(A("-e"), A("print(require'cjson'.encode{1})")), NULL, 0, "[1]");
    expect(ARGS(A("-e"), A("require'lpeg'")), NULL, 0, "");
}

static void errors(void **state)
{
    (void)state;
    expect(ARGS(A("-")), "\nlocal x = = 1", 1, "e2blua: stdin:2: unexpected");
    expect(ARGS(A("-e"), A("error('boom')")), NULL, 1,
           "e2blua: (-e):1: boom\n");
    expect(ARGS(A("-e"), A("error()")), NULL, 1, "with a nil as its error");
    expect(ARGS(A("-e"),
                A("error(setmetatable({}, {__tostring = function() return "
                  "'readable' end}))")),
           NULL, 1, "e2blua: readable\n");
    expect(ARGS(A("-v"), A("-e"), A("error('boom')")), NULL, 1,
           "stack traceback");
    expect(ARGS(A("nope.lua")), NULL, 2, "scripts/nope.lua (installed copy)");
    expect(ARGS(A("calculater")), NULL, 2, "did you mean apps/calculator.lua?");
    expect(ARGS(A("app/memo.lua")), NULL, 2, "did you mean apps/memo.lua?");
    expect(ARGS(A("-e"), A("require 'e2b.nope'")), NULL, 1,
           "no carried file 'stdlib/e2b/nope.lua'");
}

static void exits(void **state)
{
    (void)state;
    expect(ARGS(A("-e"), A("os.exit(7)")), NULL, 7, "");
    expect(ARGS(A("-e"), A("os.exit(true)")), NULL, 0, "");
    expect(ARGS(A("-e"), A("local x <close> = setmetatable({}, {__close = "
                           "function() print('closed') end}) os.exit(3)")),
           NULL, 3, "closed\n");
}

static void look_up(void **state)
{
    (void)state;
    char dir[] = "/tmp/e2blua-main-XXXXXX";
    struct err e;
    struct buf out = {0};
    assert_non_null(mkdtemp(dir));
    FD_AUTO int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(path_mkdirs(fd, "scripts/apps", 0755, &e), 0);
    assert_int_equal(path_mkdirs(fd, "a/b/apps", 0755, &e), 0);
    const char *one = "print('project', ...)", *two = "print('given')";
    path_write_file(fd, "scripts/apps/x.lua", one, strlen(one), 0644, &e);
    path_write_file(fd, "a/b/apps/y.lua", two, strlen(two), 0644, &e);
    char below[64];
    snprintf(below, sizeof(below), "%s/a/b", dir);
    run(&out, below, NULL, 0, ARGS(A("apps/x.lua"), A("1")));
    assert_string_equal(out.data, "project\t1\n");
    run(&out, below, NULL, 0, ARGS(A("apps/x")));
    assert_string_equal(out.data, "project\n");
    run(&out, below, NULL, 0, ARGS(A("apps/y.lua")));
    assert_string_equal(out.data, "given\n");
    assert_int_equal(path_mkdirs(fd, "a/.git", 0755, &e), 0);
    int status = run(&out, below, NULL, 0, ARGS(A("apps/x.lua")));
    assert_int_equal(WEXITSTATUS(status), 2); /* not above a .git root */
    assert_int_equal(path_remove_tree(AT_FDCWD, dir, &e), 0);
    buf_fini(&out);
}

static void interrupts(void **state)
{
    (void)state;
    struct buf out = {0};
    int status = run(
        &out, NULL, NULL, 300,
        ARGS(A("-e"), A("local x <close> = setmetatable({}, {__close = "
                        "function() print('closed') end}) while true do end")));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    assert_non_null(strstr(out.data, "closed"));
    buf_fini(&out);
}

/* As many open files as the user may have, not only what the shell gave. */
static void limit(void **state)
{
    (void)state;
    struct rlimit had, narrow;
    char want[64];
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &had), 0);
    narrow = had;
    narrow.rlim_cur = 99;
    snprintf(want, sizeof(want), "files %llu %llu\n",
             (unsigned long long)had.rlim_max,
             (unsigned long long)had.rlim_max);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &narrow), 0);
    expect(ARGS(A("-e"), A("print((io.open'/proc/self/limits':read'a':match("
                           "'files *%d+ *%d+'):gsub(' +', ' ')))")),
           NULL, 0, want);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &had), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(options),    cmocka_unit_test(errors),
    cmocka_unit_test(exits),      cmocka_unit_test(look_up),
    cmocka_unit_test(interrupts), cmocka_unit_test(limit),
};

int main(void)
{
    find_program();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
