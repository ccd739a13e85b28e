/* What cgroup.c works on: where each kind of control is mounted. Only cgroup.c,
 * launcher.c and the tests (on a made tree) include this. */
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

enum { CGROUP_ROOT_MAX = 256, CGROUP_PATH_MAX = 512 };

/* path "": the machine does not have it. */
struct cgroup_root {
    char path[CGROUP_ROOT_MAX];
    bool v2;
};

struct cgroup_tree {
    struct cgroup_root kind[CGROUP_KINDS];
};

/* Reads the text of a mountinfo file. A v1 mount of a controller wins; else the
 * unified hierarchy has it if its cgroup.controllers says so. */
void cgroup_tree_scan(struct cgroup_tree *t, const char *mountinfo);
int cgroup_tree_open(struct cgroup_tree *t, struct err *e); /* this machine */

/* As the functions of cgroup.h. */
int cgroup_tree_make(const struct cgroup_tree *t, const char *name,
                     const struct cgroup_limits *l, char *missing, size_t cap,
                     struct err *e);
int cgroup_tree_add(const struct cgroup_tree *t, const char *name, pid_t pid,
                    struct err *e);
int cgroup_tree_fd(const struct cgroup_tree *t, const char *name);
int cgroup_tree_usage(const struct cgroup_tree *t, const char *name,
                      struct cgroup_usage *u, struct err *e);
int cgroup_tree_kill(const struct cgroup_tree *t, const char *name,
                     struct err *e);
int cgroup_tree_freeze(const struct cgroup_tree *t, const char *name, bool on,
                       struct err *e);
bool cgroup_tree_empty(const struct cgroup_tree *t, const char *name);
int cgroup_tree_remove(const struct cgroup_tree *t, const char *name,
                       int timeout_ms, struct err *e);

#endif
