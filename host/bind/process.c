/* The Lua module e2b_process: what the host knows of itself, locks, and how it
 * starts its daemon. */
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "lutil.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOCK_CLASS "e2b.lock"

enum { ARGS_MAX = 64, ENV_MAX = 256 };

/* exe() -> path of the program */
static int l_exe(lua_State *L)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path));
    if (n <= 0 || n == sizeof(path))
        return luaL_error(L, "/proc/self/exe cannot be read");
    lua_pushlstring(L, path, (size_t)n);
    return 1;
}

/* file_id(path) -> text that changes when the file is replaced, or "" */
static int l_file_id(lua_State *L)
{
    struct stat st;
    char text[128] = "";
    if (stat(luaL_checkstring(L, 1), &st) == 0)
        str_fmt(text, sizeof(text), "%llx-%llx-%llx.%lx",
                (unsigned long long)st.st_ino, (unsigned long long)st.st_size,
                (unsigned long long)st.st_mtim.tv_sec,
                (unsigned long)st.st_mtim.tv_nsec);
    lua_pushstring(L, text);
    return 1;
}

/* pid() -> integer */
static int l_pid(lua_State *L)
{
    lua_pushinteger(L, getpid());
    return 1;
}

/* uid() -> effective uid */
static int l_uid(lua_State *L)
{
    lua_pushinteger(L, geteuid());
    return 1;
}

static int push_clock(lua_State *L, clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    lua_pushinteger(L, (lua_Integer)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
    return 1;
}

/* clock() -> microseconds since 1970 */
static int l_clock(lua_State *L)
{
    return push_clock(L, CLOCK_REALTIME);
}

/* boot_clock() -> microseconds since the machine's boot, its sleep included;
 * the same for all processes, and nobody can set it */
static int l_boot_clock(lua_State *L)
{
    return push_clock(L, CLOCK_BOOTTIME);
}

/* isatty(fd) -> boolean */
static int l_isatty(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* verbose(): from now on the program tells on stderr what it does, as with -v
 */
static int l_verbose(lua_State *L)
{
    (void)L;
    log_open(STDERR_FILENO, LOG_DEBUG);
    return 0;
}

/* log(area, text): a line for -v. No secrets. */
static int l_log(lua_State *L)
{
    log_line(LOG_INFO, luaL_checkstring(L, 1), "%s", luaL_checkstring(L, 2));
    return 0;
}

/* ---- the daemon ---------------------------------------------------------- */

struct daemon {
    char *argv[ARGS_MAX + 1];
    char *envp[ENV_MAX + 1];
    int null, log, report[2];
};

/* What the children report: first the daemon's pid, then perhaps why it could
 * not be executed, or the other way round. */
struct report {
    int is_pid, value;
};

static void tell(const struct daemon *d, int is_pid, int value)
{
    struct report r = {is_pid, value};
    if (write(d->report[1], &r, sizeof(r)) < 0)
        _exit(1);
}

/* In the child: async-signal-safe calls only. */
static void become_daemon(const struct daemon *d)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigset_t none;
    setsid();
    pid_t pid = fork();
    if (pid > 0)
        tell(d, 1, pid);
    if (pid != 0)
        _exit(pid < 0 ? 1 : 0);
    for (int s = 1; s < NSIG; s++)
        sigaction(s, &dfl, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(d->null, 0) >= 0 && dup2(d->log, 1) >= 0 && dup2(d->log, 2) >= 0 &&
        chdir("/") == 0 &&
        syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC) == 0)
        execve(d->argv[0], d->argv, d->envp);
    tell(d, 0, errno);
    _exit(1);
}

/* The daemon's pid, or -1 with e filled. */
static int start(struct daemon *d, struct err *e)
{
    pid_t pid = fork();
    if (pid < 0)
        return err_errno(e, NULL, "fork");
    if (pid == 0)
        become_daemon(d);
    fd_close(&d->report[1]);
    int status = 0;
    struct report r[2] = {{0, 0}, {0, 0}};
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    ssize_t n = fd_read_all(d->report[0], r, sizeof(r), e);
    if (n == (ssize_t)sizeof(r)) {
        errno = r[0].is_pid ? r[1].value : r[0].value;
        return err_errno(e, "internal", "cannot start %s", d->argv[0]);
    }
    if (n != (ssize_t)sizeof(r[0]) || !r[0].is_pid)
        return err_set(e, "internal", "cannot start %s", d->argv[0]);
    return r[0].value;
}

