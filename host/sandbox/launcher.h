/* Makes one process in a sandbox of its own: namespaces, overlay root, seccomp,
 * capabilities, cgroup. Blocking for a few ms: call it from a job. The launcher
 * knows nothing of records, HTTP or what its pid 1 does. */
#ifndef E2B_LAUNCHER_H
#define E2B_LAUNCHER_H

#include "base/err.h"
#include "cgroup.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define LAUNCHER_MAX_LAYERS 120

struct launcher_spec {
    const char *id; /* [a-z0-9]+; hostname "e2b" is set by hostname */
    const char *hostname;
    /* Lower layers as O_PATH directory descriptors, base first. */
    const int *layers;
    int nlayers;
    int upper_fd; /* O_PATH dir holding "u" and "w" (made if missing) */
    int exec_fd;  /* sealed memfd of the program run as pid 1 */
    char *const *argv, *const *envp;
    /* Descriptors the program finds as 3, 4, ... ; stdin is /dev/null, stdout
     * and stderr go to log_fd (a file). */
    const int *pass_fds;
    int npass;
    int log_fd;
    const char *hosts,
        *resolv_conf; /* contents of the two bind-mounted files */
    struct cgroup_limits limits;
    bool tmp_tmpfs;     /* fresh tmpfs on /tmp (build steps) */
    uint64_t shm_bytes; /* /dev/shm size, 0: 64 MiB */
};

struct launcher_child {
    pid_t pid;
    int pidfd;           /* the caller's; readable at exit */
    uint64_t start_time; /* field 22 of /proc/pid/stat */
    char cgroup[128];    /* name to give to cgroup_* */
};

/* Starts it; when it returns 0 the program has been executed (a failed exec or
 * mount is an error here, with the step's name). On failure nothing is left. */
int launcher_start(const struct launcher_spec *s, struct launcher_child *out,
                   struct err *e);
/* SIGKILL to all of it, waits (at most timeout_ms) until the last process is
 * gone and reaped if it was our child, removes the cgroup. Idempotent. */
int launcher_kill(struct launcher_child *c, int timeout_ms, struct err *e);
/* What a wait on a finished child says: 0 and *status as by waitid, or -1. */
int launcher_reap(struct launcher_child *c, int *status, struct err *e);
/* Is the process of this identity still there? (boot id is the caller's.) */
bool launcher_alive(pid_t pid, uint64_t start_time);

#endif
