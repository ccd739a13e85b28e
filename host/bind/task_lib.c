/* The Lua module e2b_task: tasks, sleeping, conditions. stdlib/e2b/task.lua
 * builds gather, parallel, race and timeout on it. */
#include "lutil.h"
#include "sched.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define COND_CLASS   "e2b.cond"
#define WAITER_CLASS "e2b.waiter"
static const double MAX_SECONDS = 100.0 * 365 * 24 * 3600;

/* One wait in a list of waits; a userdata on the waiting task's stack, which
 * leaves the list when it is collected (after a cancellation). */
struct cond_waiter {
    struct task_wait w;
    struct cond_waiter *next, **at;
};

struct cond {
    struct cond_waiter *first;
};

static void unlink_waiter(struct cond_waiter *c)
{
    if (!c->at)
        return;
    *c->at = c->next;
    if (c->next)
        c->next->at = c->at;
    c->at = NULL;
}

static int waiter_gc(lua_State *L)
{
    struct cond_waiter *c = lua_touserdata(L, 1);
    task_forget(&c->w);
    unlink_waiter(c);
    return 0;
}

/* Pushes a waiter at the end of the list (NULL: of none). */
static struct cond_waiter *new_waiter(lua_State *L, struct cond_waiter **list)
{
    struct cond_waiter *c = lua_newuserdatauv(L, sizeof(*c), 0);
    memset(c, 0, sizeof(*c));
    luaL_setmetatable(L, WAITER_CLASS);
    if (!list)
        return c;
    while (*list)
        list = &(*list)->next;
    c->at = list;
    *list = c;
    return c;
}

static bool wake_first(struct cond_waiter **list)
{
    while (*list) {
        struct cond_waiter *c = *list;
        unlink_waiter(c);
        if (c->w.task) {
            task_wake(&c->w);
            return true;
        }
    }
    return false;
}

/* Milliseconds of a number of seconds; nil: -1. */
static long check_seconds(lua_State *L, int idx)
{
    if (lua_isnoneornil(L, idx))
        return -1;
    double s = luaL_checknumber(L, idx);
    if (isnan(s) || s < 0)
        lutil_raise(L, "invalid_argument",
                    "%f is no time to wait; give seconds, 0 or more", s);
    return s > MAX_SECONDS ? -1 : (long)ceil(s * 1000);
}

/* ---- tasks --------------------------------------------------------------- */

void task_lib_joined(struct task *t)
{
    while (wake_first(&t->joiners))
        ;
}

/* spawn(f, ...) -> task */
static int l_spawn(lua_State *L)
{
    luaL_checkany(L, 1);
    task_new(L, lua_gettop(L) - 1);
    return 1;
}

/* spawn_quiet(f, ...) -> task whose error is its spawner's business */
static int l_spawn_quiet(lua_State *L)
{
    luaL_checkany(L, 1);
    task_new(L, lua_gettop(L) - 1)->quiet = true;
    return 1;
}

static int push_results(lua_State *L, struct task *t)
{
    lua_settop(L, 1);
    if (t->failed) {
        task_push_error(L, t);
        return lua_error(L);
    }
    lua_getiuservalue(L, 1, 1);
    lua_getfield(L, 2, "n");
    int n = (int)lua_tointeger(L, -1);
    luaL_checkstack(L, n, "too many results");
    for (int i = 1; i <= n; i++)
        lua_rawgeti(L, 2, i);
    return n;
}

static int joined(lua_State *L, int status, lua_KContext ctx)
{
    const struct cond_waiter *c = (const struct cond_waiter *)ctx;
    (void)status;
    if (c->w.timed_out) {
        struct err e;
        err_set(&e, "timeout", "the task did not end in time");
        lutil_push_err(L, &e);
        lua_pushliteral(L, "task");
        lua_setfield(L, -2, "deadline");
        return lua_error(L);
    }
    return push_results(L, task_checkud(L, 1));
}

/* task:join([seconds]) -> results of its function; raises its error */
static int l_join(lua_State *L)
{
    struct task *t = task_checkud(L, 1);
    long ms = check_seconds(L, 2);
    if (t == sched_of(L)->current)
        return lutil_raise(L, "invalid_argument",
                           "a task cannot wait for its own end");
    if (t->status == TASK_DONE)
        return push_results(L, t);
    task_check(L);
    struct cond_waiter *c = new_waiter(L, &t->joiners);
    return task_suspend(L, &c->w, ms, (lua_KContext)c, joined);
}

/* task:cancel([error]) */
static int l_cancel(lua_State *L)
{
    struct task *t = task_checkud(L, 1);
    struct err e;
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        err_set(&e, "cancelled", "the task was cancelled");
        lutil_push_err(L, &e);
    }
    task_cancel(L, t);
    return 0;
}

/* task:status() -> "ready" | "running" | "waiting" | "done" | "failed" */
static int l_status(lua_State *L)
{
    const struct task *t = task_checkud(L, 1);
    static const char *const names[] = {"ready", "ready", "running", "waiting",
                                        "done"};
    lua_pushstring(L, t->status == TASK_DONE && t->failed ? "failed"
                                                          : names[t->status]);
    return 1;
}

