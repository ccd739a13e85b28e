/* Tasks and their waits. See task.h and sched.h. */
#include "lutil.h"
#include "sched.h"

#include "base/log.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

/* Registry key of the table that keeps unfinished tasks: [struct task *] = ud.
 */
static const char TASKS = 0;
enum { JOB_THREADS = 2 };

struct loop *task_loop(lua_State *L)
{
    return sched_of(L)->loop;
}

lua_State *task_main(lua_State *L)
{
    return sched_of(L)->main;
}

/* ---- which state runs ---------------------------------------------------- */

static void stop_hook(lua_State *L, lua_Debug *ar);

static void set_hook(lua_State *L)
{
    lua_sethook(L, stop_hook,
                LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

/* Instructions between two reminders: some tenths of a second. */
enum { INSIST = 20 * 1000 * 1000 };

static void insist_hook(lua_State *L, lua_Debug *ar);

void task_insist(lua_State *L, struct task *t)
{
    if (t->sched->signalled != 1) /* else there is a nearer hook */
        lua_sethook(L, insist_hook, LUA_MASKCOUNT, INSIST);
    t->insisted = true;
}

lua_State *sched_enter(struct sched *s, lua_State *co)
{
    lua_State *before = s->running;
    s->running = co;
    if (s->current && s->current->insisted)
        task_insist(co, s->current);
    if (s->signalled == 1) /* the handler may have hooked the one before */
        set_hook(co);
    return before;
}

void sched_leave(struct sched *s, lua_State *before)
{
    s->running = before;
    if (before && s->signalled == 1)
        set_hook(before);
}

/* ---- the ready list ------------------------------------------------------ */

static void run_ready(void *arg);

static void make_ready(struct task *t)
{
    struct sched *s = t->sched;
    if (t->queued)
        return;
    t->queued = true;
    t->next_ready = NULL;
    *s->ready_tail = t;
    s->ready_tail = &t->next_ready;
    if (!s->deferred) {
        s->deferred = true;
        loop_defer(s->loop, run_ready, s);
    }
}

/* ---- waits --------------------------------------------------------------- */

static void end_wait(struct task_wait *w)
{
    struct task *t = w->task;
    loop_timer_stop(w->timer);
    w->task = NULL;
    t->wait = NULL;
    make_ready(t);
}

void task_wake(struct task_wait *w)
{
    if (w->task)
        end_wait(w);
}

void task_forget(struct task_wait *w)
{
    loop_timer_stop(w->timer);
    if (w->task)
        w->task->wait = NULL;
    w->task = NULL;
}

static void wait_over(void *arg)
{
    struct task_wait *w = arg;
    w->timed_out = true;
    end_wait(w);
}

/* Ends the wait of a task that must hear of something. */
static void hit(struct task *t)
{
    if (t->status == TASK_WAITING && t->wait) {
        t->hit = true;
        task_wake(t->wait);
    }
}

static bool protects(const struct task *t)
{
    return t->unwinding || t->shielded;
}

/* What a wait of the task has to raise. */
static bool is_hit(const struct task *t)
{
    const struct sched *s = t->sched;
    if (t->grace_over)
        return true;
    if (protects(t))
        return false;
    return t->cancelled || (t == s->main_task && s->orphan);
}

static void push_own(lua_State *L, struct task *t)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &TASKS);
    lua_rawgetp(L, -1, t);
    lua_remove(L, -2);
}

int task_raise_cancel(lua_State *L, struct task *t)
{
    struct sched *s = t->sched;
    if (t->grace_over)
        return lutil_raise(L, "cancelled",
                           "cleaning up took more than %d seconds and was "
                           "given up",
                           TASK_GRACE_MS / 1000);
    if (t == s->main_task && s->orphan && !t->cancelled) {
        task_push_error(L, s->orphan);
        return lua_error(L);
    }
    t->unwinding = true;
    t->stubborn = t->stubborn || ++t->raised >= TASK_RAISES;
    push_own(L, t);
    lua_getiuservalue(L, -1, 2);
    return lua_error(L);
}

