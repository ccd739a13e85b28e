/* Sandboxes for Lua: launch{...} and adopt{...} -> box, kill{...}. */
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine.h"
#include "lutil.h"
#include "sandbox/disk.h"
#include "sandbox/launcher.h"
#include "sandbox/layers.h"
#include "sandbox/leases.h"
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BOX_CLASS  "e2b.box"
#define ENVD_CLASS "e2b.envd"

enum { KILL_MS = 10 * 1000 };

extern const char _binary_envd_start[], _binary_envd_end[];

/* ---- launching (on a worker) --------------------------------------------- */

struct launch {
    struct work w;
    char *id, *cache, *dir, *run_dir, *log, *hosts, *resolv_conf, *cgroup;
    char *layers[LAUNCHER_MAX_LAYERS];
    int nlayers;
    struct cgroup_limits limits;
    bool tmp_tmpfs;
    int envd; /* borrowed from the registry */
    struct launcher_child child;
    struct netns_sockets net;
    uint64_t disk_bytes; /* 0: no limit */
    char *disks;         /* folder for empty images */
    char no_disk[192];   /* why there is no limit, or "" */
    bool launched;
};

struct fds {
    int cache, upper, run, log, api, lease;
    int layers[LAUNCHER_MAX_LAYERS];
    int nlayers;
};

static int open_dir(const char *path, struct err *e)
{
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, NULL, "cannot open %s", path);
    return fd;
}

/* Layers and the folder of a build step; its envd keeps the lease. */
static int take_lease(const struct launch *l, struct fds *f, struct err *e)
{
    char folder[96];
    const char *items[LAUNCHER_MAX_LAYERS + 1];
    int n = 0;
    for (; n < l->nlayers; n++)
        items[n] = l->layers[n];
    if (str_fmt(folder, sizeof(folder), "tmp/%s", l->id) == 0)
        items[n++] = folder;
    f->lease = leases_take(f->cache, l->id, items, n, e);
    if (f->lease < 0)
        return -1;
    layers_touch(f->cache, l->layers[l->nlayers - 1]);
    return 0;
}

