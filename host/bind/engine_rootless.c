/* The engine of an ordinary user, for Lua: what it may be root of. */
#include "engine.h"
#include "lutil.h"
#include "sandbox/rootless.h"

#include <lauxlib.h>

/* rootless_enter() -> why it is less than it could be ("") | nil, error. Does
 * nothing for root. */
static int l_enter(lua_State *L)
{
    struct err e = {0};
    char why[160];
    if (rootless_enter(why, sizeof(why), &e) < 0)
        return lutil_fail(L, &e);
    lua_pushstring(L, why);
    return 1;
}

/* rootless_join(pid, start_time) -> true | nil, error */
static int l_join(lua_State *L)
{
    struct err e = {0};
    lua_Integer pid = luaL_checkinteger(L, 1);
    lua_Integer start = luaL_checkinteger(L, 2);
    if (rootless_join((pid_t)pid, (uint64_t)start, &e) < 0)
        return lutil_fail(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

const char *engine_grade(int grade)
{
    static const char *const names[] = {[ROOTLESS_NOT] = "root",
                                        [ROOTLESS_RANGE] = "range",
                                        [ROOTLESS_ONE] = "one"};
    return names[grade];
}

/* rootless_grade() -> "root" | "range" | "one": the ids that sandboxes of this
 * process have */
static int l_grade(lua_State *L)
{
    struct rootless_ids ids;
    rootless_ids(&ids);
    lua_pushstring(L, engine_grade(ids.grade));
    return 1;
}

void engine_rootless_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"rootless_enter", l_enter},
                                         {"rootless_join", l_join},
                                         {"rootless_grade", l_grade},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
