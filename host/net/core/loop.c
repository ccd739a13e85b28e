/* The event loop: libuv's door. See loop.h. */
#include "loop.h"
#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <uv.h>

struct deferred {
    struct deferred *next;
    void (*fn)(void *arg);
    void *arg;
};

struct loop {
    uv_loop_t uv;
    uv_idle_t idle;   /* active while something is deferred */
    uv_timer_t limit; /* of loop_turn; one for all, or closing it would wake */
    struct deferred *first, **last;
};

struct loop *loop_new(struct err *e)
{
    struct loop *l = mem_alloc(sizeof(*l));
    int r = uv_loop_init(&l->uv);
    if (r < 0) {
        err_set(e, "internal", "event loop: %s", uv_strerror(r));
        free(l);
        return NULL;
    }
    l->uv.data = l;
    uv_idle_init(&l->uv, &l->idle);
    uv_timer_init(&l->uv, &l->limit);
    uv_unref((uv_handle_t *)&l->limit);
    l->last = &l->first;
    return l;
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    /* Close callbacks of handles that were just closed are still due. */
    for (int i = 0; i < 100 && l->first; i++)
        uv_run(&l->uv, UV_RUN_NOWAIT);
    uv_close((uv_handle_t *)&l->idle, NULL);
    uv_close((uv_handle_t *)&l->limit, NULL);
    int r = uv_loop_close(&l->uv);
    for (int i = 0; i < 100 && r == UV_EBUSY; i++) {
        uv_run(&l->uv, UV_RUN_NOWAIT);
        r = uv_loop_close(&l->uv);
    }
    assert(r == 0 && "a handle is still open");
    for (struct deferred *d = l->first, *next; d; d = next) {
        next = d->next;
        free(d);
    }
    free(l);
}

void *loop_uv(struct loop *l)
{
    return &l->uv;
}

void loop_run(struct loop *l)
{
    uv_run(&l->uv, UV_RUN_DEFAULT);
}

/* It may be due before libuv has begun to wait. */
static void end_turn(uv_timer_t *t)
{
    uv_stop(t->loop);
}

bool loop_turn(struct loop *l, int timeout_ms)
{
    if (timeout_ms > 0)
        uv_timer_start(&l->limit, end_turn, (uint64_t)timeout_ms, 0);
    bool alive =
        uv_run(&l->uv, timeout_ms == 0 ? UV_RUN_NOWAIT : UV_RUN_ONCE) != 0;
    uv_timer_stop(&l->limit);
    return alive;
}

void loop_stop(struct loop *l)
{
    uv_stop(&l->uv);
}

uint64_t loop_now(struct loop *l)
{
    return uv_now(&l->uv);
}

static void count(uv_handle_t *h, void *arg)
{
    unsigned *n = arg;
    *n += uv_is_active(h) && uv_has_ref(h) && !uv_is_closing(h);
}

unsigned loop_handles(struct loop *l)
{
    unsigned n = 0;
    uv_walk(&l->uv, count, &n);
    return n;
}

/* ---- timers ---- */

struct loop_timer {
    uv_timer_t uv;
    void (*fn)(void *arg);
    void *arg;
    struct loop_timer **slot;
};

static void free_handle(uv_handle_t *h)
{
    free(h->data);
}

static void timer_end(struct loop_timer *t)
{
    if (t->slot)
        *t->slot = NULL;
    t->slot = NULL;
    uv_close((uv_handle_t *)&t->uv, free_handle);
}

static void timer_fired(uv_timer_t *uv)
{
    struct loop_timer *t = uv->data;
    timer_end(t); /* first: fn may start the next one in the same slot */
    t->fn(t->arg);
}

struct loop_timer *loop_after(struct loop *l, uint64_t ms,
                              void (*fn)(void *arg), void *arg,
                              struct loop_timer **slot)
{
    struct loop_timer *t = mem_alloc(sizeof(*t));
    t->fn = fn;
    t->arg = arg;
    t->slot = slot;
    t->uv.data = t;
    uv_timer_init(&l->uv, &t->uv);
    /* libuv counts from the turn's cached time, which may be old by now. */
    uv_update_time(&l->uv);
    uv_timer_start(&t->uv, timer_fired, ms, 0);
    if (slot)
        *slot = t;
    return t;
}

void loop_timer_stop(struct loop_timer *t)
{
    if (t)
        timer_end(t);
}

void loop_timer_unref(struct loop_timer *t)
{
    uv_unref((uv_handle_t *)&t->uv);
}

/* Not timers of 0 ms: libuv runs those that callbacks start in the same turn,
 * so that a chain of them would never let it look at a descriptor. */
static void run_deferred(uv_idle_t *idle)
{
    struct loop *l = idle->loop->data;
    struct deferred *d = l->first, *next;
    l->first = NULL;
    l->last = &l->first;
    for (; d; d = next) {
        next = d->next;
        d->fn(d->arg);
        free(d);
    }
    if (!l->first)
        uv_idle_stop(idle);
}

