/* What of the host can fail under the engine, for Lua: hostfs_check(),
 * hostfs_room(), fd_room(), strays(), stray_at(). */
#include "base/fd.h"
#include "engine.h"
#include "lutil.h"
#include "sandbox/hostfs.h"
#include "sandbox/strays.h"

#include <fcntl.h>
#include <lauxlib.h>

/* hostfs_check(variable, folder) -> true | nil, error: can the engine's things
 * be there? variable is what the user sets to move them. */
static int l_check(lua_State *L)
{
    struct err e = {0};
    struct hostfs_facts f;
    const char *variable = lutil_check_text(L, 1);
    const char *path = lutil_check_text(L, 2);
    int r = hostfs_gather(path, &f, &e);
    return lutil_answer(L, r < 0 ? r : hostfs_judge(&f, variable, path, &e),
                        &e);
}

/* hostfs_room(folder) -> true | nil, error of kind not_enough_space */
static int l_room(lua_State *L)
{
    struct err e = {0};
    return lutil_answer(L, hostfs_room(lutil_check_text(L, 1), &e), &e);
}

/* fd_room(n) -> true | false, open, limit: can so many more be opened? */
static int l_fd_room(lua_State *L)
{
    lua_Integer n = luaL_checkinteger(L, 1);
    int have = 0, limit = 0;
    luaL_argcheck(L, n > 0 && n < 1 << 20, 1, "1 to a million");
    if (fd_room((int)n, &have, &limit)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushboolean(L, 0);
    lua_pushinteger(L, have);
    lua_pushinteger(L, limit);
    return 3;
}

static void on_stray(void *arg, const struct stray *s)
{
    buf_printf(arg, "%s %s %d %llu\n", s->id, s->cgroup, (int)s->pid,
               (unsigned long long)s->start_time);
}

/* strays(prefix) -> lines "id cgroup pid start_time" | nil, error: sandboxes by
 * their control groups prefix/<id>; pid 0: no process is left */
static int l_strays(lua_State *L)
{
    struct err e = {0};
    const char *prefix = lutil_check_text(L, 1);
    struct buf *lines = lutil_buf(L);
    if (strays_find(prefix, on_stray, lines, &e) < 0)
        return lutil_fail(L, &e);
    lua_pushlstring(L, lines->data ? lines->data : "", lines->len);
    return 1;
}

/* stray_at(run_dir, socket's name) -> pid, start_time | nil: who answers there,
 * if it is pid 1 of a sandbox */
static int l_stray_at(lua_State *L)
{
    const char *dir = lutil_check_text(L, 1);
    const char *name = lutil_check_text(L, 2);
    pid_t pid = 0;
    uint64_t start = 0;
    int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || strays_at(fd, name, &pid, &start);
    fd_close(&fd);
    if (failed) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, pid);
    lua_pushinteger(L, (lua_Integer)start);
    return 2;
}

void engine_host_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"hostfs_check", l_check}, {"hostfs_room", l_room},
        {"fd_room", l_fd_room},    {"strays", l_strays},
        {"stray_at", l_stray_at},  {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