static int resumed(lua_State *L, int status, lua_KContext ctx)
{
    struct task_wait *w = (struct task_wait *)ctx;
    struct task *t = sched_of(L)->current;
    (void)status;
    if (t->hit) {
        t->hit = false;
        if (is_hit(t))
            return task_raise_cancel(L, t);
        return task_suspend(L, w, -1, w->ctx, w->k); /* somebody took it */
    }
    return w->k(L, LUA_YIELD, w->ctx);
}

void task_check(lua_State *L)
{
    struct task *t = sched_of(L)->current;
    if (!t || t->nonyield > 0 || !lua_isyieldable(L)) {
        luaL_where(L, 1);
        lutil_raise(L, "cannot_wait",
                    "%swaiting is impossible here: inside table.sort, a "
                    "string.gsub callback, __tostring, __gc or a message "
                    "handler; wait before or after it",
                    lua_tostring(L, -1));
    }
    if (is_hit(t))
        task_raise_cancel(L, t);
}

int task_suspend(lua_State *L, struct task_wait *w, long timeout_ms,
                 lua_KContext ctx, lua_KFunction k)
{
    task_check(L);
    struct task *t = sched_of(L)->current;
    if (w->task)
        return lutil_raise(L, "internal", "two tasks wait on one thing");
    w->task = t;
    w->timed_out = false;
    w->k = k;
    w->ctx = ctx;
    t->wait = w;
    if (timeout_ms >= 0)
        loop_after(t->sched->loop, (uint64_t)timeout_ms, wait_over, w,
                   &w->timer);
    return lua_yieldk(L, 0, (lua_KContext)w, resumed);
}

/* ---- uncaught errors ----------------------------------------------------- */

static bool is_ours(const char *source)
{
    const char *dir = getenv("E2BLUA_STDLIB");
    if (strncmp(source, "@stdlib/", 8) == 0)
        return true;
    return dir && *source == '@' && str_starts(source + 1, dir);
}

/* Pushes "file:line" of the innermost function that is not the library's, or
 * nil. */
static void push_where(lua_State *L)
{
    lua_Debug ar;
    for (int level = 1; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline > 0 && !is_ours(ar.source)) {
            lua_pushfstring(L, "%s:%d", ar.short_src, ar.currentline);
            return;
        }
    }
    lua_pushnil(L);
}

int sched_message(lua_State *L)
{
    const struct sched *s = sched_of(L);
    bool main =
        s->current && s->current == s->main_task && L == s->main_task->L;
    lua_settop(L, 1);
    if (luaL_getmetafield(L, 1, "__name") == LUA_TSTRING &&
        strcmp(lua_tostring(L, -1), LUTIL_ERROR_CLASS) == 0) {
        lua_settop(L, 1);
        if (lua_getfield(L, 1, "where") == LUA_TNIL) {
            push_where(L);
            lua_setfield(L, 1, "where");
        }
        if (log_level() == LOG_DEBUG &&
            lua_getfield(L, 1, "traceback") == LUA_TNIL) {
            luaL_traceback(L, L, NULL, 1);
            lua_setfield(L, 1, "traceback");
        }
    } else if (main && log_level() == LOG_DEBUG &&
               lua_type(L, 1) == LUA_TSTRING) {
        luaL_traceback(L, L, lua_tostring(L, 1), 1);
        return 1;
    }
    lua_settop(L, 1);
    return 1;
}

/* ---- tasks --------------------------------------------------------------- */

static int task_gc(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);
    loop_timer_stop(t->grace);
    return 0;
}

struct task *task_checkud(lua_State *L, int idx)
{
    return luaL_checkudata(L, idx, TASK_CLASS);
}

/* Ends the coroutines that the body left suspended; ctx values stay. */
static int body_end(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    lua_settop(L, (int)ctx);
    sched_of(L)->current->unwinding = true;
    return coroutine_end_all(L, ctx, body_end);
}

