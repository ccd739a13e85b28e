/* Working on groups. See cgroup_tree.h; cgroup_find.c says where. */
#include "cgroup_tree.h"

#include "base/fd.h"
#include "base/path.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SWAPS_MAX = 1 << 20, FREEZE_MS = 2000, CPU_PERIOD_US = 100000 };

/* ---- groups and their files -----------------------------------------------
 */

static int check_name(const char *name, struct err *e)
{
    static const char rule[] = "abcdefghijklmnopqrstuvwxyz0123456789_-/";
    size_t n = strlen(name);
    if (n == 0 || n >= 128 || name[strspn(name, rule)] || name[0] == '/' ||
        name[n - 1] == '/' || strstr(name, "//"))
        return err_set(e, "invalid_argument",
                       "cgroup name '%.140s': 1 to 127 of a-z 0-9 _ - with "
                       "single slashes between are allowed",
                       name);
    return 0;
}

/* The k-th kind is the first that lives in its hierarchy. */
static bool first_of_root(const struct cgroup_tree *t, int k)
{
    if (!*t->kind[k].path)
        return false;
    for (int i = 0; i < k; i++)
        if (!strcmp(t->kind[i].path, t->kind[k].path))
            return false;
    return true;
}

static void group_path(char *dst, const struct cgroup_root *r, const char *name,
                       const char *file)
{
    str_fmt(dst, CGROUP_PATH_MAX, "%s/%s%s%s", r->path, name, *file ? "/" : "",
            file);
}

static int put(const struct cgroup_root *r, const char *name, const char *file,
               const char *value)
{
    char path[CGROUP_PATH_MAX];
    group_path(path, r, name, file);
    FD_AUTO int fd = *r->path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return -1;
    return write(fd, value, strlen(value)) < 0 ? -1 : 0;
}

static int put_number(const struct cgroup_root *r, const char *name,
                      const char *file, uint64_t n)
{
    char text[32];
    str_fmt(text, sizeof(text), "%llu", (unsigned long long)n);
    return put(r, name, file, text);
}

/* Up to 8 KiB; "" when there is none. */
struct text {
    char s[8192];
};

static bool get(const struct cgroup_root *r, const char *name, const char *file,
                struct text *out)
{
    char path[CGROUP_PATH_MAX];
    out->s[0] = '\0';
    if (!*r->path)
        return false;
    group_path(path, r, name, file);
    FD_AUTO int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : fd_read_all(fd, out->s, sizeof(out->s) - 1, NULL);
    out->s[n < 0 ? 0 : n] = '\0';
    return n >= 0;
}

/* The number behind "key " at a line's beginning; key "": the whole file. */
static uint64_t number_of(const struct text *t, const char *key)
{
    size_t n = strlen(key);
    for (const char *p = t->s; *p; p += strcspn(p, "\n"), p += *p == '\n') {
        if (!strncmp(p, key, n) && (n == 0 || p[n] == ' '))
            return strtoull(p + n, NULL, 10);
    }
    return 0;
}

static uint64_t read_number(const struct cgroup_root *r, const char *name,
                            const char *file, const char *key)
{
    struct text text;
    return get(r, name, file, &text) ? number_of(&text, key) : 0;
}

static bool exists(const struct cgroup_root *r, const char *name,
                   const char *file)
{
    char path[CGROUP_PATH_MAX];
    group_path(path, r, name, file);
    return *r->path && access(path, F_OK) == 0;
}

static void sleep_ms(int ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&ts, NULL);
}

/* ---- making ---------------------------------------------------------------
 */

/* Another thread may just remove a parent that became empty: begin anew. */
static int make_dirs(const struct cgroup_root *r, const char *name,
                     struct err *e)
{
    char path[CGROUP_PATH_MAX];
    size_t root = strlen(r->path);
    for (int tries = 0; tries < 20; tries++) {
        group_path(path, r, name, "");
        int rc = mkdir(path, 0755);
        if (rc == 0 || errno == EEXIST)
            return 0;
        if (errno != ENOENT)
            break;
        for (char *p = path + root + 1; (p = strchr(p, '/')); p++) {
            *p = '\0';
            (void)mkdir(path, 0755);
            *p = '/';
        }
    }
    group_path(path, r, name, "");
    return err_errno(e, NULL, "cannot make the cgroup %s", path);
}