void loop_defer(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct deferred *d = mem_alloc(sizeof(*d));
    d->fn = fn;
    d->arg = arg;
    *l->last = d;
    l->last = &d->next;
    uv_idle_start(&l->idle, run_deferred);
}

/* ---- descriptors ---- */

struct loop_watch {
    uv_poll_t uv;
    void (*fn)(void *arg, unsigned events);
    void *arg;
    int wanted; /* of libuv's events */
};

static void watch_fired(uv_poll_t *uv, int status, int events)
{
    struct loop_watch *w = uv->data;
    unsigned got = 0;
    if (status < 0) {
        got |= LOOP_ERROR;
        w->wanted = 0; /* libuv has stopped it */
    }
    if (events & (UV_READABLE | UV_DISCONNECT))
        got |= LOOP_READ;
    if (events & UV_WRITABLE)
        got |= LOOP_WRITE;
    w->fn(w->arg, got);
}

struct loop_watch *loop_watch(struct loop *l, int fd, unsigned events,
                              void (*fn)(void *arg, unsigned events), void *arg,
                              struct err *e)
{
    struct loop_watch *w = mem_alloc(sizeof(*w));
    w->fn = fn;
    w->arg = arg;
    int r = uv_poll_init(&l->uv, &w->uv, fd);
    if (r < 0) {
        err_set(e, "internal", "watch descriptor %d: %s", fd, uv_strerror(r));
        free(w);
        return NULL;
    }
    w->uv.data = w;
    loop_watch_set(w, events);
    return w;
}

void loop_watch_set(struct loop_watch *w, unsigned events)
{
    int want = 0;
    if (events & LOOP_READ)
        want |= UV_READABLE;
    if (events & LOOP_WRITE)
        want |= UV_WRITABLE;
    /* libuv would take the descriptor out of epoll and put it back in. */
    if (want == w->wanted)
        return;
    w->wanted = want;
    if (want)
        uv_poll_start(&w->uv, want, watch_fired);
    else
        uv_poll_stop(&w->uv);
}

void loop_watch_stop(struct loop_watch *w)
{
    if (!w)
        return;
    uv_poll_stop(&w->uv);
    uv_close((uv_handle_t *)&w->uv, free_handle);
}

void loop_watch_ref(struct loop_watch *w, bool on)
{
    if (on)
        uv_ref((uv_handle_t *)&w->uv);
    else
        uv_unref((uv_handle_t *)&w->uv);
}

/* ---- wake-ups ---- */

struct loop_wake {
    uv_async_t uv;
    void (*fn)(void *arg);
    void *arg;
};

static void wake_fired(uv_async_t *uv)
{
    struct loop_wake *w = uv->data;
    w->fn(w->arg);
}

struct loop_wake *loop_wake_new(struct loop *l, void (*fn)(void *arg),
                                void *arg, struct err *e)
{
    struct loop_wake *w = mem_alloc(sizeof(*w));
    w->fn = fn;
    w->arg = arg;
    int r = uv_async_init(&l->uv, &w->uv, wake_fired);
    if (r < 0) {
        err_set(e, "internal", "wake-up: %s", uv_strerror(r));
        free(w);
        return NULL;
    }
    w->uv.data = w;
    return w;
}

void loop_wake_send(struct loop_wake *w)
{
    uv_async_send(&w->uv);
}

void loop_wake_free(struct loop_wake *w)
{
    if (w)
        uv_close((uv_handle_t *)&w->uv, free_handle);
}

void loop_wake_unref(struct loop_wake *w)
{
    uv_unref((uv_handle_t *)&w->uv);
}

/* ---- signals ---- */

struct loop_signal {
    uv_signal_t uv;
    void (*fn)(void *arg);
    void *arg;
};

static void signal_fired(uv_signal_t *uv, int signum)
{
    struct loop_signal *s = uv->data;
    (void)signum;
    s->fn(s->arg);
}

struct loop_signal *loop_signal(struct loop *l, int signum,
                                void (*fn)(void *arg), void *arg, struct err *e)
{
    struct loop_signal *s = mem_alloc(sizeof(*s));
    s->fn = fn;
    s->arg = arg;
    s->uv.data = s;
    int r = uv_signal_init(&l->uv, &s->uv);
    if (r < 0) {
        err_set(e, "internal", "watch signals: %s", uv_strerror(r));
        free(s);
        return NULL;
    }
    r = uv_signal_start(&s->uv, signal_fired, signum);
    if (r == 0)
        return s;
    err_set(e, "internal", "watch signal %d: %s", signum, uv_strerror(r));
    uv_close((uv_handle_t *)&s->uv, free_handle);
    return NULL;
}

void loop_signal_stop(struct loop_signal *s)
{
    if (s)
        uv_close((uv_handle_t *)&s->uv, free_handle);
}
