/* require "e2b_json": Lua values to JSON and back, integers, null, arrays and
 * objects kept apart. Not cjson: that is for scripts. */
#include "base/json.h"
#include "base/str.h"
#include "lutil.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY_CLASS "e2b.json.array"
#define VALUE_CLASS "e2b.json.value"

enum { MAX_DEPTH = 200 };

int luaopen_e2b_json(lua_State *L);

/* Where the writer is, for errors: a list on the C stack. */
struct place {
    const struct place *up;
    const char *key;   /* of an object, or NULL */
    lua_Integer index; /* of an array */
};

struct writer {
    struct buf *out;
    bool pretty;
    int depth;
    const struct place *at;
};

struct key {
    const char *text; /* kept alive by its table */
    size_t n;
};

/* ---- arrays -------------------------------------------------------------- */

static bool is_marked(lua_State *L, int idx)
{
    if (!lua_istable(L, idx) || !lua_getmetatable(L, idx))
        return false;
    luaL_getmetatable(L, ARRAY_CLASS);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

/* array([t]) -> t, marked as an array, also when empty */
static int l_array(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (lua_getmetatable(L, 1) && !is_marked(L, 1))
        lutil_raise(L, "invalid_argument",
                    "a table with a metatable of its own cannot be marked as "
                    "an array; copy its values into a plain table");
    lua_settop(L, 1);
    luaL_setmetatable(L, ARRAY_CLASS);
    return 1;
}

/* is_array(v) -> true when v carries the mark */
static int l_is_array(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, is_marked(L, 1));
    return 1;
}

/* ---- encode -------------------------------------------------------------- */

static void put_place(luaL_Buffer *b, const struct place *p)
{
    if (!p)
        return;
    put_place(b, p->up);
    if (p->key) {
        luaL_addchar(b, '.');
        luaL_addstring(b, p->key);
        return;
    }
    char text[32];
    str_fmt(text, sizeof(text), "[%" PRId64 "]", (int64_t)p->index);
    luaL_addstring(b, text);
}

static int refuse(lua_State *L, const struct place *at, const char *what)
{
    luaL_Buffer b;
    luaL_checkstack(L, 8, NULL);
    luaL_buffinit(L, &b);
    luaL_addstring(&b, "value");
    /* Beyond a few names the way down says nothing more. */
    int steps = 0;
    for (const struct place *p = at; p; p = p->up)
        steps++;
    for (; steps > 12; steps--)
        at = at->up;
    put_place(&b, at);
    luaL_pushresult(&b);
    return lutil_raise(L, "invalid_argument", "JSON cannot hold %s (at %s)",
                       what, lua_tostring(L, -1));
}

static void newline(struct writer *w)
{
    if (!w->pretty)
        return;
    buf_append(w->out, "\n", 1);
    for (int i = 0; i < w->depth; i++)
        buf_append(w->out, "  ", 2);
}

/* What the keys of the table on top are: its array length, or -1 when they are
 * names; raises for anything between. */
static lua_Integer shape(lua_State *L, const struct writer *w, size_t *names)
{
    lua_Integer most = 0, count = 0;
    *names = 0;
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            (*names)++;
        } else if (lua_isinteger(L, -1) && lua_tointeger(L, -1) >= 1) {
            count++;
            if (lua_tointeger(L, -1) > most)
                most = lua_tointeger(L, -1);
        } else {
            return refuse(L, w->at,
                          "a table with keys that are neither names nor 1..n");
        }
    }
    if (*names > 0 && count > 0)
        return refuse(L, w->at, "a table with both names and numbers as keys");
    if (most != count)
        return refuse(L, w->at,
                      "an array with holes; put json.null where nothing is");
    bool marked = is_marked(L, -1);
    if (marked && *names > 0)
        return refuse(L, w->at, "names in a table marked as an array");
    return marked || count > 0 ? count : -1;
}

static void write_value(lua_State *L, struct writer *w);

static void write_array(lua_State *L, struct writer *w, lua_Integer n)
{
    struct place here = {w->at, NULL, 0};
    buf_append(w->out, "[", 1);
    w->at = &here;
    for (lua_Integer i = 1; i <= n; i++) {
        here.index = i;
        if (i > 1)
            buf_append(w->out, ",", 1);
        newline(w);
        lua_rawgeti(L, -1, i);
        write_value(L, w);
        lua_pop(L, 1);
    }
    w->at = here.up;
    w->depth--;
    if (n > 0)
        newline(w);
    buf_append(w->out, "]", 1);
}

static int by_name(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    int r = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    return r ? r : (x->n > y->n) - (x->n < y->n);
}

/* table -> table, keys; the keys sorted in memory of Lua's. */
static struct key *sorted_keys(lua_State *L, size_t n)
{
    struct key *keys = lua_newuserdatauv(L, (n + 1) * sizeof(*keys), 0);
    size_t i = 0;
    lua_pushnil(L);
    while (lua_next(L, -3)) {
        lua_pop(L, 1);
        keys[i].text = lua_tolstring(L, -1, &keys[i].n);
        i++;
    }
    if (n > 1)
        qsort(keys, n, sizeof(*keys), by_name);
    return keys;
}