/* v2: a controller works in a group if every parent hands it down. */
static void hand_down(const struct cgroup_root *r, const char *name)
{
    static const char *const want[] = {"+cpu", "+memory", "+pids"};
    char path[CGROUP_PATH_MAX], parent[CGROUP_PATH_MAX];
    group_path(path, r, name, "");
    char *p = path + strlen(r->path);
    do {
        *p = '\0';
        str_fmt(parent, sizeof(parent), "%s/cgroup.subtree_control", path);
        *p = '/';
        FD_AUTO int fd = open(parent, O_WRONLY | O_CLOEXEC);
        for (size_t i = 0; fd >= 0 && i < 3; i++)
            (void)!write(fd, want[i], strlen(want[i]));
        p = strchr(p + 1, '/');
    } while (p);
}

/* v2: a group whose members are processes cannot hand controllers down, save
 * the hierarchy's own root. A delegated group, or a container's, holds us and
 * perhaps our shell: all move into a group beside those of sandboxes. */
static void move_out(const struct cgroup_root *r)
{
    static const char beside[] = "e2blua.host";
    char path[CGROUP_PATH_MAX];
    struct text pids;
    if (!exists(r, ".", "cgroup.events"))
        return;
    for (int round = 0; round < 10; round++) { /* they may fork meanwhile */
        if (!get(r, ".", "cgroup.procs", &pids) || !pids.s[0])
            return;
        group_path(path, r, beside, "");
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return;
        char *save = NULL;
        for (char *p = strtok_r(pids.s, "\n", &save); p;
             p = strtok_r(NULL, "\n", &save))
            (void)put(r, beside, "cgroup.procs", p);
    }
}

static bool machine_swaps(void)
{
    char *text = path_read_file(AT_FDCWD, "/proc/swaps", SWAPS_MAX, NULL, NULL);
    const char *line = text ? strchr(text, '\n') : NULL;
    bool swaps = line && line[1];
    free(text);
    return swaps;
}

static void miss(char *missing, size_t cap, const char *what)
{
    size_t n = strlen(missing);
    if (n < cap)
        str_fmt(missing + n, cap - n, "%s%s", n ? "," : "", what);
}

static int limit_cpu(const struct cgroup_root *r, const char *name, unsigned n)
{
    char text[64];
    uint64_t quota = (uint64_t)n * CPU_PERIOD_US;
    if (!r->v2)
        return put_number(r, name, "cpu.cfs_period_us", CPU_PERIOD_US) ||
                       put_number(r, name, "cpu.cfs_quota_us", quota)
                   ? -1
                   : 0;
    str_fmt(text, sizeof(text), "%llu %d", (unsigned long long)quota,
            CPU_PERIOD_US);
    return put(r, name, "cpu.max", text);
}

static int limit_memory(const struct cgroup_root *r, const char *name,
                        uint64_t n)
{
    return put_number(r, name, r->v2 ? "memory.max" : "memory.limit_in_bytes",
                      n);
}

/* After the memory limit: v1 refuses a sum below it. */
static int limit_swap(const struct cgroup_root *r, const char *name, uint64_t n)
{
    if (r->v2)
        return put(r, name, "memory.swap.max", "0");
    return put_number(r, name, "memory.memsw.limit_in_bytes", n);
}

int cgroup_tree_make(const struct cgroup_tree *t, const char *name,
                     const struct cgroup_limits *l, char *missing, size_t cap,
                     struct err *e)
{
    const struct cgroup_root *k = t->kind;
    if (cap > 0)
        missing[0] = '\0';
    if (check_name(name, e) < 0)
        return -1;
    for (int i = 0; i < CGROUP_KINDS; i++) {
        if (!first_of_root(t, i))
            continue;
        if (make_dirs(&k[i], name, e) < 0) {
            cgroup_tree_remove(t, name, 0, NULL);
            return -1;
        }
        if (k[i].v2 && !exists(&k[i], name, "pids.max")) {
            if (k[CGROUP_CPU].v2 || k[CGROUP_MEMORY].v2 || k[CGROUP_PIDS].v2)
                move_out(&k[i]);
            hand_down(&k[i], name);
        }
    }
    if (l->cpu_count && limit_cpu(&k[CGROUP_CPU], name, l->cpu_count) < 0)
        miss(missing, cap, "cpu");
    if (l->memory_bytes &&
        limit_memory(&k[CGROUP_MEMORY], name, l->memory_bytes) < 0)
        miss(missing, cap, "memory");
    else if (l->memory_bytes &&
             limit_swap(&k[CGROUP_MEMORY], name, l->memory_bytes) < 0 &&
             machine_swaps())
        miss(missing, cap, "swap");
    if (l->pids && put_number(&k[CGROUP_PIDS], name, "pids.max", l->pids) < 0)
        miss(missing, cap, "pids");
    return 0;
}