static int body_done(lua_State *L, int status, lua_KContext ctx)
{
    (void)ctx;
    bool ok = status == LUA_OK || status == LUA_YIELD;
    lua_pushboolean(L, ok);
    lua_replace(L, 1); /* the message handler's place */
    return body_end(L, LUA_OK, lua_gettop(L));
}

/* function, arguments -> true, results | false, error */
static int task_body(lua_State *L)
{
    struct task *t = sched_of(L)->current;
    int n = lua_gettop(L) - 1;
    if (t->cancelled) {
        push_own(L, t);
        lua_pushboolean(L, false);
        lua_getiuservalue(L, -2, 2);
        return 2;
    }
    lua_pushcfunction(L, sched_message);
    lua_insert(L, 1);
    return body_done(L, lua_pcallk(L, n, LUA_MULTRET, 1, 0, body_done), 0);
}

struct task *task_new(lua_State *L, int nargs)
{
    static const luaL_Reg meta[] = {{"__gc", task_gc}, {NULL, NULL}};
    struct sched *s = sched_of(L);
    int fn = lua_gettop(L) - nargs;
    struct task *t = lua_newuserdatauv(L, sizeof(*t), 2);
    memset(t, 0, sizeof(*t));
    if (luaL_newmetatable(L, TASK_CLASS))
        luaL_setfuncs(L, meta, 0);
    lua_setmetatable(L, -2);
    t->sched = s;
    t->L = lua_newthread(L);
    lua_sethook(t->L, NULL, 0, 0);
    lua_setiuservalue(L, -2, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &TASKS);
    lua_pushvalue(L, -2);
    lua_rawsetp(L, -2, t);
    lua_pop(L, 1);
    lua_insert(L, fn);
    luaL_checkstack(t->L, nargs + 2, "too many arguments");
    lua_pushcfunction(t->L, task_body);
    lua_xmove(L, t->L, nargs + 1);
    t->at = &s->all;
    t->next = s->all;
    if (t->next)
        t->next->at = &t->next;
    s->all = t;
    s->count++;
    make_ready(t);
    return t;
}

void task_spawn(lua_State *L, int nargs)
{
    struct task *t = task_new(L, nargs);
    t->quiet = t->logged = true;
    lua_pop(L, 1);
}

static void grace_over(void *arg)
{
    struct task *t = arg;
    t->grace_over = true;
    hit(t);
}

void task_cancel(lua_State *L, struct task *t)
{
    if (t->status == TASK_DONE || t->cancelled) {
        lua_pop(L, 1);
        return;
    }
    push_own(L, t);
    lua_insert(L, -2);
    lua_setiuservalue(L, -2, 2);
    lua_pop(L, 1);
    t->cancelled = true;
    if (!t->grace)
        loop_after(t->sched->loop, TASK_GRACE_MS, grace_over, t, &t->grace);
    if (!protects(t))
        hit(t);
}

void task_push_error(lua_State *L, struct task *t)
{
    struct sched *s = t->sched;
    if (s->orphan == t) {
        push_own(L, t);
        lua_getiuservalue(L, -1, 1);
        lua_remove(L, -2);
        s->orphan = NULL;
        lua_rawgetp(L, LUA_REGISTRYINDEX, &TASKS);
        lua_pushnil(L);
        lua_rawsetp(L, -2, t);
        lua_pop(L, 1);
    } else {
        lua_getiuservalue(L, -1, 1); /* the caller has the userdata on top */
    }
    lua_geti(L, -1, 1);
    lua_remove(L, -2);
}

static void log_error(lua_State *L, int idx)
{
    const char *text = luaL_tolstring(L, idx, NULL);
    log_line(LOG_ERROR, "task", "%s", text);
    lua_pop(L, 1);
}

