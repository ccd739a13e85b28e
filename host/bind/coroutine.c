/* Lua's own pcall, xpcall, require and coroutine.* so that a wait passes
 * through them, cancellation survives a pcall, and a coroutine that is given
 * up is unwound where waiting is possible. */
#include "lutil.h"
#include "sched.h"

#include <string.h>

enum { END_TRIES = 100 };
enum mode { RESUME, WRAP, CLOSE };

/* Of a coroutine that has not ended: registry[&COROUTINES][thread]. */
struct co {
    lua_State *L;
    struct task *task;
    enum mode mode;
    bool in_wait; /* its task waits somewhere inside it */
    bool killed;  /* yields raise */
    bool foreign; /* made by a C library: no body of ours around it */
    int tries;
};

static const char COROUTINES = 0;

/* ---- pcall --------------------------------------------------------------- */

enum { EXTRA_MASK = 0xff, UNWINDING = 0x100 };

static int pcall_done(lua_State *L, int status, lua_KContext ctx)
{
    struct sched *s = sched_of(L);
    struct task *t = s->current;
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - (int)(ctx & EXTRA_MASK);
    if (t) {
        t->unwinding = (ctx & UNWINDING) != 0;
        bool swallows = t->cancelled && !t->unwinding && !t->shielded;
        if (swallows && (s->exiting || t->stubborn))
            return task_raise_cancel(L, t);
        if (swallows)
            task_insist(L, t);
    }
    lua_pushboolean(L, false);
    lua_pushvalue(L, -2);
    return 2;
}

static lua_KContext pcall_ctx(lua_State *L, int extra)
{
    struct task *t = sched_of(L)->current;
    return extra | (t && t->unwinding ? UNWINDING : 0);
}

/* pcall(f, ...) */
static int l_pcall(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_KContext ctx = pcall_ctx(L, 0);
    lua_pushboolean(L, true);
    lua_insert(L, 1);
    int n = lua_gettop(L) - 2;
    return pcall_done(L, lua_pcallk(L, n, LUA_MULTRET, 0, ctx, pcall_done),
                      ctx);
}

/* xpcall(f, handler, ...) */
static int l_xpcall(lua_State *L)
{
    int n = lua_gettop(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_KContext ctx = pcall_ctx(L, 2);
    lua_pushboolean(L, true);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2); /* handler below: f handler true f args */
    return pcall_done(L, lua_pcallk(L, n - 2, LUA_MULTRET, 2, ctx, pcall_done),
                      ctx);
}

/* ---- coroutines ---------------------------------------------------------- */

/* Pushes nothing. NULL: ended, or never seen. */
static struct co *find(lua_State *L, int idx)
{
    idx = lua_absindex(L, idx);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &COROUTINES);
    lua_pushvalue(L, idx);
    lua_rawget(L, -2);
    struct co *c = lua_touserdata(L, -1);
    lua_pop(L, 2);
    return c;
}

static struct co *adopt(lua_State *L, int idx)
{
    idx = lua_absindex(L, idx);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &COROUTINES);
    lua_pushvalue(L, idx);
    struct co *c = lua_newuserdatauv(L, sizeof(*c), 0);
    memset(c, 0, sizeof(*c));
    c->L = lua_tothread(L, idx);
    c->foreign = true;
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return c;
}

static void forget(lua_State *L, lua_State *co)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &COROUTINES);
    lua_pushthread(co);
    lua_xmove(co, L, 1);
    lua_pushnil(L);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

static const char *status_of(lua_State *L, lua_State *co, const struct co *c)
{
    lua_Debug ar;
    if (co == L)
        return "running";
    if (c && c->in_wait)
        return "normal";
    switch (lua_status(co)) {
    case LUA_YIELD:
        return "suspended";
    case LUA_OK:
        if (lua_getstack(co, 0, &ar))
            return "normal";
        return lua_gettop(co) == 0 ? "dead" : "suspended";
    default:
        return "dead";
    }
}

