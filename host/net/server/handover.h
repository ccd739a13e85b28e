/* Sockets of a sandbox's network namespace: envd makes them and hands them over
 * (SCM_RIGHTS) through the sandbox's unix API listener. A small stock is kept,
 * since one question can bring several. */
#ifndef E2B_HANDOVER_H
#define E2B_HANDOVER_H

#include "net/core/loop.h"

struct handover;
struct handover_wait;

/* Connects on first use to the socket dirfd/name; dirfd is the caller's. */
struct handover *handover_new(struct loop *l, int dirfd, const char *name);
/* Open waits end without a call. NULL is fine. */
void handover_free(struct handover *h);

/* A fresh nonblocking TCP socket of the family (AF_INET, AF_INET6), the
 * caller's. Three outcomes: the descriptor at once; -1 and *w set: fn is
 * called once with it, or with -1 and the reason (at most 5 s later); -1 and
 * *w NULL: e tells. */
int handover_take(struct handover *h, int family,
                  void (*fn)(void *arg, int fd, const struct err *e), void *arg,
                  struct handover_wait **w, struct err *e);
void handover_cancel(struct handover_wait *w); /* NULL is fine */

#endif