/* Stores true, results... of the thread in the userdata on top of s->main. */
static void keep_results(struct sched *s, struct task *t, int n)
{
    lua_State *L = s->main;
    lua_createtable(L, n > 0 ? n - 1 : 0, 1);
    for (int i = n - 1; i > 0; i--) {
        lua_xmove(t->L, L, 1);
        lua_rawseti(L, -2, i);
    }
    lua_pushinteger(L, n > 0 ? n - 1 : 0);
    lua_setfield(L, -2, "n");
    lua_setiuservalue(L, -2, 1);
}

static void finish(struct task *t, int status, int n)
{
    struct sched *s = t->sched;
    lua_State *L = s->main;
    bool ok = status == LUA_OK && n > 0 && lua_toboolean(t->L, -n);
    luaL_checkstack(L, n + 8, "too many results");
    push_own(L, t);
    if (status != LUA_OK) { /* not even the body's pcall caught it */
        lua_pushboolean(t->L, false);
        lua_insert(t->L, -2);
        n = 2;
    }
    keep_results(s, t, n);
    t->failed = !ok;
    t->status = TASK_DONE;
    loop_timer_stop(t->grace);
    *t->at = t->next;
    if (t->next)
        t->next->at = t->at;
    s->count--;
    bool taken = t->joiners != NULL || t->quiet || t->cancelled;
    task_lib_joined(t);
    if (t->failed && t->logged && !t->cancelled) {
        lua_getiuservalue(L, -1, 1);
        lua_geti(L, -1, 1);
        log_error(L, -1);
        lua_pop(L, 2);
    }
    if (t->failed && !taken && !s->orphan) {
        s->orphan = t;
        if (s->main_task && !protects(s->main_task))
            hit(s->main_task);
    } else {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &TASKS);
        lua_pushnil(L);
        lua_rawsetp(L, -2, t);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void run_task(struct task *t)
{
    struct sched *s = t->sched;
    int nargs = t->status == TASK_NEW ? lua_gettop(t->L) - 1 : 0, n = 0;
    t->status = TASK_RUNNING;
    s->current = t;
    lua_State *before = sched_enter(s, t->L);
    int r = lua_resume(t->L, s->main, nargs, &n);
    sched_leave(s, before);
    s->current = NULL;
    if (r != LUA_YIELD) {
        finish(t, r, r == LUA_OK ? n : 1);
        return;
    }
    t->status = TASK_WAITING;
    if (!t->wait && !t->queued) { /* a C library of others has yielded */
        lua_pop(t->L, n);
        make_ready(t);
    }
}

static void run_ready(void *arg)
{
    struct sched *s = arg;
    struct task *t = s->ready;
    s->deferred = false;
    s->ready = NULL;
    s->ready_tail = &s->ready;
    while (t) {
        struct task *next = t->next_ready;
        t->queued = false;
        run_task(t);
        t = next;
    }
}

/* ---- signals ------------------------------------------------------------- */

static void push_interrupted(lua_State *L)
{
    struct err e;
    err_set(&e, "interrupted", "interrupted");
    lutil_push_err(L, &e);
}

/* signalled: 1 arrived, 2 the main task knows. */
static void take_signal(struct sched *s, lua_State *L)
{
    if (s->signalled != 1 || !s->main_task)
        return;
    s->signalled = 2;
    push_interrupted(L);
    task_cancel(L, s->main_task);
}

static void on_wake(void *arg)
{
    struct sched *s = arg;
    take_signal(s, s->main);
}

static void stop_hook(lua_State *L, lua_Debug *ar)
{
    struct sched *s = sched_of(L);
    struct task *t = s->current;
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    luaL_checkstack(L, 8, NULL);
    take_signal(s, L);
    if (!t)
        return;
    push_interrupted(L);
    task_cancel(L, t);
    if (!protects(t))
        task_raise_cancel(L, t);
}

static void insist_hook(lua_State *L, lua_Debug *ar)
{
    struct task *t = sched_of(L)->current;
    (void)ar;
    if (!t || !t->cancelled || protects(t))
        return;
    luaL_checkstack(L, 8, NULL);
    t->stubborn = true;
    task_raise_cancel(L, t);
}

void task_interrupt(struct sched *s)
{
    lua_State *L = s->running;
    s->signalled = 1;
    if (L)
        set_hook(L);
    loop_wake_send(s->wake);
}

/* ---- the whole ----------------------------------------------------------- */

static void jobs_ready(void *arg, unsigned events)
{
    struct sched *s = arg;
    (void)events;
    s->jobs_out -= job_drain(s->jobs);
    if (s->jobs_out == 0)
        loop_watch_ref(s->jobs_watch, false);
}

static void make_jobs(lua_State *L, struct sched *s)
{
    struct err e;
    if (!s->jobs)
        s->jobs = job_pool_new(JOB_THREADS, &e);
    if (s->jobs)
        s->jobs_watch = loop_watch(s->loop, job_pool_fd(s->jobs), LOOP_READ,
                                   jobs_ready, s, &e);
    if (!s->jobs_watch)
        lutil_raise(L, e.kind, "worker threads: %s", e.msg);
}

void task_submit(lua_State *L, struct job *j)
{
    struct sched *s = sched_of(L);
    if (!s->jobs_watch)
        make_jobs(L, s);
    s->jobs_out++;
    loop_watch_ref(s->jobs_watch, true);
    job_submit(s->jobs, j);
}

struct sched *task_open(lua_State *L, struct loop *loop)
{
    struct err e;
    struct sched *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->loop = loop;
    s->main = L;
    s->ready_tail = &s->ready;
    s->wake = loop_wake_new(loop, on_wake, s, &e);
    if (!s->wake) {
        free(s);
        return NULL;
    }
    loop_wake_unref(s->wake);
    *(struct sched **)lua_getextraspace(L) = s;
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &TASKS);
    coroutine_open(L, s);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_e2b_task);
    lua_setfield(L, -2, "e2b_task");
    lua_pop(L, 1);
    return s;
}