static lua_State *check_co(lua_State *L, int idx)
{
    lua_State *co = lua_tothread(L, idx);
    luaL_argexpected(L, co, idx, "coroutine");
    return co;
}

static int body_done(lua_State *L, int status, lua_KContext ctx)
{
    (void)ctx;
    lua_pushboolean(L, status == LUA_OK || status == LUA_YIELD);
    lua_replace(L, 1);
    return lua_gettop(L);
}

/* function, arguments -> true, results | false, error */
static int co_body(lua_State *L)
{
    int n = lua_gettop(L) - 1;
    lua_pushcfunction(L, sched_message);
    lua_insert(L, 1);
    return body_done(L, lua_pcallk(L, n, LUA_MULTRET, 1, 0, body_done), 0);
}

static int failed(lua_State *L, const struct co *c, lua_State *co)
{
    lua_xmove(co, L, 1);
    if (c->mode != WRAP) {
        lua_pushboolean(L, false);
        lua_insert(L, -2);
        return 2;
    }
    if (lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int give(lua_State *L, const struct co *c, lua_State *co, int n)
{
    if (!lua_checkstack(L, n + 1)) {
        lua_settop(co, 0);
        return luaL_error(L, "too many results to resume");
    }
    bool flag = c->mode != WRAP;
    if (flag)
        lua_pushboolean(L, true);
    lua_xmove(co, L, n);
    return n + flag;
}

static int drive(lua_State *L, struct co *c, int nargs);

static int driven(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    return drive(L, (struct co *)ctx, 0);
}

static int ended(lua_State *L, struct co *c, int r, int n)
{
    lua_State *co = c->L;
    struct co kept = *c;
    forget(L, co);
    if (r != LUA_OK)
        return failed(L, &kept, co);
    if (kept.foreign)
        return give(L, &kept, co, n);
    bool ok = lua_toboolean(co, -n);
    int results = n - 1;
    if (kept.mode == CLOSE) {
        /* Closing is what ended it: its own error is no failure. */
        lua_settop(co, 0);
        lua_pushboolean(L, true);
        return 1;
    }
    int got = ok ? give(L, &kept, co, results) : failed(L, &kept, co);
    lua_settop(co, 0);
    return got;
}

/* Resumes the coroutine with the nargs values on its stack, until it ends or
 * yields for its user; a wait inside it is passed on to the task. */
static int drive(lua_State *L, struct co *c, int nargs)
{
    struct sched *s = sched_of(L);
    struct task *t = s->current;
    int n = 0;
    bool blocked = t && !lua_isyieldable(L);
    c->task = t;
    if (blocked)
        t->nonyield++;
    lua_State *before = sched_enter(s, c->L);
    int r = lua_resume(c->L, L, nargs, &n);
    sched_leave(s, before);
    if (blocked)
        t->nonyield--;
    c->in_wait = r == LUA_YIELD && t && t->wait;
    if (c->in_wait)
        return lua_yieldk(L, 0, (lua_KContext)c, driven);
    if (r != LUA_YIELD)
        return ended(L, c, r, n);
    if (c->mode != CLOSE)
        return give(L, c, c->L, n);
    lua_pop(c->L, n);
    if (++c->tries < END_TRIES)
        return drive(L, c, 0);
    forget(L, c->L);
    lua_pushboolean(L, true);
    return 1;
}

static int start(lua_State *L, lua_State *co, int idx, enum mode mode,
                 int nargs)
{
    struct co *c = find(L, idx);
    const char *status = status_of(L, co, c);
    if (strcmp(status, "suspended") != 0) {
        lua_pushfstring(L, "cannot resume %s coroutine",
                        strcmp(status, "dead") == 0 ? "dead" : "non-suspended");
        if (mode == WRAP)
            return luaL_error(L, "%s", lua_tostring(L, -1));
        lua_pushboolean(L, false);
        lua_insert(L, -2);
        return 2;
    }
    if (!c)
        c = adopt(L, idx);
    c->mode = mode;
    if (!lua_checkstack(co, nargs))
        return luaL_error(L, "too many arguments to resume");
    lua_xmove(L, co, nargs);
    /* the first resume passes the function below its arguments too */
    bool first = lua_status(co) == LUA_OK && !c->foreign;
    return drive(L, c, first ? nargs + 1 : nargs);
}

/* coroutine.create(f) */
static int l_create(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_sethook(co, NULL, 0, 0);
    lua_pushcfunction(co, co_body);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    adopt(L, -1)->foreign = false;
    return 1;
}

/* coroutine.resume(co, ...) */
static int l_resume(lua_State *L)
{
    lua_State *co = check_co(L, 1);
    return start(L, co, 1, RESUME, lua_gettop(L) - 1);
}

static int wrapped(lua_State *L)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    return start(L, co, lua_upvalueindex(1), WRAP, lua_gettop(L));
}

/* coroutine.wrap(f) */
static int l_wrap(lua_State *L)
{
    l_create(L);
    lua_pushcclosure(L, wrapped, 1);
    return 1;
}

static int yielded(lua_State *L, int status, lua_KContext ctx)
{
    (void)status, (void)ctx;
    lua_pushthread(L);
    struct co *c = find(L, -1);
    lua_pop(L, 1);
    if (c && c->killed)
        return lutil_raise(L, "cancelled", "the coroutine was closed");
    return lua_gettop(L);
}

/* coroutine.yield(...) */
static int l_yield(lua_State *L)
{
    struct task *t = sched_of(L)->current;
    if (t && L == t->L)
        return luaL_error(L, "attempt to yield from outside a coroutine");
    return lua_yieldk(L, lua_gettop(L), 0, yielded);
}

static int close_co(lua_State *L, struct co *c)
{
    if (lua_status(c->L) == LUA_OK || c->foreign) { /* never started */
        forget(L, c->L);
        int r = lua_resetthread(c->L);
        lua_pushboolean(L, r == LUA_OK);
        if (r == LUA_OK)
            return 1;
        lua_xmove(c->L, L, 1);
        return 2;
    }
    c->killed = true;
    c->mode = CLOSE;
    return drive(L, c, 0);
}

/* coroutine.close(co) */
static int l_close(lua_State *L)
{
    lua_State *co = check_co(L, 1);
    struct co *c = find(L, 1);
    const char *status = status_of(L, co, c);
    if (strcmp(status, "suspended") == 0)
        return close_co(L, c ? c : adopt(L, 1));
    if (strcmp(status, "dead") != 0)
        return luaL_error(L, "cannot close a %s coroutine", status);
    lua_pushboolean(L, true);
    return 1;
}

/* coroutine.status(co) */
static int l_status(lua_State *L)
{
    lua_State *co = check_co(L, 1);
    lua_pushstring(L, status_of(L, co, find(L, 1)));
    return 1;
}

/* coroutine.running() */
static int l_running(lua_State *L)
{
    struct task *t = sched_of(L)->current;
    bool main = lua_pushthread(L);
    lua_pushboolean(L, main || (t && L == t->L));
    return 2;
}

/* coroutine.isyieldable([co]) */
static int l_isyieldable(lua_State *L)
{
    lua_State *co = lua_isnone(L, 1) ? L : check_co(L, 1);
    struct task *t = sched_of(L)->current;
    lua_pushboolean(L, lua_isyieldable(co) && !(t && co == t->L));
    return 1;
}

static int l_end(lua_State *L)
{
    struct co *c = find(L, 1);
    return c ? close_co(L, c) : 0;
}

/* Pushes a coroutine of the task that is suspended by a yield. */
static bool next_of(lua_State *L, const struct task *t)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &COROUTINES);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        const struct co *c = lua_touserdata(L, -1);
        lua_pop(L, 1);
        if (c->task == t && !c->in_wait && !c->killed &&
            lua_status(c->L) == LUA_YIELD) {
            lua_remove(L, -2);
            return true;
        }
    }
    lua_pop(L, 1);
    return false;
}

