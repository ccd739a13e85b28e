/* What launcher.c prepares and launch_child.c carries out. The child runs
 * between clone and exec in a copy of a threaded process: it only makes system
 * calls on what stands here. */
#ifndef E2B_LAUNCH_PLAN_H
#define E2B_LAUNCH_PLAN_H

#include "launcher.h"
#include "rootless.h"

#include <stdint.h>

enum {
    LAUNCH_TREES = LAUNCHER_MAX_LAYERS + 1, /* the upper comes last */
    /* Steps of messages beside failures: right before exec; the kernel's own
     * file systems are wanted from the parent; the network's sockets come. */
    LAUNCH_READY = -1,
    LAUNCH_MOUNTS = -2,
    LAUNCH_NET = -3,
};

struct launch_plan {
    const struct launcher_spec *spec;
    int sock;                                /* the child's end */
    int doors[CGROUP_DOORS], ndoors;         /* into its groups */
    int keep[LAUNCHER_MAX_PASS + 16], nkeep; /* all else it closes; ascending */
    int input;                               /* of the program; -1: /dev/null */
    char names[LAUNCH_TREES][5];             /* "l0", ..., "u": mount points */
    char overlay[1024];                      /* options of the root's mount */
    char shm[48];                            /* options of /dev/shm */
    char upper[48]; /* options of a tmpfs for it, or "" */
    char inotify[16];
    struct netns_plan net; /* when spec->net */
    struct rootless_ids ids;
    /* What stands in for a limit that no cgroup holds: of one process, and of
     * one user inside; 0: none. */
    uint64_t data_bytes;
    unsigned processes;
};

/* What the child says: LAUNCH_READY, LAUNCH_MOUNTS (answered by two mounts,
 * proc and sysfs), LAUNCH_NET (which of the sockets come along, as bits, or
 * errnum), or a failed step, after which it exits. */
struct launch_message {
    int32_t step, errnum, sockets;
};

/* Never returns. */
void launch_child_run(const struct launch_plan *p) __attribute__((noreturn));
const char *launch_child_step(int step);

/* launch_maps.c: what the parent does for a child that waits. */
/* Clones of all layers and the upper, idmapped where ids say so; trees has
 * nlayers + 1 places, -1 each on failure. Makes u and w. */
int launch_maps_trees(const struct launch_plan *p, pid_t pid, int *trees,
                      struct err *e);
/* Sends descriptors; the trees, thereby the release of the child. */
int launch_maps_send(int sock, const int *trees, int n, struct err *e);

/* launch_mounts.c: makes proc and sysfs of the child's namespaces from outside
 * its user namespace, and sends them. A child may mount them itself only where
 * those of its maker are whole, which containers' are not. */
int launch_mounts_send(int sock, int pidfd, struct err *e);

#endif
