/* A world for one test of the launcher: layers, an upper, and what inside.c
 * says as pid 1. Needs root. */
#ifndef E2B_LAUNCHRIG_H
#define E2B_LAUNCHRIG_H

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"
#include "ctest.h"
#include "sandbox/launcher.h"
#include "sandbox/rootless.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LAYERS = 45, DEADLINE_MS = 20000 };

struct world {
    char dir[64];
    int dirfd, exec_fd, log_fd, upper_fd;
    int layers[MAX_LAYERS], nlayers;
    struct launcher_spec spec;
    struct launcher_child child;
    char *log;
    char cgroup[64]; /* of this process: tests of two builds may run at once */
};

static char *EMPTY_ENV[] = {NULL};

/* ---- a world for one test -------------------------------------------------
 */

static inline int program_fd(void)
{
    char path[512];
    struct err e = {0};
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 16);
    assert_true(n > 0);
    path[n] = '\0';
    memcpy(strrchr(path, '/'), "/inside", 8);
    size_t size;
    char *data = path_read_file(AT_FDCWD, path, 16 << 20, &size, &e);
    if (!data)
        fail_msg("%s", e.msg);
    int fd = fd_memfd_sealed("inside", data, size, &e);
    assert_true(fd >= 0);
    free(data);
    return fd;
}

/* The owner on disk of what a sandbox sees as id's. */
static inline uid_t on_disk(uid_t id)
{
    struct rootless_ids ids;
    rootless_ids(&ids);
    return ids.idmap ? id : id + ids.first;
}

/* Gives a file of a layer to the sandbox's id. */
static inline void own(struct world *w, const char *path, uid_t id)
{
    id = on_disk(id);
    assert_int_equal(fchownat(w->dirfd, path, id, id, AT_SYMLINK_NOFOLLOW), 0);
}

static inline void put(struct world *w, const char *path, const char *text)
{
    struct err e = {0};
    if (path_write_file(w->dirfd, path, text, strlen(text), 0644, &e) < 0)
        fail_msg("%s", e.msg);
    own(w, path, 0);
}

static inline void folder(struct world *w, const char *path)
{
    struct err e = {0};
    if (path_mkdirs(w->dirfd, path, 0755, &e) < 0)
        fail_msg("%s", e.msg);
    own(w, path, 0);
}

static inline int layer(struct world *w, const char *name)
{
    folder(w, name);
    int fd = openat(w->dirfd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0 && w->nlayers < MAX_LAYERS);
    w->layers[w->nlayers++] = fd;
    w->spec.nlayers = w->nlayers;
    return fd;
}

static inline int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    str_fmt(w->dir, sizeof(w->dir), "/tmp/e2b-launcher-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->dirfd = open(w->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    w->exec_fd = program_fd();
    w->log_fd =
        openat(w->dirfd, "log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    folder(w, "upper");
    w->upper_fd = openat(w->dirfd, "upper", O_PATH | O_DIRECTORY | O_CLOEXEC);
    str_fmt(w->cgroup, sizeof(w->cgroup), "e2blua/test%d/main", (int)getpid());
    w->spec = (struct launcher_spec){.id = "launchertest",
                                     .cgroup = w->cgroup,
                                     .hostname = "e2b.local",
                                     .layers = w->layers,
                                     .upper_fd = w->upper_fd,
                                     .exec_fd = w->exec_fd,
                                     .envp = EMPTY_ENV,
                                     .log_fd = w->log_fd,
                                     .hosts = "127.0.0.1 localhost\n",
                                     .resolv_conf = "nameserver 127.0.0.53\n"};
    w->child.pidfd = -1;
    layer(w, "l0");
    *state = w;
    return 0;
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    struct err e = {0};
    if (launcher_kill(&w->child, 5000, &e) < 0)
        print_error("teardown: %s\n", e.msg);
    for (int i = 0; i < w->nlayers; i++)
        close(w->layers[i]);
    close(w->exec_fd);
    close(w->log_fd);
    close(w->upper_fd);
    close(w->dirfd);
    if (path_remove_tree(AT_FDCWD, w->dir, &e) < 0)
        print_error("teardown: %s\n", e.msg);
    free(w->log);
    free(w);
    return 0;
}

static inline void start(struct world *w, char **argv)
{
    struct err e = {0};
    w->spec.argv = argv;
    if (launcher_start(&w->spec, &w->child, &e) < 0)
        fail_msg("%s", e.msg);
}

static inline int wait_end(struct world *w)
{
    struct err e = {0};
    int status = -1;
    struct pollfd p = {.fd = w->child.pidfd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
    if (launcher_reap(&w->child, &status, &e) < 0)
        fail_msg("%s", e.msg);
    return status;
}

static inline void finish(struct world *w)
{
    struct err e = {0};
    if (launcher_kill(&w->child, 5000, &e) < 0)
        fail_msg("%s", e.msg);
}

static inline void read_log(struct world *w)
{
    struct err e = {0};
    free(w->log);
    w->log = path_read_file(w->dirfd, "log", 1 << 20, NULL, &e);
    if (!w->log)
        fail_msg("%s", e.msg);
}

/* Runs the verbs to their end; what they printed is in w->log. */
static inline void run(struct world *w, char **argv)
{
    start(w, argv);
    int status = wait_end(w);
    finish(w);
    read_log(w);
    if (status != 0)
        fail_msg("status %#x: %s", (unsigned)status, w->log);
}

#define RUN_VERBS(w, ...)                                                      \
    run(w, (char *[]){(char *)"inside", __VA_ARGS__, NULL})
#define START_VERBS(w, ...)                                                    \
    start(w, (char *[]){(char *)"inside", __VA_ARGS__, NULL})
#define V(s) ((char *)(size_t)(s))

static inline void want(struct world *w, const char *text)
{
    if (!strstr(w->log, text))
        fail_msg("no '%s' in:\n%s", text, w->log);
}

static inline int exists(struct world *w, const char *path)
{
    return faccessat(w->dirfd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

#endif
