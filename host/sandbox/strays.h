/* Sandboxes found by their control groups or sockets alone, for when the state
 * that knew them is lost. */
#ifndef E2B_STRAYS_H
#define E2B_STRAYS_H

#include "base/err.h"
#include "cgroup_tree.h"

#include <stdint.h>
#include <sys/types.h>

struct stray {
    char id[65];
    char cgroup[128]; /* name to give to cgroup_* */
    pid_t pid;        /* its pid 1, as we see it; 0: it has none any more */
    uint64_t start_time;
};

/* Calls fn for each group prefix/<id> ("e2blua/<home hash>"), once, in whatever
 * hierarchies it is. */
int strays_find(const char *prefix,
                void (*fn)(void *arg, const struct stray *s), void *arg,
                struct err *e);
void strays_find_in(const struct cgroup_tree *t, const char *prefix,
                    void (*fn)(void *arg, const struct stray *s), void *arg);

/* The process that answers on the socket run_dir/name, if it is pid 1 of a
 * sandbox: where there are no control groups. -1: there is none. */
int strays_at(int run_dir, const char *name, pid_t *pid, uint64_t *start_time);

#endif
