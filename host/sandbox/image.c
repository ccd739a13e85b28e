/* Makes the base image: runs the recipe as a child, follows what it says,
 * publishes the result as a layer. What is in the image says the recipe. */
#include "image.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/str.h"
#include "cacerts.h"
#include "image_recipe.h"
#include "layers.h"
#include "rootless.h"
#include "seccomp.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    POLL_MS = 100,
    GRACE_MS = 3000,
    TIMEOUT_MS = 30 * 60 * 1000,
    TAIL_MAX = 4096,
    LINE_MAX_BYTES = 1024,
    USERNS_FD = 3 /* in the recipe's shell */
};

static void recipe_text(struct buf *b)
{
    for (const char *const *p = image_recipe; *p; p++)
        buf_puts(b, *p);
}

static int id_of(const struct buf *pem, bool one_id, char id[65], struct err *e)
{
    struct utsname machine;
    struct buf b = {0};
    if (uname(&machine))
        return err_errno(e, NULL, "uname");
    recipe_text(&b);
    buf_printf(&b, "\n%s\n", machine.machine);
    if (pem->len)
        buf_append(&b, pem->data, pem->len);
    if (one_id)
        buf_puts(&b, "one id\n");
    hash_hex(b.data, b.len, id);
    buf_fini(&b);
    return 0;
}

int image_base_id(bool one_id, char id[65], struct err *e)
{
    struct buf pem = {0};
    int failed = cacerts_extra(&cacerts_system, &pem, e);
    if (!failed)
        failed = id_of(&pem, one_id, id, e);
    buf_fini(&pem);
    return failed;
}

bool image_base_ready(const char *cache_dir, bool one_id, char id[65])
{
    if (image_base_id(one_id, id, NULL))
        return false;
    int FD_AUTO cache = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return cache >= 0 && layers_have(cache, id);
}

/* ---- one making ---- */

struct making {
    const struct image_maker *m;
    struct err *err;
    int64_t deadline;
    int cache, work; /* the cache folder, tmp/<name> in it */
    char name[LAYERS_TMP_NAME];
    char dir[4096]; /* absolute path of tmp/<name> */
    char id[65];
    struct buf pem;
    struct rootless_ids ids;
    int userns; /* the sandboxes' ids, in which the recipe runs; -1: ours */
    /* the child */
    pid_t pid;
    int out;
    char line[LINE_MAX_BYTES];
    size_t line_len;
    struct buf tail;
    const char *stage;
};

static const struct {
    const char *says, *stage;
    int percent;
} STAGES[] = {
    {"running apt-get update", "fetching package lists", 2},
    {"downloading packages", "downloading packages", 6},
    {"extracting archives", "unpacking the system", 18},
    {"installing essential packages", "installing the system", 22},
    {"installing remaining packages", "installing packages", 32},
    {"adding the certificates", "adding the certificates of this machine", 70},
    {"installing node", "installing node and npm", 72},
    {"removing the packages", "removing what was only needed to make it", 82},
    {"adding the user", "adding the user", 94},
    {"cleaning up", "cleaning up", 96},
};

static void tell(struct making *k, const char *stage, int percent)
{
    k->stage = stage;
    if (k->m->progress)
        k->m->progress(k->m->arg, stage, percent);
}

static bool stopped(const struct making *k)
{
    return k->m->stop && *k->m->stop;
}

/* Is it time to give up? Says why in the error. */
static bool must_end(struct making *k)
{
    if (stopped(k)) {
        err_set(k->err, "cancelled", "making the base image was stopped");
        return true;
    }
    if (clock_ms() < k->deadline)
        return false;
    err_set(k->err, "timeout",
            "making the base image took too long (at: %s); see whether the "
            "package mirror of this machine answers",
            k->stage);
    return true;
}

static void line_done(struct making *k)
{
    while (k->line_len && isspace((unsigned char)k->line[k->line_len - 1]))
        k->line_len--;
    k->line[k->line_len] = '\0';
    if (!k->line_len)
        return;
    if (str_starts(k->line, "I: ")) {
        for (size_t i = 0; i < sizeof(STAGES) / sizeof(*STAGES); i++)
            if (strstr(k->line, STAGES[i].says))
                tell(k, STAGES[i].stage, STAGES[i].percent);
    } else {
        buf_append(&k->tail, k->line, k->line_len);
        buf_puts(&k->tail, "\n");
        if (k->tail.len > TAIL_MAX)
            buf_consume(&k->tail, k->tail.len - TAIL_MAX);
    }
    k->line_len = 0;
}

