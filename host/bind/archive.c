/* require "e2b_archive": file sets of COPY instructions, for
 * stdlib/e2b/template. All of it runs on workers. */
#include "base/mem.h"
#include "lutil.h"
#include "net/client/archive.h"
#include "net/client/unpack.h"
#include "work.h"

#include <stdlib.h>
#include <string.h>

int luaopen_e2b_archive(lua_State *L);

struct set_work {
    struct work work;
    struct archive_set set;
    char *text; /* sub or prefix */
    struct buf types;
    char hex[65];
    bool gzip;
    char *path;
    uint64_t size;
};

static void set_fini(struct work *w)
{
    struct set_work *s = (struct set_work *)w;
    archive_set_fini(&s->set);
    buf_fini(&s->types);
    free(s->text);
    free(s->path);
}

/* Arguments 1 (context) and 2 (array of paths) become new work. */
static struct set_work *new_set(lua_State *L, const struct work_class *class)
{
    const char *context = lutil_check_text(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_Integer n = luaL_len(L, 2);
    struct set_work *s = work_new(L, sizeof(*s), class);
    s->set.context = mem_strdup(context);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, 2, i);
        archive_set_add(&s->set, lutil_check_text(L, -1));
        lua_pop(L, 1);
    }
    return s;
}

static int list_run(struct work *w, struct err *e)
{
    struct set_work *s = (struct set_work *)w;
    return archive_set_list(&s->set, s->text, &s->types, e);
}

static int list_push(lua_State *L, struct work *w)
{
    const struct set_work *s = (const struct set_work *)w;
    lua_createtable(L, (int)s->set.n, 0);
    for (size_t i = 0; i < s->set.n; i++) {
        lua_pushstring(L, s->set.paths[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_pushlstring(L, s->types.data ? s->types.data : "", s->types.len);
    return 2;
}

/* list(context, sub) -> array of relative paths, types | nil, err; types has a
 * letter for each: d folder, f file, l link, o other; nothing there: {}, "" */
static int l_list(lua_State *L)
{
    static const struct work_class class = {list_run, list_push, set_fini};
    const char *context = lutil_check_text(L, 1);
    const char *sub = lutil_check_text(L, 2);
    struct set_work *s = work_new(L, sizeof(*s), &class);
    s->set.context = mem_strdup(context);
    s->text = mem_strdup(sub);
    return work_call(L, &s->work);
}

static int hash_run(struct work *w, struct err *e)
{
    struct set_work *s = (struct set_work *)w;
    return archive_set_hash(&s->set, s->text, s->hex, e);
}

static int hash_push(lua_State *L, struct work *w)
{
    lua_pushstring(L, ((const struct set_work *)w)->hex);
    return 1;
}

/* hash(context, paths, prefix [, follow]) -> 64 hex digits | nil, err */
static int l_hash(lua_State *L)
{
    static const struct work_class class = {hash_run, hash_push, set_fini};
    const char *prefix = lutil_check_text(L, 3);
    bool follow = lua_toboolean(L, 4);
    struct set_work *s = new_set(L, &class);
    s->text = mem_strdup(prefix);
    s->set.follow = follow;
    return work_call(L, &s->work);
}

static int pack_run(struct work *w, struct err *e)
{
    struct set_work *s = (struct set_work *)w;
    return archive_set_pack(&s->set, s->gzip, &s->path, &s->size, e);
}

static int pack_push(lua_State *L, struct work *w)
{
    const struct set_work *s = (const struct set_work *)w;
    lua_pushstring(L, s->path);
    lua_pushinteger(L, (lua_Integer)s->size);
    return 2;
}

/* pack(context, paths, gzip [, follow]) -> path of a new temporary file, size |
 * nil, err */
static int l_pack(lua_State *L)
{
    static const struct work_class class = {pack_run, pack_push, set_fini};
    bool gzip = lua_toboolean(L, 3), follow = lua_toboolean(L, 4);
    struct set_work *s = new_set(L, &class);
    s->gzip = gzip;
    s->set.follow = follow;
    return work_call(L, &s->work);
}

struct unpack_work {
    struct work work;
    char *path, *dir;
    uint64_t files;
};

static void unpack_fini(struct work *w)
{
    struct unpack_work *u = (struct unpack_work *)w;
    free(u->path);
    free(u->dir);
}

static int unpack_run(struct work *w, struct err *e)
{
    struct unpack_work *u = (struct unpack_work *)w;
    return unpack_tar(u->path, u->dir, &u->files, e);
}

static int unpack_push(lua_State *L, struct work *w)
{
    lua_pushinteger(L, (lua_Integer)((const struct unpack_work *)w)->files);
    return 1;
}

/* unpack(path, dir) -> count | nil, err; a tar, plain or with gzip */
static int l_unpack(lua_State *L)
{
    static const struct work_class class = {unpack_run, unpack_push,
                                            unpack_fini};
    const char *path = lutil_check_text(L, 1);
    const char *dir = lutil_check_text(L, 2);
    struct unpack_work *u = work_new(L, sizeof(*u), &class);
    u->path = mem_strdup(path);
    u->dir = mem_strdup(dir);
    return work_call(L, &u->work);
}

int luaopen_e2b_archive(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"list", l_list},     {"hash", l_hash}, {"pack", l_pack},
        {"unpack", l_unpack}, {NULL, NULL},
    };
    luaL_newlib(L, functions);
    return 1;
}