static int open_all(const struct launch *l, struct fds *f, struct err *e)
{
    char name[128];
    if (layers_open(l->cache, &f->cache, e) < 0 || take_lease(l, f, e) < 0)
        return -1;
    for (; f->nlayers < l->nlayers; f->nlayers++) {
        int fd = layers_fd(f->cache, l->layers[f->nlayers], e);
        if (fd < 0)
            return -1;
        f->layers[f->nlayers] = fd;
    }
    f->upper = open_dir(l->dir, e);
    f->run = f->upper < 0 ? -1 : open_dir(l->run_dir, e);
    if (f->run < 0)
        return -1;
    f->log = open(l->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (f->log < 0)
        return err_errno(e, NULL, "cannot write %s", l->log);
    if (str_fmt(name, sizeof(name), "%s.sock", l->id) < 0)
        return err_set(e, "invalid_argument", "the id %s is too long", l->id);
    f->api = fd_unix_listen(f->run, name, 0600, e);
    return f->api < 0 ? -1 : 0;
}

static void close_all(struct fds *f)
{
    while (f->nlayers > 0)
        fd_close(&f->layers[--f->nlayers]);
    fd_close(&f->cache);
    fd_close(&f->upper);
    fd_close(&f->run);
    fd_close(&f->log);
    fd_close(&f->api);
    fd_close(&f->lease);
}

/* A limit that cannot be had is among the missing ones, with the reason. */
static int choose_disk(struct launch *l, struct fds *f, struct launcher_spec *s,
                       struct err *e)
{
    struct disk_facts facts = {.bytes = l->disk_bytes,
                               .memory_bytes = l->limits.memory_bytes};
    char image[4096];
    if (!l->disk_bytes)
        return 0;
    disk_look(&facts);
    switch (disk_choose(&facts, l->no_disk, sizeof(l->no_disk))) {
    case DISK_TMPFS:
        s->upper_bytes = l->disk_bytes;
        return 0;
    case DISK_NONE:
        return 0;
    case DISK_LOOP:
        break;
    }
    if (str_fmt(image, sizeof(image), "%s/disk.img", l->dir) < 0)
        return err_set(e, "invalid_argument", "the path %s is too long",
                       l->dir);
    int mount = disk_open(l->disks, image, l->disk_bytes, e);
    if (mount < 0)
        return err_wrap(e, "disk of %llu MiB",
                        (unsigned long long)(l->disk_bytes >> 20));
    fd_close(&f->upper);
    f->upper = mount;
    s->upper_fd = mount;
    s->upper_detached = true;
    return 0;
}

static int launch_run(struct work *w, struct err *e)
{
    static char arg0[] = "envd", arg1[] = "--memory-mb";
    char memory[24];
    struct launch *l = (struct launch *)w;
    struct fds f = {-1, -1, -1, -1, -1, -1, {0}, 0};
    char *argv[] = {arg0, arg1, memory, NULL}, *envp[] = {NULL};
    int r = open_all(l, &f, e);
    str_fmt(memory, sizeof(memory), "%llu",
            (unsigned long long)(l->limits.memory_bytes >> 20));
    if (r == 0) {
        struct launcher_spec s = {
            .id = l->id,
            .hostname = "e2b",
            .cgroup = l->cgroup,
            .layers = f.layers,
            .nlayers = f.nlayers,
            .upper_fd = f.upper,
            .exec_fd = l->envd,
            .argv = argv,
            .envp = envp,
            .pass_fds = &f.api,
            .npass = 1,
            .keep_fd = f.lease,
            .log_fd = f.log,
            .hosts = l->hosts,
            .resolv_conf = l->resolv_conf,
            .limits = l->limits,
            .tmp_tmpfs = l->tmp_tmpfs,
            .net = &l->net,
            .net_pass = true,
            .memory_events = true,
        };
        r = choose_disk(l, &f, &s, e);
        if (r == 0)
            r = launcher_start(&s, &l->child, e);
        l->launched = r == 0;
    }
    if (r < 0 && f.lease >= 0)
        leases_forget(f.cache, l->id);
    close_all(&f);
    return r;
}

static void launch_fini(struct work *w)
{
    struct launch *l = (struct launch *)w;
    if (l->launched) { /* nobody took it */
        launcher_kill(&l->child, KILL_MS, NULL);
        fd_close(&l->child.pidfd);
        netns_sockets_close(&l->net);
    }
    for (int i = 0; i < l->nlayers; i++)
        free(l->layers[i]);
    free(l->id);
    free(l->cache);
    free(l->dir);
    free(l->run_dir);
    free(l->log);
    free(l->hosts);
    free(l->resolv_conf);
    free(l->cgroup);
    free(l->disks);
}

/* ---- the box ------------------------------------------------------------- */

struct box {
    struct launcher_child child;
    char no_disk[192];
    struct netns_sockets net;
    struct loop_watch *watch;
    struct task_wait wait;
    bool exited, known; /* known: status is what a wait said */
    int status;
};

static struct box *check_box(lua_State *L)
{
    return luaL_checkudata(L, 1, BOX_CLASS);
}

static int box_gc(lua_State *L)
{
    struct box *b = check_box(L);
    task_forget(&b->wait);
    loop_watch_stop(b->watch);
    b->watch = NULL;
    fd_close(&b->child.pidfd);
    netns_sockets_close(&b->net);
    return 0;
}

struct netns_sockets *engine_box_sockets(lua_State *L, int idx)
{
    return &((struct box *)luaL_checkudata(L, idx, BOX_CLASS))->net;
}

static void on_exit_of_box(void *arg, unsigned events)
{
    struct box *b = arg;
    (void)events;
    loop_watch_stop(b->watch);
    b->watch = NULL;
    b->exited = true;
    b->known = launcher_reap(&b->child, &b->status, NULL) == 0;
    task_wake(&b->wait);
}

static int waited(lua_State *L, int status, lua_KContext ctx)
{
    const struct box *b = (const struct box *)ctx;
    (void)status;
    if (!b->exited) {
        lua_pushnil(L);
        return 1;
    }
    if (!b->known)
        lua_pushliteral(L, "ended");
    else if (WIFSIGNALED(b->status))
        lua_pushfstring(L, "signal %d", WTERMSIG(b->status));
    else
        lua_pushfstring(L, "exit %d", WEXITSTATUS(b->status));
    return 1;
}

/* box:wait([seconds]) -> "exit N" | "signal N" | "ended"; nil: not yet */
static int l_wait(lua_State *L)
{
    struct box *b = check_box(L);
    double seconds = luaL_optnumber(L, 2, -1);
    struct err e = {0};
    if (b->exited)
        return waited(L, LUA_OK, (lua_KContext)b);
    task_check(L);
    if (!b->watch)
        b->watch = loop_watch(task_loop(L), b->child.pidfd, LOOP_READ,
                              on_exit_of_box, b, &e);
    if (!b->watch)
        return lutil_fail(L, &e);
    return task_suspend(L, &b->wait, seconds < 0 ? -1 : (long)(seconds * 1000),
                        (lua_KContext)b, waited);
}

/* box:close() gives up its descriptors, for what has been killed; a wait for it
 * ends. Twice is fine. */
static int l_close(lua_State *L)
{
    struct box *b = check_box(L);
    if (!b->exited)
        on_exit_of_box(b, 0);
    fd_close(&b->child.pidfd);
    netns_sockets_close(&b->net);
    return 0;
}

/* box:info() -> {pid=, start_time=, cgroup=, missing=, no_network=, no_disk=} ;
 * the last two say why, when there is none, or no limit of it */
static int l_info(lua_State *L)
{
    const struct box *b = check_box(L);
    lua_createtable(L, 0, 6);
    if (*b->no_disk) {
        lua_pushstring(L, b->no_disk);
        lua_setfield(L, -2, "no_disk");
    }
    if (b->net.errnum) {
        lua_pushstring(L, strerror(b->net.errnum));
        lua_setfield(L, -2, "no_network");
    }
    lua_pushstring(L, b->child.missing);
    lua_setfield(L, -2, "missing");
    lua_pushinteger(L, b->child.pid);
    lua_setfield(L, -2, "pid");
    lua_pushinteger(L, (lua_Integer)b->child.start_time);
    lua_setfield(L, -2, "start_time");
    lua_pushstring(L, b->child.cgroup);
    lua_setfield(L, -2, "cgroup");
    return 1;
}

/* box:usage() -> {cpu_ns=, memory_bytes=, memory_cache_bytes=, pids=,
 * oom_kills=} | nil, error */
static int l_usage(lua_State *L)
{
    struct cgroup_usage u = {0};
    struct err e = {0};
    if (cgroup_usage(check_box(L)->child.cgroup, &u, &e) < 0)
        return lutil_fail(L, &e);
    lua_createtable(L, 0, 5);
    lua_pushinteger(L, (lua_Integer)u.cpu_ns);
    lua_setfield(L, -2, "cpu_ns");
    lua_pushinteger(L, (lua_Integer)u.memory_bytes);
    lua_setfield(L, -2, "memory_bytes");
    lua_pushinteger(L, (lua_Integer)u.memory_cache_bytes);
    lua_setfield(L, -2, "memory_cache_bytes");
    lua_pushinteger(L, u.pids);
    lua_setfield(L, -2, "pids");
    lua_pushinteger(L, (lua_Integer)u.oom_kills);
    lua_setfield(L, -2, "oom_kills");
    return 1;
}

/* ---- killing (on a worker) ----------------------------------------------- */

struct killing {
    struct work w;
    struct launcher_child child;
};

static int kill_run(struct work *w, struct err *e)
{
    struct killing *k = (struct killing *)w;
    return launcher_kill(&k->child, KILL_MS, e);
}

static void kill_fini(struct work *w)
{
    fd_close(&((struct killing *)w)->child.pidfd);
}

static const struct work_class KILLING = {kill_run, work_push_true, kill_fini};

/* box:kill() -> true | nil, error; returns when nothing of it is left */
static int l_box_kill(lua_State *L)
{
    const struct box *b = check_box(L);
    struct killing *k = work_new(L, sizeof(*k), &KILLING);
    k->child = b->child;
    if (b->child.pidfd >= 0)
        k->child.pidfd = fcntl(b->child.pidfd, F_DUPFD_CLOEXEC, 3);
    return work_call(L, &k->w);
}

/* kill{pid=, start_time=, cgroup=} -> true | nil, error: a sandbox of an
 * earlier engine, by its identity */
static int l_kill(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    long long pid = lutil_opt_int(L, 1, "pid", 0);
    long long start = lutil_opt_int(L, 1, "start_time", 0);
    const char *cgroup = lutil_opt_str(L, 1, "cgroup", "");
    struct killing *k = work_new(L, sizeof(*k), &KILLING);
    k->child.pid = (pid_t)pid;
    k->child.pidfd = -1;
    k->child.start_time = (uint64_t)start;
    str_fmt(k->child.cgroup, sizeof(k->child.cgroup), "%s", cgroup);
    return work_call(L, &k->w);
}

/* ---- adoption ------------------------------------------------------------ */

static struct box *new_box(lua_State *L)
{
    struct box *b = lua_newuserdatauv(L, sizeof(*b), 0);
    memset(b, 0, sizeof(*b));
    b->child.pidfd = -1;
    netns_sockets_init(&b->net);
    luaL_setmetatable(L, BOX_CLASS);
    return b;
}

/* adopt{pid=, start_time=, cgroup=} -> box | nil, error (kind not_found: it has
 * ended): a running sandbox of an earlier engine, still without its network */
static int l_adopt(lua_State *L)
{
    struct err e = {0};
    luaL_checktype(L, 1, LUA_TTABLE);
    long long pid = lutil_opt_int(L, 1, "pid", 0);
    long long start = lutil_opt_int(L, 1, "start_time", 0);
    const char *cgroup = lutil_opt_str(L, 1, "cgroup", "");
    struct box *b = new_box(L);
    b->child.pid = (pid_t)pid;
    b->child.start_time = (uint64_t)start;
    str_fmt(b->child.cgroup, sizeof(b->child.cgroup), "%s", cgroup);
    return launcher_adopt(&b->child, &e) < 0 ? lutil_fail(L, &e) : 1;
}

struct fetch {
    struct work w;
    struct box *box; /* on the stack of the task that waits */
    char *run_dir, *name;
    int timeout_ms;
    struct netns_sockets net;
};

static int fetch_run(struct work *w, struct err *e)
{
    struct fetch *f = (struct fetch *)w;
    FD_AUTO int dir = open_dir(f->run_dir, e);
    if (dir < 0)
        return -1;
    return netns_sockets_fetch(dir, f->name, f->timeout_ms, &f->net, e);
}

static int fetch_push(lua_State *L, struct work *w)
{
    struct fetch *f = (struct fetch *)w;
    netns_sockets_close(&f->box->net);
    f->box->net = f->net;
    netns_sockets_init(&f->net);
    lua_pushboolean(L, 1);
    return 1;
}

static void fetch_fini(struct work *w)
{
    struct fetch *f = (struct fetch *)w;
    netns_sockets_close(&f->net);
    free(f->run_dir);
    free(f->name);
}

static const struct work_class FETCH = {fetch_run, fetch_push, fetch_fini};

/* box:fetch(run_dir, name, seconds) -> true | nil, error: takes the sockets of
 * its network from the envd that listens on run_dir/name */
static int l_fetch(lua_State *L)
{
    struct box *b = check_box(L);
    const char *dir = luaL_checkstring(L, 2);
    const char *name = luaL_checkstring(L, 3);
    double seconds = luaL_checknumber(L, 4);
    luaL_argcheck(L, seconds > 0 && seconds <= 60, 4, "0 to 60 seconds");
    struct fetch *f = work_new(L, sizeof(*f), &FETCH);
    netns_sockets_init(&f->net);
    f->box = b;
    f->timeout_ms = (int)(seconds * 1000);
    f->run_dir = mem_strdup(dir);
    f->name = mem_strdup(name);
    return work_call(L, &f->w);
}

/* ---- launch -------------------------------------------------------------- */

static int envd_gc(lua_State *L)
{
    fd_close(lua_touserdata(L, 1));
    return 0;
}

/* The program as a sealed memfd, made once; -1: e is filled. */
static int envd_fd(lua_State *L, struct err *e)
{
    static const char key = 0;
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) == LUA_TNIL) {
        int *fd = lua_newuserdatauv(L, sizeof(*fd), 0);
        *fd = -1;
        if (luaL_newmetatable(L, ENVD_CLASS)) {
            lua_pushcfunction(L, envd_gc);
            lua_setfield(L, -2, "__gc");
        }
        lua_setmetatable(L, -2);
        *fd = fd_memfd_sealed(
            "envd", _binary_envd_start,
            (uintptr_t)_binary_envd_end - (uintptr_t)_binary_envd_start, e);
        if (*fd >= 0) {
            lua_pushvalue(L, -1);
            lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
        }
    }
    int *fd = lua_touserdata(L, -1);
    return fd ? *fd : -1;
}