/* Takes what the child has written; false at the end. */
static bool take_output(struct making *k)
{
    char in[4096];
    ssize_t n = read(k->out, in, sizeof(in));
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    for (ssize_t i = 0; i < n; i++) {
        if (in[i] == '\n' || in[i] == '\r')
            line_done(k);
        else if (k->line_len < sizeof(k->line) - 1)
            k->line[k->line_len++] = in[i];
    }
    return n > 0;
}

/* Proxies, the npm registry and little else: keys that the environment holds
 * are none of the package scripts' business. Free the array only. */
static char **child_env(char *lang, char *one_id)
{
    static const char *const KEEP[] = {
        "PATH=",       "HOME=",        "npm_config_",  "NPM_CONFIG_",
        "http_proxy=", "https_proxy=", "ftp_proxy=",   "all_proxy=",
        "no_proxy=",   "HTTP_PROXY=",  "HTTPS_PROXY=", "FTP_PROXY=",
        "ALL_PROXY=",  "NO_PROXY=",
    };
    size_t n = 0, have = 0;
    while (environ[have])
        have++;
    char **env = mem_array(have + 3, sizeof(*env));
    for (size_t i = 0; i < have; i++)
        for (size_t j = 0; j < sizeof(KEEP) / sizeof(*KEEP); j++)
            if (str_starts(environ[i], KEEP[j])) {
                env[n++] = environ[i];
                break;
            }
    env[n++] = lang;
    env[n] = one_id;
    return env;
}

/* One starting, by a thread of its own: the filter of one id is a thread's, and
 * its children inherit it. */
struct spawning {
    struct making *k;
    char **argv;
    int out, code;
};

static void *spawn_now(void *arg)
{
    struct spawning *w = arg;
    struct making *k = w->k;
    bool one_id = k->ids.grade == ROOTLESS_ONE;
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    sigset_t none, all;
    char lang[] = "LC_ALL=C.UTF-8", one[] = "E2BLUA_ONE_ID=1";
    char **env = child_env(lang, one_id ? one : NULL);
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, w->out, 1);
    posix_spawn_file_actions_adddup2(&fa, w->out, 2);
    posix_spawn_file_actions_addfchdir_np(&fa, k->work);
    if (k->userns >= 0)
        posix_spawn_file_actions_adddup2(&fa, k->userns, USERNS_FD);
    posix_spawnattr_init(&at);
    posix_spawnattr_setflags(&at, POSIX_SPAWN_SETPGROUP |
                                      POSIX_SPAWN_SETSIGMASK |
                                      POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&at, &none);
    posix_spawnattr_setsigdefault(&at, &all);
    w->code = one_id && seccomp_load_fakes() < 0
                  ? errno
                  : posix_spawnp(&k->pid, w->argv[0], &fa, &at, w->argv, env);
    posix_spawnattr_destroy(&at);
    posix_spawn_file_actions_destroy(&fa);
    free(env);
    return NULL;
}

static int spawn(struct making *k, char **argv, int out)
{
    struct spawning w = {k, argv, out, 0};
    pthread_t thread;
    errno = pthread_create(&thread, NULL, spawn_now, &w);
    if (errno)
        return err_errno(k->err, NULL, "thread");
    pthread_join(thread, NULL);
    errno = w.code;
    return w.code ? err_errno(k->err, NULL, "cannot start %s", argv[0]) : 0;
}

/* A user's folders are closed to root of the sandboxes' ids: it gets the work
 * folder, in which it stands, at another place. */
static const char IN_USERNS[] =
    "exec 3<&-; mount -c --bind . /mnt && cd /mnt && exec /bin/sh -c \"$@\"";

/* The words in front of the recipe's. */
static size_t prefix(const struct making *k, const char **argv)
{
    static const char *const outer[] = {"nsenter", "--user=/proc/self/fd/3"};
    static const char *const own[] = {"unshare", "--mount",      "--pid",
                                      "--fork",  "--kill-child", "/bin/sh",
                                      "-c"};
    static const char *const inner[] = {IN_USERNS, "e2blua-enter"};
    size_t n = 0;
    if (k->m->program) {
        argv[n++] = k->m->program;
        argv[n++] = "-c";
        return n;
    }
    for (size_t i = 0; k->userns >= 0 && i < 2; i++)
        argv[n++] = outer[i];
    for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++)
        argv[n++] = own[i];
    for (size_t i = 0; k->userns >= 0 && i < 2; i++)
        argv[n++] = inner[i];
    return n;
}

