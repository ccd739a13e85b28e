/* Makes one process in a sandbox of its own: namespaces, overlay root, seccomp,
 * capabilities, cgroup. Blocking for a few ms: call it from a job; any number
 * of threads may start and kill at once. The launcher knows nothing of records,
 * HTTP or what its pid 1 does. The caller is root of its user namespace, the
 * machine's or one that rootless_enter has made.
 *
 * Ids: 0..65535 inside are those of rootless.h outside, one range for all
 * sandboxes. For the machine's root layers are idmapped, so that files on disk
 * carry the ids seen inside; else they carry the ids outside. Setuid files of
 * layers are therefore real ones: the folders that hold layers and uppers must
 * be closed to everybody but their owner (0700). */
#ifndef E2B_LAUNCHER_H
#define E2B_LAUNCHER_H

#include "base/err.h"
#include "cgroup.h"
#include "netns.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    LAUNCHER_MAX_LAYERS = 120,
    LAUNCHER_MAX_PASS = 64,
    /* Instances are charged to whoever makes user namespaces, usually 128 for
     * all of them together. */
    LAUNCHER_INOTIFY_INSTANCES = 16,
    LAUNCHER_NOFILE = 1024, /* soft limit; the hard one is the caller's */
};

struct launcher_spec {
    const char *id;       /* [a-z0-9]{1,64} */
    const char *hostname; /* [A-Za-z0-9.-]{1,64} */
    /* Name for cgroup_*; NULL: "e2blua/<id>". */
    const char *cgroup;
    /* Lower layers as O_PATH directory descriptors, base first. */
    const int *layers;
    int nlayers;  /* at least 1 */
    int upper_fd; /* O_PATH dir holding "u" and "w" (made if missing), on a
                   * file system that root can idmap: ext4, xfs, btrfs,
                   * tmpfs; u becomes the next layer. Without root it is
                   * given to the sandbox's root. */
    bool upper_detached;  /* upper_fd is the root of a mount that is nowhere
                           * attached, and this sandbox's alone */
    uint64_t upper_bytes; /* not 0: the upper is a tmpfs of this size instead,
                           * gone with the sandbox */
    int exec_fd;          /* sealed memfd of the program run as pid 1 */
    char *const *argv, *const *envp;
    /* Descriptors the program finds as 3, 4, ... ; stdin is /dev/null, stdout
     * and stderr go to log_fd (a file). */
    const int *pass_fds;
    int npass;
    int log_fd; /* -1: /dev/null */
    /* Stays open in the program to its end, behind the others: a lock that
     * lives as long as it does. 0: none. */
    int keep_fd;
    /* Contents of bind-mounted /etc/hosts and /etc/resolv.conf; NULL: empty.
     * /etc/hostname is the hostname. */
    const char *hosts, *resolv_conf;
    struct cgroup_limits limits;
    bool tmp_tmpfs; /* fresh tmpfs on /tmp (build steps) */
    /* Filled with the sockets that all connections come to, the caller's, or
     * with why there are none; NULL: lo has no route. */
    struct netns_sockets *net;
    /* The program finds its own copies of them behind the passed descriptors,
     * in the order of NETNS_*, with gaps for those that are missing. */
    bool net_pass;
    /* Standard input is the file of cgroup_memory_events, where there is one,
     * in place of /dev/null. */
    bool memory_events;
    uint64_t shm_bytes; /* /dev/shm size, 0: 64 MiB */
};

struct launcher_child {
    pid_t pid;
    int pidfd;           /* the caller's; readable at exit */
    uint64_t start_time; /* field 22 of /proc/pid/stat */
    char cgroup[128];    /* name to give to cgroup_* */
    char missing[64];    /* limits this machine cannot give; see cgroup_make */
};

/* Starts it; when it returns 0 the program has been executed. A failure names
 * the step ("sandbox abc: mount /proc: Operation not permitted") and leaves
 * nothing behind. Descriptors stay the caller's. Inside there are only the
 * passed descriptors, only `lo` (up), and no way to new namespaces.
 */
int launcher_start(const struct launcher_spec *s, struct launcher_child *out,
                   struct err *e);
/* SIGKILL to all of it (frozen or not), waits at most timeout_ms until the last
 * process is gone and reaped if it was our child, removes the cgroup, closes
 * pidfd. Idempotent. For an adopted sandbox set pidfd to -1: then pid counts
 * only if its start time is start_time. */
int launcher_kill(struct launcher_child *c, int timeout_ms, struct err *e);
/* Takes the exit status of a finished child: 0 and *status as by waitpid, or
 * -1 when it still runs or was not our child. launcher_kill is still due. */
int launcher_reap(struct launcher_child *c, int *status, struct err *e);
/* Opens pidfd for the process of pid and start_time, which an earlier engine
 * has made; kind not_found: it has ended. (The boot id is the caller's to
 * compare.) */
int launcher_adopt(struct launcher_child *c, struct err *e);
/* Start time of a process, its identity beside the pid; -1: there is none. */
int launcher_identity(pid_t pid, uint64_t *start_time);
/* Is the process of this identity still there and no zombie? (The boot id is
 * the caller's to compare.) */
bool launcher_alive(pid_t pid, uint64_t start_time);

#endif