/* task:error() -> error of a failed task, which counts as seen, or nil */
static int l_error(lua_State *L)
{
    struct task *t = task_checkud(L, 1);
    lua_settop(L, 1);
    if (t->status != TASK_DONE || !t->failed)
        lua_pushnil(L);
    else
        task_push_error(L, t);
    return 1;
}

/* cancelled() -> true when the running task has been cancelled */
static int l_cancelled(lua_State *L)
{
    const struct task *t = sched_of(L)->current;
    lua_pushboolean(L, t && t->cancelled);
    return 1;
}

/* count() -> unfinished tasks, the running one included */
static int l_count(lua_State *L)
{
    lua_pushinteger(L, sched_of(L)->count);
    return 1;
}

/* ---- waiting ------------------------------------------------------------- */

static int slept(lua_State *L, int status, lua_KContext ctx)
{
    (void)L, (void)status, (void)ctx;
    return 0;
}

/* sleep(seconds) */
static int l_sleep(lua_State *L)
{
    long ms = check_seconds(L, 1);
    if (ms < 0 && lua_isnoneornil(L, 1))
        return luaL_argerror(L, 1, "seconds expected");
    struct cond_waiter *c = new_waiter(L, NULL);
    return task_suspend(L, &c->w, ms, 0, slept);
}

/* now() -> monotonic seconds */
static int l_now(lua_State *L)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    lua_pushnumber(L, (double)ts.tv_sec + (double)ts.tv_nsec / 1e9);
    return 1;
}

static int unshield(lua_State *L, int status, lua_KContext ctx)
{
    sched_of(L)->current->shielded = ctx != 0;
    if (status != LUA_OK && status != LUA_YIELD)
        return lua_error(L);
    return lua_gettop(L);
}

/* shield(f, ...) -> results; a cancellation waits (at most 10 s) until f is
 * through. For clean-up. */
static int l_shield(lua_State *L)
{
    struct task *t = sched_of(L)->current;
    luaL_checkany(L, 1);
    int n = lua_gettop(L) - 1;
    if (!t) {
        lua_call(L, n, LUA_MULTRET);
        return lua_gettop(L);
    }
    lua_KContext before = t->shielded;
    t->shielded = true;
    return unshield(L, lua_pcallk(L, n, LUA_MULTRET, 0, before, unshield),
                    before);
}

static int cond_gc(lua_State *L)
{
    struct cond *c = lua_touserdata(L, 1);
    while (c->first)
        unlink_waiter(c->first);
    return 0;
}

static struct cond *check_cond(lua_State *L)
{
    return luaL_checkudata(L, 1, COND_CLASS);
}

/* cond() -> cond */
static int l_cond(lua_State *L)
{
    struct cond *c = lua_newuserdatauv(L, sizeof(*c), 0);
    c->first = NULL;
    luaL_setmetatable(L, COND_CLASS);
    return 1;
}

static int cond_waited(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lua_pushboolean(L, !((const struct cond_waiter *)ctx)->w.timed_out);
    return 1;
}

/* cond:wait([seconds]) -> true; false when the time is over */
static int l_wait(lua_State *L)
{
    struct cond *c = check_cond(L);
    long ms = check_seconds(L, 2);
    task_check(L);
    struct cond_waiter *w = new_waiter(L, &c->first);
    return task_suspend(L, &w->w, ms, (lua_KContext)w, cond_waited);
}

/* cond:signal() wakes one */
static int l_signal(lua_State *L)
{
    lua_pushboolean(L, wake_first(&check_cond(L)->first));
    return 1;
}

/* cond:broadcast() wakes all */
static int l_broadcast(lua_State *L)
{
    struct cond *c = check_cond(L);
    while (wake_first(&c->first))
        ;
    return 0;
}

int luaopen_e2b_task(lua_State *L)
{
    static const luaL_Reg task[] = {{"join", l_join},
                                    {"cancel", l_cancel},
                                    {"status", l_status},
                                    {"error", l_error},
                                    {NULL, NULL}};
    static const luaL_Reg waiter_meta[] = {{"__gc", waiter_gc}, {NULL, NULL}};
    static const luaL_Reg cond_meta[] = {{"__gc", cond_gc}, {NULL, NULL}};
    static const luaL_Reg cond[] = {{"wait", l_wait},
                                    {"signal", l_signal},
                                    {"broadcast", l_broadcast},
                                    {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"spawn", l_spawn},
        {"spawn_quiet", l_spawn_quiet},
        {"sleep", l_sleep},
        {"now", l_now},
        {"cond", l_cond},
        {"shield", l_shield},
        {"cancelled", l_cancelled},
        {"count", l_count},
        {NULL, NULL},
    };
    static const luaL_Reg none[] = {{NULL, NULL}};
    luaL_newmetatable(L, TASK_CLASS);
    luaL_newlib(L, task);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lutil_class(L, WAITER_CLASS, waiter_meta, none);
    lutil_class(L, COND_CLASS, cond_meta, cond);
    luaL_newlib(L, functions);
    return 1;
}