static int start(struct making *k)
{
    struct buf recipe = {0};
    char root[4200], work[4200];
    const char *dir = k->userns >= 0 ? "/mnt" : k->dir;
    int fds[2];
    (void)str_fmt(root, sizeof(root), "%s/fs", dir);
    (void)str_fmt(work, sizeof(work), "%s/work", dir);
    if (fd_pipe(fds, k->err))
        return -1;
    if (fd_nonblock(fds[0], true, k->err)) {
        fd_close(&fds[0]);
        fd_close(&fds[1]);
        return -1;
    }
    recipe_text(&recipe);
    const char *rest[] = {recipe.data, "e2blua-base", root, work, NULL};
    const char *argv[20];
    size_t n = prefix(k, argv);
    memcpy(argv + n, rest, sizeof(rest));
    int failed = spawn(k, (char **)(uintptr_t)argv, fds[1]);
    buf_fini(&recipe);
    fd_close(&fds[1]);
    k->out = fds[0];
    return failed;
}

/* Its last lines, as many as fit into an error. */
static const char *last_lines(struct making *k)
{
    if (!k->tail.len)
        return "it said nothing";
    k->tail.data[k->tail.len - 1] = '\0';
    size_t at = k->tail.len > 300 ? k->tail.len - 300 : 0;
    const char *p = k->tail.data + at;
    const char *newline = at ? strchr(p, '\n') : NULL;
    return newline && newline[1] ? newline + 1 : p;
}

static int failed_with(struct making *k, int status)
{
    while (take_output(k) && k->out >= 0) {
        struct pollfd p = {.fd = k->out, .events = POLLIN};
        if (poll(&p, 1, 0) <= 0)
            break;
    }
    line_done(k);
    char how[48];
    if (WIFSIGNALED(status))
        (void)str_fmt(how, sizeof(how), "killed by signal %d",
                      WTERMSIG(status));
    else
        (void)str_fmt(how, sizeof(how), "exit code %d", WEXITSTATUS(status));
    return err_set(k->err, "build",
                   "making the base image failed at \"%s\" (%s):\n%s", k->stage,
                   how, last_lines(k));
}

/* Ends all of the child's group; its mounts go with its namespace. */
static void kill_child(struct making *k)
{
    int64_t hard = clock_ms() + GRACE_MS;
    int status;
    kill(-k->pid, SIGTERM);
    while (clock_ms() < hard && waitpid(k->pid, &status, WNOHANG) == 0) {
        struct pollfd p = {.fd = k->out, .events = POLLIN};
        poll(&p, 1, POLL_MS);
        take_output(k);
    }
    kill(-k->pid, SIGKILL);
    while (waitpid(k->pid, &status, 0) < 0 && errno == EINTR)
        ;
}

static int follow(struct making *k)
{
    bool open = true;
    for (;;) {
        struct pollfd p = {.fd = open ? k->out : -1, .events = POLLIN};
        int ready = poll(&p, 1, POLL_MS);
        if (ready > 0)
            open = take_output(k);
        int status = 0;
        pid_t got = ready > 0 && open ? 0 : waitpid(k->pid, &status, WNOHANG);
        if (got == k->pid)
            return status ? failed_with(k, status) : 0;
        if (got < 0)
            return err_errno(k->err, NULL, "cannot wait for the recipe");
        if (must_end(k)) {
            kill_child(k);
            return -1;
        }
    }
}

/* work/cas/NNN.crt */
static int write_cas(struct making *k)
{
    if (path_mkdirs(k->work, "work/cas", 0700, k->err))
        return -1;
    static const char end[] = "-----END CERTIFICATE-----\n";
    const char *p = k->pem.data;
    for (int i = 0; p && *p; i++) {
        const char *stop = strstr(p, end);
        if (!stop)
            break;
        stop += sizeof(end) - 1;
        char name[48];
        (void)str_fmt(name, sizeof(name), "work/cas/machine-%03d.crt", i);
        if (path_write_file(k->work, name, p, (size_t)(stop - p), 0644, k->err))
            return -1;
        p = stop;
    }
    return 0;
}

static void write_meta(struct buf *out, const char *id)
{
    char at[32];
    time_t t = time(NULL);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_t *v = json_pack("{s:s, s:s, s:s, s:s, s:s, s:{}}", "id", id, "kind",
                          "base", "created_at", at, "user", "user", "workdir",
                          "/home/user", "env");
    json_write(out, v);
    json_decref(v);
}