static void cancel_all(struct sched *s)
{
    struct task *next;
    for (struct task *t = s->all; t; t = next) {
        struct err e;
        next = t->next;
        if (t->cancelled)
            continue;
        err_set(&e, "cancelled", "the script has ended");
        lutil_push_err(s->main, &e);
        task_cancel(s->main, t);
    }
}

static void drive_main(struct sched *s)
{
    struct task *t = s->main_task;
    while (t->status != TASK_DONE) {
        if (loop_turn(s->loop, -1) || t->status == TASK_DONE || s->deferred)
            continue;
        struct err e;
        err_set(&e, "internal",
                "the script waits, and nothing is left that could end it");
        lutil_push_err(s->main, &e);
        task_cancel(s->main, t);
    }
}

static void drive_rest(struct sched *s)
{
    uint64_t end = loop_now(s->loop) + 2 * (uint64_t)TASK_GRACE_MS;
    while (s->count > 0 && loop_now(s->loop) < end) {
        cancel_all(s);
        loop_turn(s->loop, 1000);
    }
    if (s->count > 0)
        log_line(LOG_WARN, "task", "%u tasks do not end", s->count);
}

int task_run(struct sched *s, int nargs, int *code)
{
    lua_State *L = s->main;
    struct task *t = task_new(L, nargs);
    t->quiet = true;
    s->main_task = t;
    drive_main(s);
    drive_rest(s);
    bool failed = t->failed;
    if (s->exiting) {
        *code = s->exit_code;
        failed = false;
    }
    if (failed) {
        task_push_error(L, t);
        lua_remove(L, -2);
    } else if (s->orphan && !s->exiting) {
        task_push_error(L, s->orphan);
        lua_remove(L, -2);
        failed = true;
    } else {
        lua_pop(L, 1);
    }
    return failed ? -1 : 0;
}

void task_end_jobs(struct sched *s)
{
    loop_watch_stop(s->jobs_watch);
    job_pool_free(s->jobs);
    s->jobs_watch = NULL;
    s->jobs = NULL;
}

void task_close(struct sched *s)
{
    loop_wake_free(s->wake);
    free(s);
}