int coroutine_end_all(lua_State *L, lua_KContext ctx, lua_KFunction k)
{
    const struct task *t = sched_of(L)->current;
    int top = lua_gettop(L);
    while (next_of(L, t)) {
        lua_pushcfunction(L, l_end);
        lua_insert(L, -2);
        lua_pcallk(L, 1, 0, 0, ctx, k);
        lua_settop(L, top);
    }
    return top;
}

/* ---- require ------------------------------------------------------------- */

/* Pushes loader and its data. */
static void find_loader(lua_State *L, const char *name)
{
    luaL_Buffer msg;
    if (lua_getfield(L, lua_upvalueindex(1), "searchers") != LUA_TTABLE)
        luaL_error(L, "'package.searchers' must be a table");
    int searchers = lua_gettop(L);
    luaL_buffinit(L, &msg);
    luaL_addstring(&msg, "\n\t");
    for (int i = 1;; i++) {
        if (lua_rawgeti(L, searchers, i) == LUA_TNIL) {
            lua_pop(L, 1);
            luaL_buffsub(&msg, 2);
            luaL_pushresult(&msg);
            luaL_error(L, "module '%s' not found:%s", name,
                       lua_tostring(L, -1));
        }
        lua_pushstring(L, name);
        lua_call(L, 1, 2);
        if (lua_isfunction(L, -2)) {
            lua_copy(L, -2, searchers);
            lua_copy(L, -1, searchers + 1);
            lua_settop(L, searchers + 1);
            return;
        }
        if (lua_isstring(L, -2)) {
            lua_pop(L, 1);
            luaL_addvalue(&msg);
            luaL_addstring(&msg, "\n\t");
        } else {
            lua_pop(L, 2);
        }
    }
}