static int publish(struct making *k)
{
    struct buf meta = {0};
    if (faccessat(k->work, "fs", F_OK, AT_SYMLINK_NOFOLLOW))
        return err_errno(k->err, NULL, "the recipe left no root folder");
    tell(k, "writing it to the disk", 97);
    if (path_remove_tree(k->work, "work", k->err))
        return err_wrap(k->err, "base image");
    if (k->userns >= 0 && fchown(k->work, geteuid(), getegid()))
        return err_errno(k->err, NULL, "owner of the layer");
    write_meta(&meta, k->id);
    int failed = layers_publish(k->cache, k->name, k->id, meta.data, k->err);
    buf_fini(&meta);
    const char *id = k->id;
    return failed ? -1 : layers_sync(k->cache, &id, 1, k->err);
}

/* Without the machine's root the files belong to the sandboxes' ids, hence are
 * made by them. */
static int enter_ids(struct making *k)
{
    static const char *const given[] = {".", "fs", "work", "work/cas"};
    if (k->ids.grade != ROOTLESS_RANGE || k->m->program)
        return 0;
    for (size_t i = 0; i < sizeof(given) / sizeof(*given); i++)
        if (fchownat(k->work, given[i], k->ids.first, k->ids.first, 0))
            return err_errno(k->err, NULL, "owner of %s", given[i]);
    k->userns = rootless_userns(&k->ids, k->err);
    return k->userns < 0 ? -1 : 0;
}

static int make_here(struct making *k)
{
    char link[64];
    (void)str_fmt(link, sizeof(link), "/proc/self/fd/%d", k->work);
    ssize_t n = readlink(link, k->dir, sizeof(k->dir) - 1);
    if (n < 0)
        return err_errno(k->err, NULL, "cannot name the cache folder");
    k->dir[n] = '\0';
    /* mmdebstrap wants it traversable for apt's own user. */
    if (mkdirat(k->work, "fs", 0755))
        return err_errno(k->err, NULL, "base image");
    if (write_cas(k) || enter_ids(k))
        return err_wrap(k->err, "base image");
    tell(k, "starting", 0);
    if (start(k) || follow(k))
        return -1;
    return publish(k);
}

static int make_locked(struct making *k)
{
    k->work = layers_tmp(k->cache, k->name, k->err);
    if (k->work < 0)
        return -1;
    int failed = make_here(k);
    if (failed) {
        int FD_AUTO tmp = openat(k->cache, "tmp", O_RDONLY | O_CLOEXEC);
        path_remove_tree(tmp, k->name, NULL);
    } else {
        tell(k, "ready", 100);
    }
    fd_close(&k->out);
    fd_close(&k->work);
    fd_close(&k->userns);
    return failed;
}

/* One maker at a time; the others wait here. */
static int take_turn(struct making *k, int lock)
{
    bool told = false;
    while (flock(lock, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return err_errno(k->err, NULL, "cannot lock the cache");
        if (!told)
            tell(k, "waiting for another process that makes the base image",
                 -1);
        told = true;
        if (must_end(k))
            return -1;
        poll(NULL, 0, POLL_MS);
    }
    return 0;
}

static int make_in(struct making *k)
{
    layers_sweep(k->cache);
    if (layers_have(k->cache, k->id))
        return 0;
    int FD_AUTO lock = openat(k->cache, "base.lock",
                              O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock < 0)
        return err_errno(k->err, NULL, "cannot make base.lock in the cache");
    if (take_turn(k, lock))
        return -1;
    return layers_have(k->cache, k->id) ? 0 : make_locked(k);
}

int image_base_make_by(const char *cache_dir, char id[65],
                       const struct image_maker *m, struct err *e)
{
    struct making k = {
        .m = m, .err = e, .cache = -1, .work = -1, .out = -1, .userns = -1};
    rootless_ids(&k.ids);
    k.deadline = clock_ms() + (m->timeout_ms ? m->timeout_ms : TIMEOUT_MS);
    k.stage = "starting";
    if (!m->program && geteuid() != 0)
        return err_set(e, "unsupported",
                       "making the base image needs root of a user "
                       "namespace: let e2blua's engine make it");
    int failed = cacerts_extra(&cacerts_system, &k.pem, e) ||
                 id_of(&k.pem, k.ids.grade == ROOTLESS_ONE, k.id, e) ||
                 layers_open(cache_dir, &k.cache, e) || make_in(&k);
    memcpy(id, k.id, sizeof(k.id));
    fd_close(&k.cache);
    buf_fini(&k.pem);
    buf_fini(&k.tail);
    return failed ? -1 : 0;
}

int image_base_make(const char *cache_dir, char id[65],
                    void (*progress)(void *arg, const char *stage, int percent),
                    void *arg, const volatile int *stop, struct err *e)
{
    struct image_maker m = {.progress = progress, .arg = arg, .stop = stop};
    return image_base_make_by(cache_dir, id, &m, e);
}
