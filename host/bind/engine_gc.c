/* Keeping the store of layers small and whole, for Lua: lease(), gc(),
 * layer_aside(), layer_was_damaged(), layer_verify(), layers_sync(),
 * lease_forget(). */
#include "base/fd.h"
#include "base/mem.h"
#include "engine.h"
#include "lutil.h"
#include "sandbox/layers.h"
#include "sandbox/layers_gc.h"
#include "sandbox/leases.h"
#include "work.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define LEASE_CLASS "e2b.lease"

enum { ITEMS_MAX = 256 };

/* ---- leases (taken on a worker) ------------------------------------------ */

struct leasing {
    struct work w;
    char *cache, *name; /* name NULL: more for fd */
    int fd;             /* of the new one; a copy of the old one */
    char *items[ITEMS_MAX];
    int n;
};

static int lease_run(struct work *w, struct err *e)
{
    struct leasing *l = (struct leasing *)w;
    FD_AUTO int cache = -1;
    const char *const *items = (const char *const *)l->items;
    if (layers_open(l->cache, &cache, e) < 0)
        return -1;
    if (!l->name && leases_add(cache, l->fd, items, l->n, e) < 0)
        return -1;
    if (l->name && (l->fd = leases_take(cache, l->name, items, l->n, e)) < 0)
        return -1;
    for (int i = 0; i < l->n; i++)
        layers_touch(cache, l->items[i]);
    return 0;
}

static void lease_fini(struct work *w)
{
    struct leasing *l = (struct leasing *)w;
    for (int i = 0; i < l->n; i++)
        free(l->items[i]);
    fd_close(&l->fd);
    free(l->cache);
    free(l->name);
}

static int push_lease(lua_State *L, struct work *w)
{
    struct leasing *l = (struct leasing *)w;
    int *fd = lua_newuserdatauv(L, sizeof(*fd), 0);
    *fd = -1;
    luaL_setmetatable(L, LEASE_CLASS);
    *fd = fd_take(&l->fd);
    return 1;
}

static const struct work_class TAKING = {lease_run, push_lease, lease_fini};
static const struct work_class ADDING = {lease_run, work_push_true, lease_fini};

/* Raises unless idx is an array of so many strings at most. */
static lua_Integer check_items(lua_State *L, int idx)
{
    luaL_checktype(L, idx, LUA_TTABLE);
    lua_Integer n = luaL_len(L, idx);
    luaL_argcheck(L, n <= ITEMS_MAX, idx, "too many items");
    for (lua_Integer i = 1; i <= n; i++) {
        luaL_argcheck(L, lua_geti(L, idx, i) == LUA_TSTRING, idx,
                      "an array of strings expected");
        lua_pop(L, 1);
    }
    return n;
}

static void take_items(lua_State *L, int idx, struct leasing *l, lua_Integer n)
{
    for (lua_Integer i = 1; i <= n; i++) {
        lua_geti(L, idx, i);
        l->items[l->n++] = mem_strdup(lua_tostring(L, -1));
        lua_pop(L, 1);
    }
}

/* lease(cache, name, {items}) -> lease | nil, error; it ends when it is closed
 * or collected */
static int l_lease(lua_State *L)
{
    const char *cache = luaL_checkstring(L, 1);
    const char *name = luaL_checkstring(L, 2);
    lua_Integer n = check_items(L, 3);
    struct leasing *l = work_new(L, sizeof(*l), &TAKING);
    l->fd = -1;
    l->cache = mem_strdup(cache);
    l->name = mem_strdup(name);
    take_items(L, 3, l, n);
    return work_call(L, &l->w);
}

/* lease:add(cache, {items}) -> true | nil, error */
static int l_add(lua_State *L)
{
    const int *fd = luaL_checkudata(L, 1, LEASE_CLASS);
    const char *cache = luaL_checkstring(L, 2);
    lua_Integer n = check_items(L, 3);
    if (*fd < 0)
        return luaL_error(L, "the lease is closed");
    struct leasing *l = work_new(L, sizeof(*l), &ADDING);
    l->cache = mem_strdup(cache);
    l->fd = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
    take_items(L, 3, l, n);
    return work_call(L, &l->w);
}

static int lease_gc(lua_State *L)
{
    fd_close(luaL_checkudata(L, 1, LEASE_CLASS));
    return 0;
}