static void write_object(lua_State *L, struct writer *w, size_t n)
{
    struct place here = {w->at, NULL, 0};
    const struct key *keys = sorted_keys(L, n);
    buf_append(w->out, "{", 1);
    w->at = &here;
    for (size_t i = 0; i < n; i++) {
        here.key = keys[i].text;
        if (i > 0)
            buf_append(w->out, ",", 1);
        newline(w);
        json_write_string(w->out, keys[i].text, keys[i].n);
        buf_puts(w->out, w->pretty ? ": " : ":");
        lua_pushlstring(L, keys[i].text, keys[i].n);
        lua_rawget(L, -3);
        write_value(L, w);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    w->at = here.up;
    w->depth--;
    if (n > 0)
        newline(w);
    buf_append(w->out, "}", 1);
}

static void write_table(lua_State *L, struct writer *w)
{
    size_t names;
    luaL_checkstack(L, 8, "JSON");
    if (++w->depth > MAX_DEPTH)
        refuse(L, w->at, "more than 200 levels; is a table inside itself?");
    lua_Integer n = shape(L, w, &names);
    if (n >= 0)
        write_array(L, w, n);
    else
        write_object(L, w, names);
}

static void write_number(lua_State *L, struct writer *w)
{
    if (lua_isinteger(L, -1)) {
        buf_printf(w->out, "%" PRId64, (int64_t)lua_tointeger(L, -1));
        return;
    }
    double d = lua_tonumber(L, -1);
    if (!isfinite(d))
        refuse(L, w->at, isnan(d) ? "NaN" : "infinity");
    json_write_real(w->out, d);
}

static void write_other(lua_State *L, const struct writer *w)
{
    char what[64];
    str_fmt(what, sizeof(what), "a %s", luaL_typename(L, -1));
    refuse(L, w->at, what);
}

/* Writes the value on top of the stack. */
static void write_value(lua_State *L, struct writer *w)
{
    size_t n;
    const char *s;
    switch (lua_type(L, -1)) {
    case LUA_TNIL:
        refuse(L, w->at, "nil; use json.null");
        break;
    case LUA_TBOOLEAN:
        buf_puts(w->out, lua_toboolean(L, -1) ? "true" : "false");
        break;
    case LUA_TNUMBER:
        write_number(L, w);
        break;
    case LUA_TSTRING:
        s = lua_tolstring(L, -1, &n);
        json_write_string(w->out, s, n);
        break;
    case LUA_TTABLE:
        write_table(L, w);
        break;
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, -1) == NULL)
            buf_puts(w->out, "null");
        else
            write_other(L, w);
        break;
    default:
        write_other(L, w);
    }
}

/* encode(v [, {pretty = bool}]) -> text; keys are sorted */
static int l_encode(lua_State *L)
{
    static const char *const options[] = {"pretty", NULL};
    luaL_checkany(L, 1);
    struct writer w = {0};
    if (!lua_isnoneornil(L, 2)) {
        lutil_check_options(L, 2, options);
        w.pretty = lutil_opt_bool(L, 2, "pretty", 0);
    }
    lua_settop(L, 1);
    w.out = lutil_buf(L);
    lua_pushvalue(L, 1);
    write_value(L, &w);
    lua_pushlstring(L, w.out->data, w.out->len);
    buf_fini(w.out);
    return 1;
}

/* ---- decode -------------------------------------------------------------- */

static int value_gc(lua_State *L)
{
    json_t **v = lua_touserdata(L, 1);
    json_decref(*v);
    *v = NULL;
    return 0;
}

static void push_value(lua_State *L, const json_t *v);

static void push_array(lua_State *L, const json_t *v)
{
    size_t n = json_array_size(v);
    lua_createtable(L, (int)n, 0);
    luaL_setmetatable(L, ARRAY_CLASS);
    for (size_t i = 0; i < n; i++) {
        push_value(L, json_array_get(v, i));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

static void push_object(lua_State *L, const json_t *v)
{
    void *it = json_object_iter((json_t *)(size_t)v);
    lua_createtable(L, 0, (int)json_object_size(v));
    for (; it; it = json_object_iter_next((json_t *)(size_t)v, it)) {
        lua_pushstring(L, json_object_iter_key(it));
        push_value(L, json_object_iter_value(it));
        lua_rawset(L, -3);
    }
}

static void push_value(lua_State *L, const json_t *v)
{
    luaL_checkstack(L, 6, "JSON");
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        push_object(L, v);
        break;
    case JSON_ARRAY:
        push_array(L, v);
        break;
    case JSON_STRING:
        lua_pushlstring(L, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER:
        lua_pushinteger(L, json_integer_value(v));
        break;
    case JSON_REAL:
        lua_pushnumber(L, json_real_value(v));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(L, json_is_true(v));
        break;
    case JSON_NULL:
        lua_pushlightuserdata(L, NULL);
        break;
    }
}

/* decode(text) -> v | nil, err (kind protocol); arrays come marked */
static int l_decode(lua_State *L)
{
    size_t n;
    struct err e;
    luaL_checktype(L, 1, LUA_TSTRING);
    const char *s = lua_tolstring(L, 1, &n);
    json_t **v = lua_newuserdatauv(L, sizeof(json_t *), 0);
    *v = NULL;
    luaL_setmetatable(L, VALUE_CLASS);
    *v = json_parse(s, n, &e);
    if (!*v)
        return lutil_fail(L, &e);
    push_value(L, *v);
    json_decref(*v);
    *v = NULL;
    return 1;
}

int luaopen_e2b_json(lua_State *L)
{
    static const luaL_Reg array_meta[] = {{NULL, NULL}};
    static const luaL_Reg value_meta[] = {{"__gc", value_gc}, {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"array", l_array},   {"is_array", l_is_array},
        {"encode", l_encode}, {"decode", l_decode},
        {NULL, NULL},
    };
    luaL_newmetatable(L, ARRAY_CLASS);
    luaL_setfuncs(L, array_meta, 0);
    lua_pop(L, 1);
    lutil_class(L, VALUE_CLASS, value_meta, none);
    luaL_newlib(L, functions);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    return 1;
}
