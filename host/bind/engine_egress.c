/* The way out of sandboxes for Lua: egress{v6=, on_line=, on_name=} -> g. */
#include "base/log.h"
#include "engine.h"
#include "lutil.h"
#include "net/server/egress.h"
#include "sandbox/netns.h"
#include "task.h"

#include <lauxlib.h>
#include <string.h>

#define EGRESS_CLASS "e2b.egress"
#define POLICY_CLASS "e2b.egress_policy"

struct legress {
    struct egress *g;
    lua_State *L;         /* the main one */
    int on_line, on_name; /* references of the functions */
};

struct lpolicy {
    struct egress_policy *p;
};

static int egress_gc(lua_State *L)
{
    struct legress *g = luaL_checkudata(L, 1, EGRESS_CLASS);
    egress_free(g->g);
    g->g = NULL;
    luaL_unref(L, LUA_REGISTRYINDEX, g->on_line);
    luaL_unref(L, LUA_REGISTRYINDEX, g->on_name);
    g->on_line = g->on_name = LUA_NOREF;
    return 0;
}

static struct egress *check_egress(lua_State *L)
{
    struct legress *g = luaL_checkudata(L, 1, EGRESS_CLASS);
    if (!g->g)
        luaL_error(L, "the egress is closed");
    return g->g;
}

struct line {
    const struct legress *g;
    const char *id, *text;
};

static int call_on_line(lua_State *L)
{
    const struct line *l = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, l->g->on_line);
    lua_pushstring(L, l->id);
    lua_pushstring(L, l->text);
    lua_call(L, 2, 0);
    return 0;
}

static void call(const struct legress *g, lua_CFunction fn, void *what)
{
    lua_pushcfunction(g->L, fn);
    lua_pushlightuserdata(g->L, what);
    if (lutil_call(g->L, 1, 0) == 0)
        return;
    log_line(LOG_ERROR, "egress", "%s", luaL_tolstring(g->L, -1, NULL));
    lua_pop(g->L, 2);
}

static void on_line(void *arg, const char *id, const char *text)
{
    struct line l = {arg, id, text};
    call(arg, call_on_line, &l);
}

struct name {
    const struct legress *g;
    const char *id;
    const struct egress_place *at;
};

static int call_on_name(lua_State *L)
{
    const struct name *n = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, n->g->on_name);
    lua_pushstring(L, n->id);
    lua_pushinteger(L, n->at->slot);
    lua_pushinteger(L, n->at->number);
    lua_pushstring(L, n->at->name);
    lua_call(L, 4, 0);
    return 0;
}

static void on_name(void *arg, const char *id, const struct egress_place *at)
{
    struct name n = {arg, id, at};
    call(arg, call_on_name, &n);
}

/* The function in a field of the table at 1. */
static int function_ref(lua_State *L, const char *field)
{
    luaL_argcheck(L, lua_getfield(L, 1, field) == LUA_TFUNCTION, 1,
                  "on_line and on_name must be functions");
    return luaL_ref(L, LUA_REGISTRYINDEX);
}

/* egress{v6=, on_line=function(id, text), on_name=function(id, slot, number,
 * name)} -> g ; neither must wait */
static int l_egress(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    bool v6 = lutil_opt_bool(L, 1, "v6", 0);
    struct legress *g = lua_newuserdatauv(L, sizeof(*g), 0);
    *g = (struct legress){NULL, task_main(L), LUA_NOREF, LUA_NOREF};
    luaL_setmetatable(L, EGRESS_CLASS);
    g->on_line = function_ref(L, "on_line");
    g->on_name = function_ref(L, "on_name");
    g->g = egress_new(task_loop(L), v6);
    egress_on_line(g->g, on_line, g);
    egress_on_name(g->g, on_name, g);
    return 1;
}

/* ---- policies ------------------------------------------------------------ */

static int policy_gc(lua_State *L)
{
    struct lpolicy *p = luaL_checkudata(L, 1, POLICY_CLASS);
    egress_policy_free(p->p);
    p->p = NULL;
    return 0;
}

static struct lpolicy *check_policy(lua_State *L, int idx)
{
    struct lpolicy *p = luaL_checkudata(L, idx, POLICY_CLASS);
    luaL_argcheck(L, p->p, idx, "the policy has been used");
    return p;
}

/* The policy for its new owner. */
static struct egress_policy *take_policy(struct lpolicy *p)
{
    struct egress_policy *out = p->p;
    p->p = NULL;
    return out;
}

/* An array of strings in a field of the table at 1, pushed; its length. */
static lua_Integer list(lua_State *L, const char *field)
{
    int type = lua_getfield(L, 1, field);
    luaL_argcheck(L, type == LUA_TNIL || type == LUA_TTABLE, 1,
                  "the lists of a policy are tables");
    return type == LUA_TTABLE ? luaL_len(L, -1) : 0;
}