int cgroup_tree_add(const struct cgroup_tree *t, const char *name, pid_t pid,
                    struct err *e)
{
    if (check_name(name, e) < 0)
        return -1;
    for (int i = 0; i < CGROUP_KINDS; i++)
        if (first_of_root(t, i) &&
            put_number(&t->kind[i], name, "cgroup.procs", (uint64_t)pid) < 0)
            return err_errno(e, NULL,
                             "cannot move process %d into cgroup %s/%s",
                             (int)pid, t->kind[i].path, name);
    return 0;
}

int cgroup_tree_doors(const struct cgroup_tree *t, const char *name,
                      int fds[CGROUP_DOORS], struct err *e)
{
    char path[CGROUP_PATH_MAX];
    int n = 0;
    if (check_name(name, e) < 0)
        return -1;
    for (int i = 0; i < CGROUP_KINDS; i++) {
        if (!first_of_root(t, i) || t->kind[i].v2)
            continue;
        group_path(path, &t->kind[i], name, "tasks");
        fds[n] = open(path, O_WRONLY | O_CLOEXEC);
        if (fds[n++] >= 0)
            continue;
        err_errno(e, NULL, "open %s", path);
        while (n > 0)
            fd_close(&fds[--n]);
        return -1;
    }
    return n;
}

int cgroup_tree_fd(const struct cgroup_tree *t, const char *name)
{
    char path[CGROUP_PATH_MAX];
    if (check_name(name, NULL) < 0)
        return -1;
    for (int i = 0; i < CGROUP_KINDS; i++) {
        if (!*t->kind[i].path || !t->kind[i].v2)
            continue;
        group_path(path, &t->kind[i], name, "");
        return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    return -1;
}

/* ---- counting -------------------------------------------------------------
 */

static unsigned count_lines(const struct text *t)
{
    unsigned n = 0;
    for (const char *p = t->s; *p; p++)
        n += *p == '\n';
    return n;
}

int cgroup_tree_usage(const struct cgroup_tree *t, const char *name,
                      struct cgroup_usage *u, struct err *e)
{
    const struct cgroup_root *k = t->kind;
    bool found = false;
    struct text text;
    memset(u, 0, sizeof(*u));
    if (check_name(name, e) < 0)
        return -1;
    for (int i = 0; i < CGROUP_KINDS; i++)
        found = found || exists(&k[i], name, "cgroup.procs");
    if (!found)
        return err_set(e, "not_found", "there is no cgroup %s", name);
    u->cpu_ns =
        k[CGROUP_CPUACCT].v2
            ? read_number(&k[CGROUP_CPUACCT], name, "cpu.stat", "usage_usec") *
                  1000
            : read_number(&k[CGROUP_CPUACCT], name, "cpuacct.usage", "");
    const struct cgroup_root *m = &k[CGROUP_MEMORY];
    u->memory_bytes = read_number(
        m, name, m->v2 ? "memory.current" : "memory.usage_in_bytes", "");
    /* Counted with the cache, but files in tmpfs cannot be dropped. */
    uint64_t file =
        read_number(m, name, "memory.stat", m->v2 ? "file" : "total_cache");
    uint64_t shm =
        read_number(m, name, "memory.stat", m->v2 ? "shmem" : "total_shmem");
    u->memory_cache_bytes = file > shm ? file - shm : 0;
    u->oom_kills = read_number(
        m, name, m->v2 ? "memory.events" : "memory.oom_control", "oom_kill");
    if (get(&k[CGROUP_PIDS], name, "pids.current", &text))
        u->pids = (unsigned)number_of(&text, "");
    else if (get(&k[CGROUP_FREEZER], name, "cgroup.procs", &text))
        u->pids = count_lines(&text);
    return 0;
}

int cgroup_tree_memory_events(const struct cgroup_tree *t, const char *name)
{
    const struct cgroup_root *r = &t->kind[CGROUP_MEMORY];
    char path[CGROUP_PATH_MAX];
    if (!*r->path || check_name(name, NULL) < 0)
        return -1;
    group_path(path, r, name, r->v2 ? "memory.events" : "memory.oom_control");
    return open(path, O_RDONLY | O_CLOEXEC);
}

bool cgroup_tree_empty(const struct cgroup_tree *t, const char *name)
{
    struct text text;
    if (check_name(name, NULL) < 0)
        return true;
    for (int i = 0; i < CGROUP_KINDS; i++)
        if (first_of_root(t, i) &&
            get(&t->kind[i], name, "cgroup.procs", &text) && text.s[0])
            return false;
    return true;
}

/* ---- freezing and killing -------------------------------------------------
 */

static bool is_frozen(const struct cgroup_root *r, const char *name, bool on)
{
    struct text text;
    if (r->v2)
        return (read_number(r, name, "cgroup.events", "frozen") == 1) == on;
    return get(r, name, "freezer.state", &text) &&
           str_starts(text.s, on ? "FROZEN" : "THAWED");
}

int cgroup_tree_freeze(const struct cgroup_tree *t, const char *name, bool on,
                       struct err *e)
{
    const struct cgroup_root *r = &t->kind[CGROUP_FREEZER];
    const char *file = r->v2 ? "cgroup.freeze" : "freezer.state";
    const char *value = r->v2 ? (on ? "1" : "0") : (on ? "FROZEN" : "THAWED");
    if (check_name(name, e) < 0)
        return -1;
    if (!*r->path)
        return err_set(e, "unsupported",
                       "cannot freeze: no cgroup freezer is mounted");
    for (int waited = 0;; waited++) {
        /* v1 wants to be told again when a member was busy. */
        if ((waited == 0 || !r->v2) && put(r, name, file, value) < 0)
            return err_errno(e, NULL, "cannot write %s/%s/%s", r->path, name,
                             file);
        if (is_frozen(r, name, on))
            return 0;
        if (waited >= FREEZE_MS)
            return err_set(e, "timeout", "cgroup %s did not become %s in %d ms",
                           name, on ? "frozen" : "thawed", (int)FREEZE_MS);
        sleep_ms(1);
    }
}

static void kill_members(const struct cgroup_root *r, const char *name)
{
    char path[CGROUP_PATH_MAX], line[32];
    group_path(path, r, name, "cgroup.procs");
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f)) {
        pid_t pid = (pid_t)strtol(line, NULL, 10);
        if (pid > 1)
            (void)kill(pid, SIGKILL);
    }
    if (f)
        (void)fclose(f);
}

