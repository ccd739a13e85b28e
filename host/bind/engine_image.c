/* The making of the base image for Lua: image_make(cache) -> maker. */
#include "base/mem.h"
#include "base/str.h"
#include "engine.h"
#include "lutil.h"
#include "sandbox/image.h"
#include "sandbox/rootless.h"
#include "work.h"

#include <lauxlib.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* What the worker says and the loop reads, kept by both. */
struct progress {
    pthread_mutex_t lock;
    int refs;
    char stage[160];
    int percent;
    volatile int stop;
};

#define MAKER_CLASS "e2b.image"

struct making {
    struct work w;
    char *cache;
    char id[65];
    struct progress *p;
};

static void progress_drop(struct progress *p)
{
    pthread_mutex_lock(&p->lock);
    int left = --p->refs;
    pthread_mutex_unlock(&p->lock);
    if (left > 0)
        return;
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static void on_progress(void *arg, const char *stage, int percent)
{
    struct progress *p = arg;
    pthread_mutex_lock(&p->lock);
    str_fmt(p->stage, sizeof(p->stage), "%s", stage);
    p->percent = percent;
    pthread_mutex_unlock(&p->lock);
}

static int make_run(struct work *w, struct err *e)
{
    struct making *m = (struct making *)w;
    return image_base_make(m->cache, m->id, on_progress, m->p, &m->p->stop, e);
}

static void make_fini(struct work *w)
{
    struct making *m = (struct making *)w;
    progress_drop(m->p);
    free(m->cache);
}

static int push_id(lua_State *L, struct work *w)
{
    lua_pushstring(L, ((const struct making *)w)->id);
    return 1;
}

static const struct work_class MAKING = {make_run, push_id, make_fini};

static struct progress *check_maker(lua_State *L)
{
    struct progress **p = luaL_checkudata(L, 1, MAKER_CLASS);
    if (!*p)
        luaL_error(L, "the maker is closed");
    return *p;
}

/* maker:run(cache) -> layer id | nil, error; waits, minutes when the image is
 * missing */
static int l_run(lua_State *L)
{
    struct progress *p = check_maker(L);
    const char *cache = luaL_checkstring(L, 2);
    struct making *m = work_new(L, sizeof(*m), &MAKING);
    pthread_mutex_lock(&p->lock);
    p->refs++;
    pthread_mutex_unlock(&p->lock);
    m->p = p;
    m->cache = mem_strdup(cache);
    return work_call(L, &m->w);
}

/* maker:progress() -> stage, percent (-1: unknown) */
static int l_progress(lua_State *L)
{
    struct progress *p = check_maker(L);
    char stage[sizeof(p->stage)];
    pthread_mutex_lock(&p->lock);
    memcpy(stage, p->stage, sizeof(stage));
    int percent = p->percent;
    pthread_mutex_unlock(&p->lock);
    lua_pushstring(L, stage);
    lua_pushinteger(L, percent);
    return 2;
}

/* maker:stop() */
static int l_stop(lua_State *L)
{
    check_maker(L)->stop = 1;
    return 0;
}

static int maker_gc(lua_State *L)
{
    struct progress **p = luaL_checkudata(L, 1, MAKER_CLASS);
    if (*p) {
        (*p)->stop = 1;
        progress_drop(*p);
    }
    *p = NULL;
    return 0;
}

/* image_maker() -> maker */
static int l_maker(lua_State *L)
{
    struct progress **p = lua_newuserdatauv(L, sizeof(struct progress *), 0);
    *p = NULL;
    luaL_setmetatable(L, MAKER_CLASS);
    *p = mem_alloc(sizeof(**p));
    pthread_mutex_init(&(*p)->lock, NULL);
    (*p)->refs = 1;
    (*p)->percent = -1;
    return 1;
}

static bool one_id(lua_State *L, int idx)
{
    struct rootless_ids ids;
    rootless_ids(&ids);
    const char *grade = luaL_optstring(L, idx, engine_grade(ids.grade));
    return strcmp(grade, engine_grade(ROOTLESS_ONE)) == 0;
}

/* image_id([grade]) -> layer id that the base image has, made or not | nil,
 * error */
static int l_id(lua_State *L)
{
    char id[65];
    struct err e = {0};
    if (image_base_id(one_id(L, 1), id, &e) < 0)
        return lutil_fail(L, &e);
    lua_pushstring(L, id);
    return 1;
}

/* image_ready(cache [, grade]) -> layer id | nil; grade: of rootless_grade,
 * this process's by default */
static int l_ready(lua_State *L)
{
    char id[65];
    if (image_base_ready(luaL_checkstring(L, 1), one_id(L, 2), id))
        lua_pushstring(L, id);
    else
        lua_pushnil(L);
    return 1;
}

void engine_image_open(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", maker_gc}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"run", l_run},
                                       {"progress", l_progress},
                                       {"stop", l_stop},
                                       {NULL, NULL}};
    lutil_class(L, MAKER_CLASS, meta, methods);
    lua_pushcfunction(L, l_maker);
    lua_setfield(L, -2, "image_maker");
    lua_pushcfunction(L, l_ready);
    lua_setfield(L, -2, "image_ready");
    lua_pushcfunction(L, l_id);
    lua_setfield(L, -2, "image_id");
}