/* lease_forget(cache, name): its file goes, when it has ended */
static int l_forget(lua_State *L)
{
    const char *cache = luaL_checkstring(L, 1);
    const char *name = luaL_checkstring(L, 2);
    int fd = open(cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        leases_forget(fd, name);
    fd_close(&fd);
    return 0;
}

/* ---- collection ---------------------------------------------------------- */

struct collection {
    struct work w;
    char *cache, *keep;
    struct layers_gc_spec spec;
    struct layers_gc_report report;
};

static int gc_run(struct work *w, struct err *e)
{
    struct collection *c = (struct collection *)w;
    FD_AUTO int cache = -1;
    if (layers_open(c->cache, &cache, e) < 0)
        return -1;
    return layers_gc(cache, &c->spec, &c->report, e);
}

static void gc_fini(struct work *w)
{
    struct collection *c = (struct collection *)w;
    layers_gc_fini(&c->report);
    free(c->cache);
    free(c->keep);
}

static void set_number(lua_State *L, const char *name, uint64_t n)
{
    lua_pushinteger(L, (lua_Integer)n);
    lua_setfield(L, -2, name);
}

static void set_text(lua_State *L, const char *name, const struct buf *b)
{
    lua_pushlstring(L, b->data ? b->data : "", b->len);
    lua_setfield(L, -2, name);
}

static int push_report(lua_State *L, struct work *w)
{
    const struct layers_gc_report *r = &((struct collection *)w)->report;
    lua_newtable(L);
    set_number(L, "layers", r->layers);
    set_number(L, "bytes", r->bytes);
    set_number(L, "gone", r->gone);
    set_number(L, "gone_bytes", r->gone_bytes);
    set_number(L, "leased_bytes", r->leased_bytes);
    set_number(L, "template_bytes", r->template_bytes);
    set_number(L, "aside", r->aside);
    set_number(L, "aside_bytes", r->aside_bytes);
    set_number(L, "tmp", r->tmp);
    set_number(L, "checked", r->checked);
    set_number(L, "unchecked", r->unchecked);
    set_text(L, "removed", &r->removed);
    set_text(L, "damaged", &r->damaged);
    return 1;
}

static const struct work_class COLLECTION = {gc_run, push_report, gc_fini};

/* gc(cache, {max = bytes, dry_run =, verify =, keep = layer id}) -> report of
 * layers_gc.h | nil, error; no max: no limit */
static int l_gc(lua_State *L)
{
    const char *cache = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    long long max = lutil_opt_int(L, 2, "max", -1);
    bool dry = lutil_opt_bool(L, 2, "dry_run", 0);
    bool verify = lutil_opt_bool(L, 2, "verify", 0);
    const char *keep = lutil_opt_str(L, 2, "keep", NULL);
    struct collection *c = work_new(L, sizeof(*c), &COLLECTION);
    c->cache = mem_strdup(cache);
    c->keep = keep ? mem_strdup(keep) : NULL;
    c->spec.max = max < 0 ? UINT64_MAX : (uint64_t)max;
    c->spec.dry_run = dry;
    c->spec.verify = verify;
    c->spec.keep = c->keep;
    return work_call(L, &c->w);
}

/* ---- damage -------------------------------------------------------------- */

/* layer_aside(cache, id) -> its new name in the cache | nil, error */
static int l_aside(lua_State *L)
{
    const char *cache = luaL_checkstring(L, 1);
    const char *id = luaL_checkstring(L, 2);
    char name[LAYERS_ASIDE_NAME];
    struct err e = {0};
    int fd = -1;
    int failed =
        layers_open(cache, &fd, &e) < 0 || layers_aside(fd, id, name, &e) < 0;
    fd_close(&fd);
    if (failed)
        return lutil_fail(L, &e);
    lua_pushstring(L, name);
    return 1;
}

/* layer_was_damaged(cache, id) -> boolean: it has been set aside */
static int l_was_damaged(lua_State *L)
{
    const char *cache = luaL_checkstring(L, 1);
    const char *id = luaL_checkstring(L, 2);
    int fd = open(cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool was = fd >= 0 && layers_was_damaged(fd, id);
    fd_close(&fd);
    lua_pushboolean(L, was);
    return 1;
}

/* layer_verify(cache, id) -> true | nil, error: reads it all; without a digest
 * on record it counts as good */
static int verify_run(struct work *w, struct err *e)
{
    struct leasing *l = (struct leasing *)w;
    FD_AUTO int cache = -1;
    if (layers_open(l->cache, &cache, e) < 0)
        return -1;
    int result = layers_verify(cache, l->items[0], e);
    return result == 0 || result == 2 ? 0 : -1;
}

static int sync_run(struct work *w, struct err *e)
{
    struct leasing *l = (struct leasing *)w;
    FD_AUTO int cache = -1;
    if (layers_open(l->cache, &cache, e) < 0)
        return -1;
    return layers_sync(cache, (const char *const *)l->items, l->n, e);
}

static const struct work_class VERIFYING = {verify_run, work_push_true,
                                            lease_fini};
static const struct work_class SYNCING = {sync_run, work_push_true, lease_fini};

static int l_verify(lua_State *L)
{
    const char *cache = luaL_checkstring(L, 1);
    const char *id = luaL_checkstring(L, 2);
    struct leasing *l = work_new(L, sizeof(*l), &VERIFYING);
    l->fd = -1;
    l->cache = mem_strdup(cache);
    l->items[l->n++] = mem_strdup(id);
    return work_call(L, &l->w);
}

/* layers_sync(cache, {ids}) -> true | nil, error: they are on the disk */
static int l_sync(lua_State *L)
{
    const char *cache = luaL_checkstring(L, 1);
    lua_Integer n = check_items(L, 2);
    struct leasing *l = work_new(L, sizeof(*l), &SYNCING);
    l->fd = -1;
    l->cache = mem_strdup(cache);
    take_items(L, 2, l, n);
    return work_call(L, &l->w);
}

void engine_gc_open(lua_State *L)
{
    static const luaL_Reg meta[] = {
        {"__gc", lease_gc}, {"__close", lease_gc}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"add", l_add}, {"close", lease_gc}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"lease", l_lease},
                                         {"lease_forget", l_forget},
                                         {"gc", l_gc},
                                         {"layer_aside", l_aside},
                                         {"layer_was_damaged", l_was_damaged},
                                         {"layer_verify", l_verify},
                                         {"layers_sync", l_sync},
                                         {NULL, NULL}};
    lutil_class(L, LEASE_CLASS, meta, methods);
    luaL_setfuncs(L, functions, 0);
}
