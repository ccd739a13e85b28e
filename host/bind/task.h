/* The scheduler's face to the other bindings: how a C function called from Lua
 * waits. A wait is always ended exactly once: by task_wake, by its deadline, or
 * by the task's cancellation (which raises in the task; the binding's callbacks
 * then find w->task NULL and task_wake does nothing). */
#ifndef E2B_TASK_H
#define E2B_TASK_H

#include "net/core/loop.h"

#include <lua.h>
#include <stdbool.h>

struct task;

struct task_wait {
    struct task *task; /* who waits, or NULL */
    bool timed_out;    /* the deadline ended it */
    struct loop_timer *timer;
};

/* Suspends the running task. timeout_ms < 0: no deadline of its own. Use as
 *     return task_suspend(L, &w, timeout_ms, ctx, k);
 * k runs in the task after task_wake or the deadline (w->timed_out tells).
 * Raises kind cannot_wait where yielding is impossible, kind internal when *w
 * already has a waiter. *w must outlive the wait (a userdata on the task's
 * stack). */
int task_suspend(lua_State *L, struct task_wait *w, long timeout_ms,
                 lua_KContext ctx, lua_KFunction k);
/* Makes the waiter ready; it runs from the loop, never inside this call. */
void task_wake(struct task_wait *w);
/* The loop of this Lua universe. */
struct loop *task_loop(lua_State *L);
/* Starts a new task that calls the function below nargs arguments on top of L's
 * stack (pops them). For C callbacks that must run Lua which may wait. */
void task_spawn(lua_State *L, int nargs);
/* The main thread's lua_State, for callbacks from the loop. */
lua_State *task_main(lua_State *L);
/* Schedulers keep the process alive while this count is above zero. */
void task_hold(lua_State *L, int delta);

#endif
