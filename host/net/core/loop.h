/* The event loop (libuv's only door, with stream.h). One a process; every call
 * belongs to the loop's thread unless it says otherwise. Callbacks never run
 * inside the call that asked for them. */
#ifndef E2B_LOOP_H
#define E2B_LOOP_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;

struct loop *loop_new(struct err *e);
/* Every handle must be closed by then; aborts in a debug build otherwise. */
void loop_free(struct loop *l);
void *loop_uv(struct loop *l); /* uv_loop_t, for httpc's glue only */

/* Runs until nothing is alive or loop_stop. */
void loop_run(struct loop *l);
/* One turn; waits at most timeout_ms (-1 = until something happens). Returns
 * whether anything is still alive. */
bool loop_turn(struct loop *l, int timeout_ms);
void loop_stop(struct loop *l);
uint64_t loop_now(struct loop *l);     /* monotonic ms, of this turn */
unsigned loop_handles(struct loop *l); /* active, referenced ones */

/* One shot. The timer frees itself after firing or by stop; *slot (may be NULL)
 * is set to the timer, and back to NULL when it has gone. */
struct loop_timer;
struct loop_timer *loop_after(struct loop *l, uint64_t ms,
                              void (*fn)(void *arg), void *arg,
                              struct loop_timer **slot);
void loop_timer_stop(struct loop_timer *t);  /* NULL is fine */
void loop_timer_unref(struct loop_timer *t); /* keeps no loop alive */

/* Watches a descriptor it does not own. */
enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_ERROR = 4 };
struct loop_watch;
struct loop_watch *loop_watch(struct loop *l, int fd, unsigned events,
                              void (*fn)(void *arg, unsigned events), void *arg,
                              struct err *e);
void loop_watch_set(struct loop_watch *w, unsigned events); /* 0 = idle */
void loop_watch_stop(struct loop_watch *w); /* NULL fine; fd may close then */
/* Whether it alone keeps the loop alive; as made, it does. */
void loop_watch_ref(struct loop_watch *w, bool on);

/* Runs fn once in a later turn. */
void loop_defer(struct loop *l, void (*fn)(void *arg), void *arg);

/* Wakes the loop from any thread or signal handler. */
struct loop_wake;
struct loop_wake *loop_wake_new(struct loop *l, void (*fn)(void *arg),
                                void *arg, struct err *e);
void loop_wake_send(struct loop_wake *w); /* any thread, async-signal-safe */
void loop_wake_free(struct loop_wake *w);
void loop_wake_unref(struct loop_wake *w);

/* A signal, which has no other effect while it is watched. */
struct loop_signal;
struct loop_signal *loop_signal(struct loop *l, int signum,
                                void (*fn)(void *arg), void *arg,
                                struct err *e);
void loop_signal_stop(struct loop_signal *s); /* NULL is fine */

/* Name look-up as the machine does it, on a thread of its own. fn gets a
 * NULL-ended list of at most 16 "ip" texts, or err: kind not_found when there
 * is no such name, else network. Cancel by loop_resolve_cancel (fn is not
 * called then; NULL is fine). */
struct loop_resolve;
struct loop_resolve *loop_resolve(struct loop *l, const char *host,
                                  void (*fn)(void *arg, char **addrs,
                                             const struct err *e),
                                  void *arg, struct err *e);
void loop_resolve_cancel(struct loop_resolve *r);

#endif
