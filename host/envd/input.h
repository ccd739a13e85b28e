/* What is written to a program's stdin (or terminal), in order, as fast as it
 * reads. */
#ifndef E2B_INPUT_H
#define E2B_INPUT_H

#include "base/buf.h"
#include "net/core/loop.h"

#include <stdbool.h>

struct input;
struct input_write;

/* Takes the descriptor over. */
struct input *input_new(struct loop *l, int fd, struct err *e);
/* Takes the bytes over (b is empty afterwards). fn is called once in a later
 * turn: e NULL when the kernel has taken all. -1: kind "internal" when closed,
 * "resource_exhausted" when too much waits; b stays the caller's. */
int input_write(struct input *in, struct buf *b,
                void (*fn)(void *arg, const struct err *e), void *arg,
                struct input_write **w, struct err *e);
/* fn is not called any more; what was given is written all the same. */
void input_forget(struct input_write *w);
/* Closes behind what waits; more writes are refused. */
void input_close(struct input *in);
bool input_closed(const struct input *in);
/* Open writes end with an error. NULL is fine. */
void input_free(struct input *in);

#endif
