/* Resource limits by cgroup v1, hybrid or v2, whichever is mounted. A group is
 * named "e2blua/<home hash>/<id>" below each controller's root or below our own
 * group. */
#ifndef E2B_CGROUP_H
#define E2B_CGROUP_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cgroup_limits {
    unsigned cpu_count;    /* quota = count x period; 0: none */
    uint64_t memory_bytes; /* swap off; 0: none */
    unsigned pids;         /* 0: none */
};

struct cgroup_usage {
    uint64_t cpu_ns, memory_bytes, memory_cache_bytes;
    unsigned pids;
    bool oom_killed;
};

/* Makes the group and writes the limits; *missing gets a comma list of limits
 * the machine cannot give ("" when all are there). */
int cgroup_make(const char *name, const struct cgroup_limits *l, char *missing,
                size_t cap, struct err *e);
int cgroup_add(const char *name, pid_t pid, struct err *e);
/* O_PATH descriptor for CLONE_INTO_CGROUP, or -1 without v2 controllers. */
int cgroup_fd(const char *name);
int cgroup_usage(const char *name, struct cgroup_usage *u, struct err *e);
/* SIGKILL to every member (cgroup.kill or a loop over procs). */
int cgroup_kill(const char *name, struct err *e);
int cgroup_freeze(const char *name, bool on, struct err *e);
bool cgroup_empty(const char *name);
/* Removes it, retrying for up to timeout_ms while the kernel still counts. */
int cgroup_remove(const char *name, int timeout_ms, struct err *e);

#endif