static int open_daemon(struct daemon *d, const char *log, struct err *e)
{
    d->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (d->null < 0)
        return err_errno(e, NULL, "/dev/null");
    d->log = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (d->log < 0)
        return err_errno(e, NULL, "cannot write %s", log);
    return fd_pipe(d->report, e);
}

/* The strings of the array at idx, which keeps them alive. */
static void get_words(lua_State *L, int idx, char **words, lua_Integer max)
{
    luaL_checktype(L, idx, LUA_TTABLE);
    lua_Integer n = luaL_len(L, idx);
    luaL_argcheck(L, n <= max, idx, "too many words");
    for (lua_Integer i = 1; i <= n; i++) {
        if (lua_geti(L, idx, i) != LUA_TSTRING)
            luaL_argerror(L, idx, "an array of strings expected");
        words[i - 1] = (char *)lua_tostring(L, -1);
        lua_pop(L, 1);
    }
}

/* spawn_daemon({argv...}, log, {"NAME=value"...}) -> pid | nil, error. The
 * program runs in a session of its own with nothing of ours open; its output
 * goes to log. */
static int l_spawn_daemon(lua_State *L)
{
    struct daemon d = {.null = -1, .log = -1, .report = {-1, -1}};
    struct err e = {0};
    const char *log = luaL_checkstring(L, 2);
    get_words(L, 1, d.argv, ARGS_MAX);
    get_words(L, 3, d.envp, ENV_MAX);
    luaL_argcheck(L, d.argv[0], 1, "a program expected");
    int r = open_daemon(&d, log, &e);
    if (r == 0)
        r = start(&d, &e);
    fd_close(&d.null);
    fd_close(&d.log);
    fd_close(&d.report[0]);
    fd_close(&d.report[1]);
    if (r < 0)
        return lutil_fail(L, &e);
    lua_pushinteger(L, r);
    return 1;
}

/* alive(pid) -> boolean: there is a process of that number */
static int l_alive(lua_State *L)
{
    pid_t pid = (pid_t)luaL_checkinteger(L, 1);
    lua_pushboolean(L, pid > 0 && (kill(pid, 0) == 0 || errno == EPERM));
    return 1;
}

/* ---- locks --------------------------------------------------------------- */

static int lock_gc(lua_State *L)
{
    fd_close(luaL_checkudata(L, 1, LOCK_CLASS));
    return 0;
}

/* lock(path) -> lock | nil when another holds it | nil, error. Held until it is
 * closed, collected, or the process ends. */
static int l_lock(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    struct err e = {0};
    int *fd = lua_newuserdatauv(L, sizeof(*fd), 0);
    *fd = -1;
    luaL_setmetatable(L, LOCK_CLASS);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0) {
        err_errno(&e, NULL, "cannot open %s", path);
        return lutil_fail(L, &e);
    }
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0)
        return 1;
    int why = errno;
    fd_close(fd);
    if (why == EWOULDBLOCK) {
        lua_pushnil(L);
        return 1;
    }
    errno = why;
    err_errno(&e, NULL, "cannot lock %s", path);
    return lutil_fail(L, &e);
}

int luaopen_e2b_process(lua_State *L);
int luaopen_e2b_process(lua_State *L)
{
    static const luaL_Reg lock_meta[] = {
        {"__gc", lock_gc}, {"__close", lock_gc}, {NULL, NULL}};
    static const luaL_Reg lock[] = {{"close", lock_gc}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"exe", l_exe},       {"file_id", l_file_id},
        {"pid", l_pid},       {"uid", l_uid},
        {"clock", l_clock},   {"boot_clock", l_boot_clock},
        {"isatty", l_isatty}, {"verbose", l_verbose},
        {"log", l_log},       {"spawn_daemon", l_spawn_daemon},
        {"alive", l_alive},   {"lock", l_lock},
        {NULL, NULL}};
    lutil_class(L, LOCK_CLASS, lock_meta, lock);
    luaL_newlib(L, functions);
    return 1;
}
