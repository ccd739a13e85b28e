/* Layers and trees for Lua: layer_meta, layer_seal, remove_tree. */
#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"
#include "engine.h"
#include "lutil.h"
#include "sandbox/layers.h"
#include "work.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <stdlib.h>

/* layer_meta(cache, id) -> JSON text, unsure | nil when there is no such layer
 * | nil, error (errno EUCLEAN: it is damaged); unsure: layer_verify it */
static int l_meta(lua_State *L)
{
    const char *cache = luaL_checkstring(L, 1);
    const char *id = luaL_checkstring(L, 2);
    struct err e = {0};
    struct buf json = {0};
    int fd = -1;
    if (layers_open(cache, &fd, &e) < 0)
        return lutil_fail(L, &e);
    if (!layers_have(fd, id) || !layers_ours(fd, id)) {
        fd_close(&fd);
        lua_pushnil(L);
        return 1;
    }
    int bad = layers_meta(fd, id, &json, &e);
    if (bad == 0)
        bad = layers_check(fd, id, &json, &e);
    fd_close(&fd);
    if (bad < 0) {
        buf_fini(&json);
        return lutil_fail(L, &e);
    }
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    luaL_addlstring(&out, json.data, json.len);
    buf_fini(&json);
    luaL_pushresult(&out);
    lua_pushboolean(L, bad > 0);
    return 2;
}

/* ---- sealing ------------------------------------------------------------- */

struct sealing {
    struct work w;
    char *cache, *parent, *upper, *id, *meta;
};

static int seal_run(struct work *w, struct err *e)
{
    const struct sealing *s = (const struct sealing *)w;
    FD_AUTO int cache = -1;
    if (layers_open(s->cache, &cache, e) < 0)
        return -1;
    FD_AUTO int parent = open(s->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return err_errno(e, NULL, "cannot open %s", s->parent);
    return layers_seal(cache, parent, s->upper, s->id, s->meta, e);
}

static void seal_fini(struct work *w)
{
    struct sealing *s = (struct sealing *)w;
    free(s->cache);
    free(s->parent);
    free(s->upper);
    free(s->id);
    free(s->meta);
}

static const struct work_class SEALING = {seal_run, work_push_true, seal_fini};

/* layer_seal(cache, folder, upper, id, meta JSON) -> true | nil, error: the
 * tree folder/upper becomes the layer id */
static int l_seal(lua_State *L)
{
    const char *arg[5];
    for (int i = 0; i < 5; i++)
        arg[i] = luaL_checkstring(L, i + 1);
    struct sealing *s = work_new(L, sizeof(*s), &SEALING);
    s->cache = mem_strdup(arg[0]);
    s->parent = mem_strdup(arg[1]);
    s->upper = mem_strdup(arg[2]);
    s->id = mem_strdup(arg[3]);
    s->meta = mem_strdup(arg[4]);
    return work_call(L, &s->w);
}

/* ---- removing ------------------------------------------------------------ */

struct removal {
    struct work w;
    char *parent, *name;
};

static int remove_run(struct work *w, struct err *e)
{
    const struct removal *r = (const struct removal *)w;
    FD_AUTO int dir = open(r->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return err_errno(e, NULL, "cannot open %s", r->parent);
    return path_remove_tree(dir, r->name, e);
}

static void remove_fini(struct work *w)
{
    struct removal *r = (struct removal *)w;
    free(r->parent);
    free(r->name);
}

static const struct work_class REMOVAL = {remove_run, work_push_true,
                                          remove_fini};

/* remove_tree(folder, name) -> true | nil, error */
static int l_remove(lua_State *L)
{
    const char *parent = luaL_checkstring(L, 1);
    const char *name = luaL_checkstring(L, 2);
    struct removal *r = work_new(L, sizeof(*r), &REMOVAL);
    r->parent = mem_strdup(parent);
    r->name = mem_strdup(name);
    return work_call(L, &r->w);
}

void engine_layers_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"layer_meta", l_meta},
                                         {"layer_seal", l_seal},
                                         {"remove_tree", l_remove},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
