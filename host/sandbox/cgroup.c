/* The public face: each call looks the machine up and works on that. */
#include "cgroup.h"

#include "cgroup_tree.h"

int cgroup_make(const char *name, const struct cgroup_limits *l, char *missing,
                size_t cap, struct err *e)
{
    struct cgroup_tree t;
    return cgroup_tree_open(&t, e)
               ? -1
               : cgroup_tree_make(&t, name, l, missing, cap, e);
}

int cgroup_add(const char *name, pid_t pid, struct err *e)
{
    struct cgroup_tree t;
    return cgroup_tree_open(&t, e) ? -1 : cgroup_tree_add(&t, name, pid, e);
}

int cgroup_doors(const char *name, int fds[CGROUP_DOORS], struct err *e)
{
    struct cgroup_tree t;
    return cgroup_tree_open(&t, e) ? -1 : cgroup_tree_doors(&t, name, fds, e);
}

int cgroup_fd(const char *name)
{
    struct cgroup_tree t;
    return cgroup_tree_open(&t, NULL) ? -1 : cgroup_tree_fd(&t, name);
}

int cgroup_usage(const char *name, struct cgroup_usage *u, struct err *e)
{
    struct cgroup_tree t;
    return cgroup_tree_open(&t, e) ? -1 : cgroup_tree_usage(&t, name, u, e);
}

int cgroup_memory_events(const char *name)
{
    struct cgroup_tree t;
    return cgroup_tree_open(&t, NULL) ? -1
                                      : cgroup_tree_memory_events(&t, name);
}

int cgroup_offer(struct cgroup_offer *o, struct err *e)
{
    struct cgroup_tree t;
    if (cgroup_tree_open(&t, e) < 0)
        return -1;
    cgroup_tree_offer(&t, o);
    return 0;
}

int cgroup_kill(const char *name, struct err *e)
{
    struct cgroup_tree t;
    return cgroup_tree_open(&t, e) ? -1 : cgroup_tree_kill(&t, name, e);
}

int cgroup_freeze(const char *name, bool on, struct err *e)
{
    struct cgroup_tree t;
    return cgroup_tree_open(&t, e) ? -1 : cgroup_tree_freeze(&t, name, on, e);
}

bool cgroup_empty(const char *name)
{
    struct cgroup_tree t;
    return cgroup_tree_open(&t, NULL) == 0 && cgroup_tree_empty(&t, name);
}

int cgroup_remove(const char *name, int timeout_ms, struct err *e)
{
    struct cgroup_tree t;
    return cgroup_tree_open(&t, e)
               ? -1
               : cgroup_tree_remove(&t, name, timeout_ms, e);
}