/* name loaded data result */
static int required(lua_State *L, int status, lua_KContext ctx)
{
    (void)status, (void)ctx;
    if (lua_isnil(L, 4) && lua_getfield(L, 2, lua_tostring(L, 1)) == LUA_TNIL)
        lua_pushboolean(L, true);
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, lua_tostring(L, 1));
    lua_pushvalue(L, 3);
    return 2;
}

/* require(name) */
static int l_require(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(L, 2, name);
    if (lua_toboolean(L, -1))
        return 1;
    lua_pop(L, 1);
    find_loader(L, name); /* name loaded loader data */
    lua_insert(L, 3);     /* name loaded data loader */
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 3);
    lua_callk(L, 2, 1, 0, required);
    return required(L, LUA_OK, 0);
}

/* os.exit([code]) unwinds: <close> variables are closed, then the process
 * ends. */
static int l_exit(lua_State *L)
{
    struct sched *s = sched_of(L);
    struct task *t = s->current;
    struct err e;
    int code = lua_isboolean(L, 1) ? !lua_toboolean(L, 1)
                                   : (int)luaL_optinteger(L, 1, 0);
    if (!s->exiting) {
        s->exiting = true;
        s->exit_code = code;
    }
    err_set(&e, "cancelled", "os.exit(%d)", code);
    if (s->main_task && s->main_task != t) {
        lutil_push_err(L, &e);
        task_cancel(L, s->main_task);
    }
    if (!t)
        return 0;
    lutil_push_err(L, &e);
    task_cancel(L, t);
    return task_raise_cancel(L, t);
}

void coroutine_open(lua_State *L, struct sched *s)
{
    static const luaL_Reg co[] = {
        {"create", l_create},   {"resume", l_resume},
        {"wrap", l_wrap},       {"yield", l_yield},
        {"close", l_close},     {"status", l_status},
        {"running", l_running}, {"isyieldable", l_isyieldable},
        {NULL, NULL},
    };
    (void)s;
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &COROUTINES);
    lua_getglobal(L, "coroutine");
    luaL_setfuncs(L, co, 0);
    lua_getglobal(L, "os");
    lua_pushcfunction(L, l_exit);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 2);
    lua_register(L, "pcall", l_pcall);
    lua_register(L, "xpcall", l_xpcall);
    lua_getglobal(L, "package");
    lua_pushcclosure(L, l_require, 1);
    lua_setglobal(L, "require");
}
