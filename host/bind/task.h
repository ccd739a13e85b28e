/* The scheduler: every script runs as tasks (coroutines) on one loop, and how
 * a C function called from Lua waits. A wait is ended exactly once: by
 * task_wake, by its deadline, or by the task's cancellation (which raises in
 * the task; the binding's callbacks then find w->task NULL and task_wake does
 * nothing). */
#ifndef E2B_TASK_H
#define E2B_TASK_H

#include "base/job.h"
#include "net/core/loop.h"

#include <lua.h>
#include <stdbool.h>

struct sched;
struct task;

struct task_wait {
    struct task *task; /* who waits, or NULL */
    bool timed_out;    /* the deadline ended it */
    struct loop_timer *timer;
    lua_KFunction k; /* the scheduler's */
    lua_KContext ctx;
};

/* Suspends the running task. timeout_ms < 0: no deadline of its own. Use as
 *     return task_suspend(L, &w, timeout_ms, ctx, k);
 * k runs in the task after task_wake or the deadline (w->timed_out tells).
 * Raises kind cannot_wait where yielding is impossible, kind internal when *w
 * already has a waiter. *w must outlive the wait (a userdata on the task's
 * stack); whoever owns it calls task_forget before its memory goes. */
int task_suspend(lua_State *L, struct task_wait *w, long timeout_ms,
                 lua_KContext ctx, lua_KFunction k);
/* Makes the waiter ready; it runs from the loop, never inside this call. */
void task_wake(struct task_wait *w);
void task_forget(struct task_wait *w);
/* Raises what a wait would raise now: cancelled, or waiting is impossible
 * here. For bindings that must not start what they cannot wait for. */
void task_check(lua_State *L);
/* The loop of this Lua universe. */
struct loop *task_loop(lua_State *L);
/* C work over 1 ms, for a worker thread; done() runs on the loop. */
void task_submit(lua_State *L, struct job *j); /* raises */
/* Starts a new task that calls the function below nargs arguments on top of L's
 * stack (pops them). For C callbacks that must run Lua which may wait. An
 * error in it is logged. */
void task_spawn(lua_State *L, int nargs);
/* The main thread's lua_State, for callbacks from the loop. */
lua_State *task_main(lua_State *L);

/* ---- for main.c ---- */

/* Makes the scheduler of a fresh state; replaces pcall, xpcall, require,
 * coroutine.* and os.exit, and preloads e2b_task. */
struct sched *task_open(lua_State *L, struct loop *loop);
/* Runs the function below nargs arguments as the main task until it and, after
 * cancelling them, all others have ended. 0, or -1 with the error value on the
 * stack; *code is what os.exit gave, else untouched. */
int task_run(struct sched *s, int nargs, int *code);
/* Async-signal-safe: cancels the main task with kind interrupted, stops a
 * running Lua function at its next instruction. */
void task_interrupt(struct sched *s);
/* Before lua_close, which unloads the modules: waits for the jobs that run, and
 * drops those that wait. */
void task_end_jobs(struct sched *s);
/* After lua_close. */
void task_close(struct sched *s);

#endif
