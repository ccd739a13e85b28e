/* e2b_httpc in whole programs: many requests at once, and ends of a program
 * with requests open in every state (open handles would abort it). */
#include "base/buf.h"
#include "base/fd.h"
#include "ctest.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char program[4096];

static int find_program(void **state)
{
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    (void)state;
    if (n <= 0)
        return -1;
    program[n] = '\0';
    char *tests = strstr(program, "/tests/bind/");
    if (!tests)
        return -1;
    strcpy(tests, "/e2blua");
    return 0;
}

/* What every script begins with: a server in the same program. */
static const char begin[] =
    "local task, httpd, httpc = require 'e2b_task', require 'e2b_httpd', "
    "require 'e2b_httpc'\n"
    "local srv = assert(httpd.listen{handler = function(req)\n"
    "    if req.path == '/hold' then task.sleep(20) end\n"
    "    if req.path == '/stream' then\n"
    "        req:begin(200)\n"
    "        while req:write(('x'):rep(65536)) do end\n"
    "        return\n"
    "    end\n"
    "    req:reply(200, nil, 'hello')\n"
    "end})\n"
    "local url = 'http://127.0.0.1:' .. tostring(srv.port)\n"
    "local function open(path, upload)\n"
    "    return assert(httpc.open{url = url .. path, timeout = 20,\n"
    "        method = upload and 'POST', upload = upload})\n"
    "end\n";

/* The script ends with that exit code and output. */
static void expect(const char *script, int code, const char *text)
{
    struct buf b = {0};
    char out[4096];
    int o[2], status;
    struct err e;
    buf_puts(&b, begin);
    buf_puts(&b, script);
    assert_int_equal(fd_pipe(o, &e), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(o[1], 1);
        dup2(o[1], 2);
        execl(program, "e2blua", "-e", b.data, (char *)NULL);
        _exit(98);
    }
    close(o[1]);
    ssize_t n = fd_read_all(o[0], out, sizeof(out) - 1, &e);
    close(o[0]);
    assert_true(n >= 0);
    out[n] = '\0';
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != code || !strstr(out, text))
        fail_msg("status %d, output: %s", status, out);
    buf_fini(&b);
}

static void makes_200_requests_at_once(void **state)
{
    (void)state;
    expect("local tasks, good = {}, 0\n"
           "for i = 1, 200 do\n"
           "    tasks[i] = task.spawn(function()\n"
           "        local x <close> = open('/')\n"
           "        local status = assert(x:wait())\n"
           "        if status == 200 and x:read() == 'hello' and not x:read()\n"
           "        then good = good + 1 end\n"
           "    end)\n"
           "end\n"
           "for _, t in ipairs(tasks) do t:join() end\n"
           "print(good, httpc.active())\n",
           0, "200\t0\n");
}

static void ends_with_requests_open(void **state)
{
    (void)state;
    expect("kept = {open('/hold'), open('/stream'), open('/hold', true),\n"
           "    open('/'), open('/')}\n"
           "kept[2]:wait()\n"
           "kept[3]:write('abc')\n"
           "kept[4]:wait()\n"
           "kept[5]:close()\n"
           "kept[6] = assert(httpc.open{url = 'http://none.invalid/'})\n"
           "task.sleep(0.1)\n"
           "kept[7] = open('/')\n"
           "print('end', httpc.active())\n",
           0, "end\t");
}

static void ends_while_tasks_wait(void **state)
{
    (void)state;
    expect("for _, path in ipairs{'/hold', '/stream'} do\n"
           "    task.spawn(function() local x = open(path) x:wait()\n"
           "        task.sleep(9) end)\n"
           "    task.spawn(function() local x <close> = open(path, true)\n"
           "        while x:write(('y'):rep(99999)) do end end)\n"
           "end\n"
           "task.sleep(0.1)\n"
           "os.exit(7)\n",
           7, "");
}

static void fails_with_the_error_of_the_module(void **state)
{
    (void)state;
    expect("srv:close()\n"
           "local x <close> = open('/?key=secret')\n"
           "local status, err = x:wait()\n"
           "error(err, 0)\n",
           1, "Connection refused\n");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(makes_200_requests_at_once),
    cmocka_unit_test(ends_with_requests_open),
    cmocka_unit_test(ends_while_tasks_wait),
    cmocka_unit_test(fails_with_the_error_of_the_module),
};

int main(void)
{
    return cmocka_run_group_tests(tests, find_program, NULL);
}
