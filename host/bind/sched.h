/* What the scheduler's files share: task.c (tasks and waits), coroutine.c
 * (what Lua's own coroutines, pcall and require become), task_lib.c (the Lua
 * module e2b_task). */
#ifndef E2B_SCHED_H
#define E2B_SCHED_H

#include "task.h"

#include <signal.h>

enum { TASK_GRACE_MS = 10 * 1000, TASK_RAISES = 100 };

enum task_status {
    TASK_NEW,
    TASK_READY,
    TASK_RUNNING,
    TASK_WAITING,
    TASK_DONE
};

struct task {
    struct task *next, **at; /* of all */
    struct task *next_ready;
    struct sched *sched;
    lua_State *L;
    enum task_status status;
    struct task_wait *wait;
    struct cond_waiter *joiners;
    struct loop_timer *grace;
    int nonyield; /* resumes in the chain that cannot pass a wait on */
    bool queued;  /* in the ready list */
    bool cancelled;
    bool unwinding; /* clean-up runs: waits are allowed */
    bool shielded;  /* the same, asked for */
    bool grace_over;
    bool stubborn; /* goes on and on after its cancellation: pcall is no help */
    bool insisted; /* see task_insist */
    unsigned raised;
    bool hit;    /* the wait was ended by cancellation: raise */
    bool quiet;  /* somebody looks after its error */
    bool logged; /* its error goes to the log */
    bool failed;
};

struct sched {
    struct loop *loop;
    lua_State *main;
    lua_State *volatile running; /* innermost state, NULL in the loop */
    struct task *current, *main_task;
    struct task *ready, **ready_tail;
    struct task *all;
    unsigned count;
    bool deferred;
    struct loop_wake *wake;
    volatile sig_atomic_t signalled;
    bool exiting;
    int exit_code;
    struct job_pool *jobs;
    struct loop_watch *jobs_watch;
    unsigned jobs_out;   /* while there are any, the loop is alive */
    struct task *orphan; /* failed, and nobody took the error */
};

/* Every lua_State carries the scheduler in its extra space. */
static inline struct sched *sched_of(lua_State *L)
{
    return *(struct sched **)lua_getextraspace(L);
}

/* Userdata of a task; uservalue 1: table of results or {error}. */
#define TASK_CLASS "e2b.task"
struct task *task_new(lua_State *L, int nargs); /* pushes the userdata */
struct task *task_checkud(lua_State *L, int idx);
/* Cancels with the error on top of L's stack (pops it). */
void task_cancel(lua_State *L, struct task *t);
/* Pushes the error of a failed task and marks it as taken. */
void task_push_error(lua_State *L, struct task *t);
/* Raises the cancellation of the running task. */
int task_raise_cancel(lua_State *L, struct task *t);
/* A pcall has swallowed the cancellation of the running task: it is raised
 * again when the task computes on without a wait. */
void task_insist(lua_State *L, struct task *t);
/* Called by lua_resume's callers around it. */
lua_State *sched_enter(struct sched *s, lua_State *co);
void sched_leave(struct sched *s, lua_State *before);

/* Message handler for the bodies of tasks and coroutines. */
int sched_message(lua_State *L);
/* Makes a coroutine from the function on top of L; pushes the thread. */
void coroutine_open(lua_State *L, struct sched *s);
/* Ends the suspended coroutines of the running task; may yield. */
int coroutine_end_all(lua_State *L, lua_KContext ctx, lua_KFunction k);
int luaopen_e2b_task(lua_State *L);
void task_lib_joined(struct task *t);

#endif
