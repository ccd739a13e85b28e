/* Lua calls, a worker executes. See work.h. */
#include "work.h"
#include "base/mem.h"
#include "lutil.h"

#include <stdlib.h>

/* The userdata. The work lives apart from it: a cancelled task's userdata may
 * be collected while the worker still runs. */
struct work_call {
    struct task_wait wait;
    struct work *work;
    bool running;
};

static void free_work(struct work *w)
{
    if (w->class->fini)
        w->class->fini(w);
    free(w);
}

static int call_gc(lua_State *L)
{
    struct work_call *c = lua_touserdata(L, 1);
    task_forget(&c->wait);
    if (c->work && c->running)
        c->work->owner = NULL;
    else if (c->work)
        free_work(c->work);
    c->work = NULL;
    return 0;
}

static void run(struct job *j)
{
    struct work *w = (struct work *)j;
    w->result = w->class->run(w, &w->e);
}

static void done(struct job *j)
{
    struct work *w = (struct work *)j;
    if (!w->owner) {
        free_work(w);
        return;
    }
    w->owner->running = false;
    task_wake(&w->owner->wait);
}

void *work_new(lua_State *L, size_t size, const struct work_class *class)
{
    struct work_call *c = lua_newuserdatauv(L, sizeof(*c), 0);
    *c = (struct work_call){0};
    if (luaL_newmetatable(L, "e2b.work")) {
        lua_pushcfunction(L, call_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    c->work = mem_alloc(size);
    c->work->class = class;
    c->work->owner = c;
    c->work->job.run = run;
    c->work->job.done = done;
    return c->work;
}

int work_push_true(lua_State *L, struct work *w)
{
    (void)w;
    lua_pushboolean(L, 1);
    return 1;
}

static int ended(lua_State *L, int status, lua_KContext ctx)
{
    struct work *w = ((const struct work_call *)ctx)->work;
    (void)status;
    return w->result < 0 ? lutil_fail(L, &w->e) : w->class->push(L, w);
}

int work_call(lua_State *L, struct work *w)
{
    struct work_call *c = w->owner;
    task_check(L);
    task_submit(L, &w->job);
    c->running = true;
    return task_suspend(L, &c->wait, -1, (lua_KContext)c, ended);
}
