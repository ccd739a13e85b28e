/* Short-lived children. */
#ifndef E2B_CHILD_H
#define E2B_CHILD_H

#include <sys/types.h>

/* Waits for the end of a child: its exit status, or 128 when a signal ended it,
 * 129 when it is none of ours, 130 when it was still there after so long and is
 * killed. */
int child_await(pid_t pid, int timeout_ms);

#endif
