/* Two raw streams tied together, with back-pressure both ways: what remains of
 * an exchange after 101 Switching Protocols. */
#ifndef E2B_TUNNEL_H
#define E2B_TUNNEL_H

#include "net/core/stream.h"

struct tunnel;

/* Takes both streams over. ended is called once, from the loop, when both ends
 * are closed; the tunnel is gone then. */
struct tunnel *tunnel_new(struct loop *l, struct stream *a, struct stream *b,
                          void (*ended)(void *arg), void *arg);
/* Resets both ends; ended is not called. NULL is fine. */
void tunnel_reset(struct tunnel *t);

#endif