int cgroup_tree_kill(const struct cgroup_tree *t, const char *name,
                     struct err *e)
{
    const struct cgroup_root *freezer = &t->kind[CGROUP_FREEZER];
    if (check_name(name, e) < 0)
        return -1;
    if (freezer->v2 && put(freezer, name, "cgroup.kill", "1") == 0)
        return 0;
    /* Nobody forks away while frozen; the signal is taken when thawed. */
    bool frozen = exists(freezer, name, "cgroup.procs") &&
                  cgroup_tree_freeze(t, name, true, NULL) == 0;
    for (int i = 0; i < CGROUP_KINDS; i++)
        if (first_of_root(t, i))
            kill_members(&t->kind[i], name);
    if (frozen || exists(freezer, name, "cgroup.procs"))
        return cgroup_tree_freeze(t, name, false, e);
    return 0;
}

/* ---- removing -------------------------------------------------------------
 */

static int remove_one(const struct cgroup_root *r, const char *name)
{
    char path[CGROUP_PATH_MAX];
    group_path(path, r, name, "");
    if (rmdir(path) < 0 && errno != ENOENT)
        return -1;
    for (char *p; (p = strrchr(path, '/')) && p > path + strlen(r->path);) {
        *p = '\0';
        if (rmdir(path) < 0)
            break;
    }
    return 0;
}

int cgroup_tree_remove(const struct cgroup_tree *t, const char *name,
                       int timeout_ms, struct err *e)
{
    if (check_name(name, e) < 0)
        return -1;
    for (int i = 0; i < CGROUP_KINDS; i++) {
        if (!first_of_root(t, i))
            continue;
        for (int waited = 0; remove_one(&t->kind[i], name) < 0; waited++) {
            if (waited >= timeout_ms)
                return err_errno(e, NULL, "cannot remove the cgroup %s/%s",
                                 t->kind[i].path, name);
            sleep_ms(1);
        }
    }
    return 0;
}