static int push_box(lua_State *L, struct work *w)
{
    struct launch *l = (struct launch *)w;
    struct box *b = new_box(L);
    b->child = l->child;
    b->net = l->net;
    memcpy(b->no_disk, l->no_disk, sizeof(b->no_disk));
    l->launched = false;
    return 1;
}

static const struct work_class LAUNCH = {launch_run, push_box, launch_fini};

static char *opt_copy(lua_State *L, const char *field, const char *dflt)
{
    return mem_strdup(lutil_opt_str(L, 1, field, dflt));
}

/* Raises for what is missing or of the wrong type; stores nothing. */
static lua_Integer check_launch(lua_State *L)
{
    static const char *const needed[] = {"id",     "cache", "dir", "run_dir",
                                         "cgroup", "log",   NULL};
    luaL_checktype(L, 1, LUA_TTABLE);
    for (int i = 0; needed[i]; i++)
        if (!lutil_opt_str(L, 1, needed[i], NULL))
            lutil_raise(L, "invalid_argument", "launch needs %s", needed[i]);
    lutil_opt_str(L, 1, "hosts", "");
    lutil_opt_str(L, 1, "resolv_conf", "");
    lutil_opt_str(L, 1, "disks", "");
    luaL_argcheck(L, lua_getfield(L, 1, "layers") == LUA_TTABLE, 1,
                  "layers must be an array of ids");
    lua_Integer n = luaL_len(L, -1);
    luaL_argcheck(L, n >= 1 && n <= LAUNCHER_MAX_LAYERS, 1,
                  "a sandbox has 1 to 120 layers");
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, -1, i);
        luaL_checkstring(L, -1);
        lua_pop(L, 1);
    }
    return n;
}

