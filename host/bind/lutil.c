/* Helpers every binding uses. See lutil.h. */
#include "lutil.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

/* Until stdlib/e2b/error.lua brings its own. */
static int error_text(lua_State *L)
{
    lua_getfield(L, 1, "message");
    return 1;
}

static void push_error(lua_State *L, const char *kind, const char *message)
{
    lua_createtable(L, 0, 3);
    lua_pushstring(L, kind);
    lua_setfield(L, -2, "kind");
    lua_pushstring(L, message);
    lua_setfield(L, -2, "message");
    if (luaL_newmetatable(L, LUTIL_ERROR_CLASS)) {
        lua_pushcfunction(L, error_text);
        lua_setfield(L, -2, "__tostring");
    }
    lua_setmetatable(L, -2);
}

void lutil_push_err(lua_State *L, const struct err *e)
{
    push_error(L, e->kind, e->msg);
    if (e->errnum) {
        lua_pushinteger(L, e->errnum);
        lua_setfield(L, -2, "errno");
    }
}

int lutil_fail(lua_State *L, const struct err *e)
{
    luaL_pushfail(L);
    lutil_push_err(L, e);
    return 2;
}

int lutil_answer(lua_State *L, int r, const struct err *e)
{
    if (r < 0)
        return lutil_fail(L, e);
    lua_pushboolean(L, 1);
    return 1;
}

int lutil_raise(lua_State *L, const char *kind, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const char *text = lua_pushvfstring(L, fmt, ap);
    va_end(ap);
    push_error(L, kind, text);
    lua_error(L);
    __builtin_unreachable();
}

void lutil_class(lua_State *L, const char *name, const luaL_Reg *meta,
                 const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, meta, 0);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

static int traceback(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TSTRING)
        luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

int lutil_call(lua_State *L, int nargs, int nresults)
{
    int base = lua_gettop(L) - nargs;
    lua_pushcfunction(L, traceback);
    lua_insert(L, base);
    int r = lua_pcall(L, nargs, nresults, base);
    lua_remove(L, base);
    return r == LUA_OK ? 0 : -1;
}

static int bad_field(lua_State *L, const char *field, const char *want)
{
    return lutil_raise(L, "invalid_argument", "%s must be %s, not %s", field,
                       want, luaL_typename(L, -1));
}

long long lutil_opt_int(lua_State *L, int idx, const char *field,
                        long long dflt)
{
    int ok = 1;
    if (lua_getfield(L, idx, field) != LUA_TNIL) {
        if (lua_type(L, -1) == LUA_TNUMBER)
            dflt = lua_tointegerx(L, -1, &ok);
        if (lua_type(L, -1) != LUA_TNUMBER || !ok)
            bad_field(L, field, "an integer");
    }
    lua_pop(L, 1);
    return dflt;
}

const char *lutil_opt_str(lua_State *L, int idx, const char *field,
                          const char *dflt)
{
    if (lua_getfield(L, idx, field) != LUA_TNIL) {
        if (lua_type(L, -1) != LUA_TSTRING)
            bad_field(L, field, "a string");
        dflt = lua_tostring(L, -1); /* the table keeps it alive */
    }
    lua_pop(L, 1);
    return dflt;
}

int lutil_opt_bool(lua_State *L, int idx, const char *field, int dflt)
{
    if (lua_getfield(L, idx, field) != LUA_TNIL) {
        if (lua_type(L, -1) != LUA_TBOOLEAN)
            bad_field(L, field, "true or false");
        dflt = lua_toboolean(L, -1);
    }
    lua_pop(L, 1);
    return dflt;
}

void lutil_check_options(lua_State *L, int idx, const char *const *names)
{
    luaL_checktype(L, idx, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        lua_pop(L, 1);
        bool known = false;
        if (lua_type(L, -1) == LUA_TSTRING)
            for (int i = 0; names[i] && !known; i++)
                known = strcmp(lua_tostring(L, -1), names[i]) == 0;
        if (known)
            continue;
        int key = lua_gettop(L);
        lua_pushstring(L, names[0]);
        for (int i = 1; names[i]; i++)
            lua_pushfstring(L, "%s, %s", lua_tostring(L, -1), names[i]);
        const char *list = lua_tostring(L, -1);
        lutil_raise(L, "invalid_argument", "unknown option %s; known: %s",
                    luaL_tolstring(L, key, NULL), list);
    }
}

static int buf_gc(lua_State *L)
{
    buf_fini(lua_touserdata(L, 1));
    return 0;
}

struct buf *lutil_buf(lua_State *L)
{
    struct buf *b = lua_newuserdatauv(L, sizeof(*b), 0);
    buf_init(b);
    if (luaL_newmetatable(L, "e2b.buf")) {
        lua_pushcfunction(L, buf_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return b;
}

const char *lutil_check_text(lua_State *L, int idx)
{
    size_t n;
    luaL_checktype(L, idx, LUA_TSTRING);
    const char *s = lua_tolstring(L, idx, &n);
    if (strlen(s) != n)
        lutil_raise(L, "invalid_argument",
                    "argument %d holds a zero byte, which a path cannot", idx);
    return s;
}
