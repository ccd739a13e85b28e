/* Sockets of this network namespace for the engine: the far end of the
 * engine's handover.c. Gives fresh TCP sockets and nothing else. */
#ifndef E2B_ENVD_HANDOVER_H
#define E2B_ENVD_HANDOVER_H

#include "net/core/loop.h"

struct handover_server;

/* serve gets each connection that does not start with the hand-over's word
 * (the descriptor is its own). */
struct handover_server *handover_server_new(struct loop *l,
                                            void (*serve)(void *arg, int fd),
                                            void *arg);
/* Takes a new connection over; decides by its first byte, without waiting. */
void handover_server_take(struct handover_server *h, int fd);
void handover_server_free(struct handover_server *h); /* NULL is fine */

#endif
