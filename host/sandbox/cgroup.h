/* Resource limits by cgroup v1, hybrid or v2, whichever is mounted and ours. A
 * group is named "e2blua/<home hash>/<id>" below each hierarchy's mount point
 * (not below our own group: that one differs from login to login, and a later
 * engine has to find the groups of an earlier one); for an ordinary user, below
 * the uppermost group that was delegated to him among those he is in. All
 * functions may be called from any thread; each reads /proc/self anew.
 *
 * Out of memory: the kernel kills the process that it thinks is the worst, one
 * at a time, as in a virtual machine. memory.oom.group stays 0: one greedy
 * command must not take the sandbox along. Pid 1 is the last choice (commands
 * have a higher oom_score_adj); when even it has to go, because what fills the
 * memory is files of a tmpfs, the sandbox is over. */
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
    uint64_t oom_kills; /* members that the kernel has killed for memory */
};

/* What limits sandboxes can have here. */
struct cgroup_offer {
    bool cpu, memory, swap, pids, freeze;
    int version;     /* of what holds the memory, else the processes: 1, 2, 0 */
    char where[256]; /* the group in which those of sandboxes are made */
    /* Of the first of cpu, memory and pids that cannot be had; "" when all
     * can. */
    char why[320], remedy[256];
};

/* Makes the group (one that is there already is taken) and writes the limits;
 * *missing gets a comma list of limits that were asked for and the machine
 * cannot give: cpu, memory, swap, pids ("" when all are there). name:
 * [a-z0-9_-] and '/', below 128 bytes. */
int cgroup_make(const char *name, const struct cgroup_limits *l, char *missing,
                size_t cap, struct err *e);
/* Moves a process into the group in every hierarchy. */
int cgroup_add(const char *name, pid_t pid, struct err *e);
/* For a process of one thread that moves itself into the v1 groups, by writing
 * "0" to each of the descriptors. Moving another process waits for a grace
 * period of the kernel, some 10 ms; this does not. How many there are, at most
 * CGROUP_DOORS, or -1. */
enum { CGROUP_DOORS = 5 };
int cgroup_doors(const char *name, int fds[CGROUP_DOORS], struct err *e);
/* O_PATH descriptor for CLONE_INTO_CGROUP, or -1 without v2 controllers. */
int cgroup_fd(const char *name);
/* What the machine cannot count stays 0. Fails when there is no such group. */
int cgroup_usage(const char *name, struct cgroup_usage *u, struct err *e);
/* Descriptor of the file with the group's count of processes killed for memory
 * ("oom_kill N" on a line of it), for whoever may not see the group; -1: the
 * machine does not count. */
int cgroup_memory_events(const char *name);
/* Tries it with a group that is removed again. Fails only when /proc is not
 * readable. */
int cgroup_offer(struct cgroup_offer *o, struct err *e);
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
