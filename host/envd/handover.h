/* Sockets of this network namespace for the engine: fresh TCP sockets (the far
 * end is the engine's handover.c), and those that an earlier engine served
 * (the far end is netns_fetch.c). Gives nothing else. */
#ifndef E2B_ENVD_HANDOVER_H
#define E2B_ENVD_HANDOVER_H

#include "net/core/loop.h"

struct handover_server;

/* serve gets each connection that does not start with the hand-over's word
 * (the descriptor is its own). */
struct handover_server *handover_server_new(struct loop *l,
                                            void (*serve)(void *arg, int fd),
                                            void *arg);
/* n sockets that copies are given of, -1: a gap. They and the array stay the
 * caller's. */
void handover_server_net(struct handover_server *h, const int *net, int n);
/* Takes a new connection over; decides by its first byte, without waiting. */
void handover_server_take(struct handover_server *h, int fd);
void handover_server_free(struct handover_server *h); /* NULL is fine */

#endif