/* launch{id=, cache=, dir=, run_dir=, log=, layers={ids, base first}, cgroup=,
 * hosts=, resolv_conf=, cpu_count=, memory_bytes=, pids=, tmp_tmpfs=,
 * disk_bytes=, disks=}
 * -> box | nil, error. envd listens on run_dir/<id>.sock. */
static int l_launch(lua_State *L)
{
    struct err e = {0};
    lua_settop(L, 1);
    lua_Integer n = check_launch(L);
    struct cgroup_limits limits = {
        .cpu_count = (unsigned)lutil_opt_int(L, 1, "cpu_count", 0),
        .memory_bytes = (uint64_t)lutil_opt_int(L, 1, "memory_bytes", 0),
        .pids = (unsigned)lutil_opt_int(L, 1, "pids", 0),
    };
    bool tmp = lutil_opt_bool(L, 1, "tmp_tmpfs", 0);
    long long disk = lutil_opt_int(L, 1, "disk_bytes", 0);
    int envd = envd_fd(L, &e);
    if (envd < 0)
        return lutil_fail(L, &e);
    lua_settop(L, 2); /* options, layers */
    struct launch *l = work_new(L, sizeof(*l), &LAUNCH);
    l->envd = envd;
    l->limits = limits;
    l->tmp_tmpfs = tmp;
    l->disk_bytes = (uint64_t)disk;
    l->disks = opt_copy(L, "disks", "");
    l->id = opt_copy(L, "id", "");
    l->cache = opt_copy(L, "cache", "");
    l->dir = opt_copy(L, "dir", "");
    l->run_dir = opt_copy(L, "run_dir", "");
    l->log = opt_copy(L, "log", "");
    l->hosts = opt_copy(L, "hosts", "");
    l->resolv_conf = opt_copy(L, "resolv_conf", "");
    l->cgroup = opt_copy(L, "cgroup", "");
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, 2, i);
        l->layers[l->nlayers++] = mem_strdup(lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    return work_call(L, &l->w);
}

void engine_box_open(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", box_gc}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"wait", l_wait},   {"info", l_info},
                                       {"usage", l_usage}, {"kill", l_box_kill},
                                       {"fetch", l_fetch}, {"close", l_close},
                                       {NULL, NULL}};
    lutil_class(L, BOX_CLASS, meta, methods);
    lua_pushcfunction(L, l_launch);
    lua_setfield(L, -2, "launch");
    lua_pushcfunction(L, l_adopt);
    lua_setfield(L, -2, "adopt");
    lua_pushcfunction(L, l_kill);
    lua_setfield(L, -2, "kill");
}