static int add_all(lua_State *L, struct lpolicy *p, const char *field,
                   int (*add)(struct egress_policy *p, const char *text,
                              struct err *e),
                   struct err *e)
{
    lua_Integer n = list(L, field);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, -1, i);
        if (add(p->p, luaL_checkstring(L, -1), e) < 0)
            return -1;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return 0;
}

static void add_pins(lua_State *L, struct lpolicy *p)
{
    lua_Integer n = list(L, "pins");
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, -1, i);
        luaL_checktype(L, -1, LUA_TTABLE);
        lua_getfield(L, -1, "host");
        lua_getfield(L, -2, "port");
        egress_policy_pin(p->p, luaL_checkstring(L, -2),
                          (int)luaL_checkinteger(L, -1));
        lua_pop(L, 3);
    }
    lua_pop(L, 1);
}

/* egress_policy{allow={texts}, deny={texts}, pins={{host=, port=}}}
 * -> policy | nil, error (kind invalid_argument) */
static int l_policy(lua_State *L)
{
    struct err e = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    struct lpolicy *p = lua_newuserdatauv(L, sizeof(*p), 0);
    p->p = NULL;
    luaL_setmetatable(L, POLICY_CLASS);
    p->p = egress_policy_new();
    if (add_all(L, p, "deny", egress_policy_deny, &e) < 0 ||
        add_all(L, p, "allow", egress_policy_allow, &e) < 0 ||
        egress_policy_check(p->p, &e) < 0)
        return lutil_fail(L, &e);
    add_pins(L, p);
    return 1;
}

/* ---- sandboxes ----------------------------------------------------------- */

/* g:host(name, ip) -> true | nil, error: the name has this address */
static int l_host(lua_State *L)
{
    struct err e = {0};
    if (egress_host(check_egress(L), luaL_checkstring(L, 2),
                    luaL_checkstring(L, 3), &e) < 0)
        return lutil_fail(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

/* g:add(id, box, policy) -> true | nil, error: takes the sockets of the box and
 * the policy */
static int l_add(lua_State *L)
{
    static const int order[EGRESS_SOCKETS] = {[EGRESS_TCP4] = NETNS_TCP4,
                                              [EGRESS_UDP4] = NETNS_UDP4,
                                              [EGRESS_TCP6] = NETNS_TCP6,
                                              [EGRESS_UDP6] = NETNS_UDP6};
    struct err e = {0};
    struct egress *g = check_egress(L);
    const char *id = luaL_checkstring(L, 2);
    struct netns_sockets *s = engine_box_sockets(L, 3);
    struct lpolicy *p = check_policy(L, 4);
    int fds[EGRESS_SOCKETS];
    for (int i = 0; i < EGRESS_SOCKETS; i++)
        fds[i] = s->fd[order[i]];
    netns_sockets_init(s);
    if (egress_add(g, id, fds, take_policy(p), &e) < 0)
        return lutil_fail(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

/* g:policy(id, policy): for new connections */
static int l_set_policy(lua_State *L)
{
    struct egress *g = check_egress(L);
    const char *id = luaL_checkstring(L, 2);
    egress_set_policy(g, id, take_policy(check_policy(L, 3)));
    return 0;
}

/* g:name(id, number, name): what on_name of an earlier engine got, in order */
static int l_name(lua_State *L)
{
    struct egress *g = check_egress(L);
    const char *id = luaL_checkstring(L, 2);
    lua_Integer number = luaL_checkinteger(L, 3);
    luaL_argcheck(L, number > 0 && number <= UINT16_MAX * 4, 3,
                  "no number of a name");
    egress_name(g, id, (unsigned)number, luaL_checkstring(L, 4));
    return 0;
}

/* g:remove(id): resets its connections */
static int l_remove(lua_State *L)
{
    egress_remove(check_egress(L), luaL_checkstring(L, 2));
    return 0;
}

/* g:report(id) -> {refused=, open=, last={texts, newest first}} | nil */
static int l_report(lua_State *L)
{
    struct egress_report r;
    if (egress_report(check_egress(L), luaL_checkstring(L, 2), &r) < 0)
        return 0;
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, (lua_Integer)r.refused);
    lua_setfield(L, -2, "refused");
    lua_pushinteger(L, r.open);
    lua_setfield(L, -2, "open");
    lua_createtable(L, r.nlast, 0);
    for (int i = 0; i < r.nlast; i++) {
        lua_pushstring(L, r.last[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "last");
    return 1;
}

void engine_egress_open(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", egress_gc}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"host", l_host},     {"add", l_add},   {"policy", l_set_policy},
        {"remove", l_remove}, {"name", l_name}, {"report", l_report},
        {"close", egress_gc}, {NULL, NULL}};
    static const luaL_Reg policy_meta[] = {{"__gc", policy_gc}, {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    lutil_class(L, EGRESS_CLASS, meta, methods);
    lutil_class(L, POLICY_CLASS, policy_meta, none);
    lua_pushcfunction(L, l_egress);
    lua_setfield(L, -2, "egress");
    lua_pushcfunction(L, l_policy);
    lua_setfield(L, -2, "egress_policy");
}
