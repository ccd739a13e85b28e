/* Layers and trees for Lua: layer_have, layer_meta, layer_seal, remove_tree. */
#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"
#include "engine.h"
#include "ljob.h"
#include "lutil.h"
#include "sandbox/layers.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <stdlib.h>

/* layer_meta(cache, id) -> JSON text | nil when there is no such layer */
static int l_meta(lua_State *L)
{
    const char *cache = luaL_checkstring(L, 1);
    const char *id = luaL_checkstring(L, 2);
    struct err e = {0};
    struct buf json = {0};
    int fd = -1;
    if (layers_open(cache, &fd, &e) < 0)
        return lutil_fail(L, &e);
    if (!layers_have(fd, id) || layers_meta(fd, id, &json, &e) < 0) {
        buf_fini(&json);
        fd_close(&fd);
        lua_pushnil(L);
        return 1;
    }
    fd_close(&fd);
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    luaL_addlstring(&out, json.data, json.len);
    buf_fini(&json);
    luaL_pushresult(&out);
    return 1;
}

static int finished(lua_State *L, int status, lua_KContext ctx)
{
    const struct ljob *j = (const struct ljob *)ctx;
    (void)status;
    if (j->rc < 0)
        return lutil_fail(L, &j->e);
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- sealing ------------------------------------------------------------- */

struct sealing {
    struct ljob j;
    char *cache, *parent, *upper, *id, *meta;
};

static void seal_run(struct ljob *j)
{
    const struct sealing *s = (const struct sealing *)j;
    int cache = -1, parent = -1;
    j->rc = layers_open(s->cache, &cache, &j->e);
    if (j->rc == 0) {
        parent = open(s->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        j->rc = parent < 0
                    ? err_errno(&j->e, NULL, "cannot open %s", s->parent)
                    : layers_seal(cache, parent, s->upper, s->id, s->meta,
                                  &j->e);
    }
    fd_close(&parent);
    fd_close(&cache);
}

static void seal_release(struct ljob *j)
{
    struct sealing *s = (struct sealing *)j;
    free(s->cache);
    free(s->parent);
    free(s->upper);
    free(s->id);
    free(s->meta);
}

/* layer_seal(cache, folder, upper, id, meta JSON) -> true | nil, error: the
 * tree folder/upper becomes the layer id */
static int l_seal(lua_State *L)
{
    const char *arg[5];
    for (int i = 0; i < 5; i++)
        arg[i] = luaL_checkstring(L, i + 1);
    struct sealing *s =
        (struct sealing *)ljob_new(L, sizeof(*s), seal_run, seal_release);
    s->cache = mem_strdup(arg[0]);
    s->parent = mem_strdup(arg[1]);
    s->upper = mem_strdup(arg[2]);
    s->id = mem_strdup(arg[3]);
    s->meta = mem_strdup(arg[4]);
    return ljob_start(L, &s->j, finished);
}

/* ---- removing ------------------------------------------------------------ */

struct removal {
    struct ljob j;
    char *parent, *name;
};

static void remove_run(struct ljob *j)
{
    const struct removal *r = (const struct removal *)j;
    int dir = open(r->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    j->rc = dir < 0 ? err_errno(&j->e, NULL, "cannot open %s", r->parent)
                    : path_remove_tree(dir, r->name, &j->e);
    fd_close(&dir);
}

static void remove_release(struct ljob *j)
{
    struct removal *r = (struct removal *)j;
    free(r->parent);
    free(r->name);
}

/* remove_tree(folder, name) -> true | nil, error */
static int l_remove(lua_State *L)
{
    const char *parent = luaL_checkstring(L, 1);
    const char *name = luaL_checkstring(L, 2);
    struct removal *r =
        (struct removal *)ljob_new(L, sizeof(*r), remove_run, remove_release);
    r->parent = mem_strdup(parent);
    r->name = mem_strdup(name);
    return ljob_start(L, &r->j, finished);
}

void engine_layers_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"layer_meta", l_meta},
                                         {"layer_seal", l_seal},
                                         {"remove_tree", l_remove},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
