/* The engine's state for Lua: store(path), store_rescue(path, aside) -> db. */
#include "engine.h"
#include "lutil.h"
#include "sandbox/store.h"

#include <lauxlib.h>

#define STORE_CLASS "e2b.store"

enum { ARGS_MAX = 24 };

static struct store *check_store(lua_State *L)
{
    struct store **s = luaL_checkudata(L, 1, STORE_CLASS);
    if (!*s)
        luaL_error(L, "the store is closed");
    return *s;
}

static int store_gc(lua_State *L)
{
    struct store **s = luaL_checkudata(L, 1, STORE_CLASS);
    store_close(*s);
    *s = NULL;
    return 0;
}

/* store(path) -> db | nil, error */
static int l_store(lua_State *L)
{
    struct err e = {0};
    const char *path = luaL_checkstring(L, 1);
    struct store **s = lua_newuserdatauv(L, sizeof(struct store *), 0);
    *s = NULL;
    luaL_setmetatable(L, STORE_CLASS);
    *s = store_open(path, &e);
    return *s ? 1 : lutil_fail(L, &e);
}

/* store_rescue(path, aside) -> db, rows | nil, error: a damaged one becomes
 * aside, a new one has what of it can be read */
static int l_rescue(lua_State *L)
{
    struct err e = {0};
    const char *path = luaL_checkstring(L, 1);
    const char *aside = luaL_checkstring(L, 2);
    uint64_t rows;
    struct store **s = lua_newuserdatauv(L, sizeof(struct store *), 0);
    *s = NULL;
    luaL_setmetatable(L, STORE_CLASS);
    *s = store_rescue(path, aside, &rows, &e);
    if (!*s)
        return lutil_fail(L, &e);
    lua_pushinteger(L, (lua_Integer)rows);
    return 2;
}

static int get_args(lua_State *L, struct store_value *v)
{
    int n = lua_gettop(L) - 2;
    luaL_argcheck(L, n <= ARGS_MAX, 2, "too many parameters");
    for (int i = 0; i < n; i++) {
        int at = i + 3;
        v[i] = (struct store_value){STORE_NULL, 0, 0, NULL, 0};
        switch (lua_type(L, at)) {
        case LUA_TNIL:
        case LUA_TLIGHTUSERDATA: /* json.null */
            break;
        case LUA_TBOOLEAN:
            v[i].type = STORE_INT;
            v[i].i = lua_toboolean(L, at);
            break;
        case LUA_TNUMBER:
            v[i].type = lua_isinteger(L, at) ? STORE_INT : STORE_REAL;
            v[i].i = lua_tointeger(L, at);
            v[i].d = lua_tonumber(L, at);
            break;
        case LUA_TSTRING:
            v[i].type = STORE_TEXT;
            v[i].p = lua_tolstring(L, at, &v[i].n);
            break;
        default:
            luaL_argerror(L, at, "a value that SQLite can hold expected");
        }
    }
    return n;
}

static void push_value(lua_State *L, const struct store_value *v)
{
    if (v->type == STORE_INT)
        lua_pushinteger(L, v->i);
    else if (v->type == STORE_REAL)
        lua_pushnumber(L, v->d);
    else if (v->type == STORE_TEXT)
        lua_pushlstring(L, v->p, v->n);
    else
        lua_pushnil(L);
}

struct rows {
    struct store_rows *r;
};

static int rows_gc(lua_State *L)
{
    struct rows *rows = lua_touserdata(L, 1);
    store_done(rows->r);
    rows->r = NULL;
    return 0;
}

static void push_row(lua_State *L, const struct store_rows *r)
{
    int n = store_columns(r);
    lua_createtable(L, 0, n);
    for (int i = 0; i < n; i++) {
        struct store_value v;
        store_get(r, i, &v);
        push_value(L, &v);
        lua_setfield(L, -2, store_name(r, i));
    }
}

/* db:query(sql, ...) -> array of rows by column name, changes | nil, error */
static int l_query(lua_State *L)
{
    struct store *s = check_store(L);
    struct store_value args[ARGS_MAX];
    struct err e = {0};
    const char *sql = luaL_checkstring(L, 2);
    int n = get_args(L, args), got;
    struct rows *rows = lua_newuserdatauv(L, sizeof(*rows), 0);
    rows->r = NULL;
    luaL_setmetatable(L, "e2b.store.rows");
    rows->r = store_query(s, sql, args, n, &e);
    if (!rows->r)
        return lutil_fail(L, &e);
    lua_newtable(L);
    lua_Integer count = 0;
    while ((got = store_next(rows->r, &e)) > 0) {
        push_row(L, rows->r);
        lua_rawseti(L, -2, ++count);
    }
    store_done(rows->r);
    rows->r = NULL;
    if (got < 0)
        return lutil_fail(L, &e);
    lua_pushinteger(L, store_changes(s));
    return 2;
}

void engine_store_open(lua_State *L)
{
    static const luaL_Reg meta[] = {
        {"__gc", store_gc}, {"__close", store_gc}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"query", l_query}, {"close", store_gc}, {NULL, NULL}};
    static const luaL_Reg rows[] = {{"__gc", rows_gc}, {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    lutil_class(L, STORE_CLASS, meta, methods);
    lutil_class(L, "e2b.store.rows", rows, none);
    lua_pushcfunction(L, l_store);
    lua_setfield(L, -2, "store");
    lua_pushcfunction(L, l_rescue);
    lua_setfield(L, -2, "store_rescue");
}
