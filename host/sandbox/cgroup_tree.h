/* What cgroup.c works on: where each kind of control is, found by
 * cgroup_find.c, used by cgroup_tree.c. Only they, cgroup.c, launcher.c and the
 * tests (on a made tree) include this. */
#ifndef E2B_CGROUP_TREE_H
#define E2B_CGROUP_TREE_H

#include "cgroup.h"

enum cgroup_kind {
    CGROUP_CPU,
    CGROUP_CPUACCT,
    CGROUP_MEMORY,
    CGROUP_PIDS,
    CGROUP_FREEZER,
    CGROUP_KINDS
};
_Static_assert((int)CGROUP_KINDS <= (int)CGROUP_DOORS, "a door for each kind");

enum { CGROUP_ROOT_MAX = 256, CGROUP_PATH_MAX = 512 };

/* Why a kind of control cannot be had. */
enum cgroup_lack {
    CGROUP_NOT_MOUNTED,
    CGROUP_READ_ONLY,     /* mounted so */
    CGROUP_OF_ROOT,       /* v1, and not ours */
    CGROUP_NOT_DELEGATED, /* v2, and none of the groups we are in is ours */
    CGROUP_NO_CONTROLLER, /* v2, and the group that is ours was not given it */
};

/* path "": it cannot be had, lack says why; where it would be stands in
 * mount. */
struct cgroup_root {
    char path[CGROUP_ROOT_MAX], mount[CGROUP_ROOT_MAX];
    char base[CGROUP_ROOT_MAX]; /* the group that is seen at the mount point */
    bool v2;
    enum cgroup_lack lack;
};

struct cgroup_tree {
    struct cgroup_root kind[CGROUP_KINDS], unified;
};

/* May groups be made in this group, and processes moved through it? 0, or an
 * error number. */
typedef int cgroup_may(const char *dir, bool v2);

/* Reads the texts of /proc/self/mountinfo and /proc/self/cgroup. A v1 mount of
 * a controller wins; else the unified hierarchy has it if its
 * cgroup.controllers says so. Where the mount point is not ours, the uppermost
 * group on the way to our own that is (a delegated one) takes its place.
 * may NULL: everything is ours. */
void cgroup_tree_scan(struct cgroup_tree *t, const char *mountinfo,
                      const char *own, cgroup_may *may);
int cgroup_tree_open(struct cgroup_tree *t, struct err *e); /* this machine */

/* As the functions of cgroup.h. */
int cgroup_tree_make(const struct cgroup_tree *t, const char *name,
                     const struct cgroup_limits *l, char *missing, size_t cap,
                     struct err *e);
int cgroup_tree_add(const struct cgroup_tree *t, const char *name, pid_t pid,
                    struct err *e);
int cgroup_tree_doors(const struct cgroup_tree *t, const char *name,
                      int fds[CGROUP_DOORS], struct err *e);
int cgroup_tree_fd(const struct cgroup_tree *t, const char *name);
int cgroup_tree_usage(const struct cgroup_tree *t, const char *name,
                      struct cgroup_usage *u, struct err *e);
int cgroup_tree_kill(const struct cgroup_tree *t, const char *name,
                     struct err *e);
int cgroup_tree_freeze(const struct cgroup_tree *t, const char *name, bool on,
                       struct err *e);
int cgroup_tree_memory_events(const struct cgroup_tree *t, const char *name);
void cgroup_tree_offer(const struct cgroup_tree *t, struct cgroup_offer *o);
bool cgroup_tree_empty(const struct cgroup_tree *t, const char *name);
int cgroup_tree_remove(const struct cgroup_tree *t, const char *name,
                       int timeout_ms, struct err *e);

#endif
