/* What limits can be had here, found by trying, and why not the others. See
 * cgroup.h. */
#include "cgroup_tree.h"

#include "base/str.h"

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct cgroup_limits TRIAL = {
    .cpu_count = 1, .memory_bytes = 64 << 20, .pids = 64};

/* before, the place, middle, the controller, after */
struct reason {
    const char *before, *middle, *after, *remedy;
};

static const struct reason REASONS[] = {
    [CGROUP_NOT_MOUNTED] =
        {"no cgroup file system", " is mounted that has the controller ", "",
         "mount one (mount -t cgroup2 none /sys/fs/cgroup), or start the "
         "container with it"},
    [CGROUP_READ_ONLY] =
        {"", " is mounted read-only: no group with the controller ",
         " can be made",
         "give the container a writable one (docker run --privileged), or "
         "start e2blua outside of it"},
    [CGROUP_OF_ROOT] = {"the cgroup v1 hierarchy ",
                        " belongs to root, with it the controller ", "",
                        "start e2blua as root, or boot with "
                        "systemd.unified_cgroup_hierarchy=1"},
    [CGROUP_NOT_DELEGATED] =
        {"no cgroup below ",
         " that e2blua runs in is this user's, as the controller ", " needs it",
         "start the engine in one: systemd-run --user --scope -p Delegate=yes "
         "e2blua ..."},
    [CGROUP_NO_CONTROLLER] =
        {"the cgroup ", " was not given the controller ", "",
         "as root: systemctl edit user@.service, add [Service] and "
         "Delegate=cpu cpuset io memory pids, log in anew"},
};

static const struct reason OF_KERNEL = {
    "at ", " this kernel offers no controller ", "",
    "remove cgroup_disable= from its command line (some boards: add "
    "cgroup_enable=memory)"};

static const struct reason NOT_TAKEN = {
    "the cgroup ", " did not take a limit of ", "",
    "other programs may live in it: start the engine in one of its own "
    "(systemd-run --scope -p Delegate=yes e2blua ...)"};

static void explain(const struct cgroup_tree *t, enum cgroup_kind k,
                    const char *name, struct cgroup_offer *o)
{
    const struct cgroup_root *r = &t->kind[k];
    const struct reason *s = &REASONS[r->lack];
    if (*r->path)
        s = &NOT_TAKEN;
    else if (r->lack == CGROUP_NO_CONTROLLER &&
             !strcmp(t->unified.path, t->unified.mount) &&
             !strcmp(t->unified.base, "/"))
        s = &OF_KERNEL;
    str_fmt(o->why, sizeof(o->why), "%s%s%s%s%s", s->before, r->mount,
            s->middle, name, s->after);
    str_fmt(o->remedy, sizeof(o->remedy), "%s", s->remedy);
}

static void place(const struct cgroup_tree *t, struct cgroup_offer *o)
{
    static const enum cgroup_kind first[] = {CGROUP_MEMORY, CGROUP_PIDS,
                                             CGROUP_CPU, CGROUP_FREEZER};
    for (size_t i = 0; i < sizeof(first) / sizeof(*first); i++) {
        const struct cgroup_root *r = &t->kind[first[i]];
        if (!*r->path)
            continue;
        o->version = r->v2 ? 2 : 1;
        str_fmt(o->where, sizeof(o->where), "%s", r->path);
        return;
    }
}

void cgroup_tree_offer(const struct cgroup_tree *t, struct cgroup_offer *o)
{
    char name[64], missing[64] = "";
    struct err why = {0};
    memset(o, 0, sizeof(*o));
    place(t, o);
    str_fmt(name, sizeof(name), "e2blua/trial/%d", (int)syscall(SYS_gettid));
    if (cgroup_tree_make(t, name, &TRIAL, missing, sizeof(missing), &why) < 0) {
        str_fmt(o->why, sizeof(o->why), "%s", why.msg);
        str_fmt(o->remedy, sizeof(o->remedy),
                "remove what is in the way, or start e2blua as root");
        return;
    }
    o->cpu = !strstr(missing, "cpu");
    o->memory = !strstr(missing, "memory");
    o->swap = o->memory && !strstr(missing, "swap");
    o->pids = !strstr(missing, "pids");
    o->freeze = *t->kind[CGROUP_FREEZER].path != '\0';
    cgroup_tree_remove(t, name, 1000, NULL);
    if (!o->memory)
        explain(t, CGROUP_MEMORY, "memory", o);
    else if (!o->pids)
        explain(t, CGROUP_PIDS, "pids", o);
    else if (!o->cpu)
        explain(t, CGROUP_CPU, "cpu", o);
}
