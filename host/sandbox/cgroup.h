/* Resource limits by cgroup v1, hybrid or v2, whichever is mounted. A group is
 * named "e2blua/<home hash>/<id>" below each hierarchy's mount point. (Not
 * below our own group: that one differs from login to login, and a later engine
 * has to find the groups of an earlier one.) All functions may be called from
 * any thread; each reads /proc/self/mountinfo anew. */
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
    bool oom_killed; /* the kernel has killed a member for memory */
};

/* Makes the group (one that is there already is taken) and writes the limits;
 * *missing gets a comma list of limits that were asked for and the machine
 * cannot give: cpu, memory, swap, pids ("" when all are there). name:
 * [a-z0-9_-] and '/', below 128 bytes. */
int cgroup_make(const char *name, const struct cgroup_limits *l, char *missing,
                size_t cap, struct err *e);
/* Moves a process into the group in every hierarchy. */
int cgroup_add(const char *name, pid_t pid, struct err *e);
/* O_PATH descriptor for CLONE_INTO_CGROUP, or -1 without v2 controllers. */
int cgroup_fd(const char *name);
/* What the machine cannot count stays 0. Fails when there is no such group. */
int cgroup_usage(const char *name, struct cgroup_usage *u, struct err *e);
/* SIGKILL to every member (cgroup.kill, or each one while frozen). Does not
 * wait for their end. No group, no error. */
int cgroup_kill(const char *name, struct err *e);
/* Returns when all members stand still (or run again); at most 2 s. */
int cgroup_freeze(const char *name, bool on, struct err *e);
bool cgroup_empty(const char *name); /* no process; also: no group */
/* Removes it and the parents that became empty, retrying for up to timeout_ms
 * while the kernel still counts. No group, no error. */
int cgroup_remove(const char *name, int timeout_ms, struct err *e);

#endif
