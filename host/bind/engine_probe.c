/* For e2blua doctor: trials of what sandboxes need of this machine. */
#include "engine.h"
#include "lutil.h"
#include "sandbox/cacerts.h"
#include "sandbox/cgroup.h"
#include "sandbox/disk.h"
#include "sandbox/probe.h"

#include <lauxlib.h>
#include <string.h>

/* probe_userns() -> true | nil, error */
static int l_userns(lua_State *L)
{
    struct err e = {0};
    return lutil_answer(L, probe_userns(&e), &e);
}

/* probe_idmap(dir) -> true | nil, error */
static int l_idmap(lua_State *L)
{
    struct err e = {0};
    return lutil_answer(L, probe_idmap(lutil_check_text(L, 1), &e), &e);
}

/* probe_nf_tables() -> true | nil, error */
static int l_nf_tables(lua_State *L)
{
    struct err e = {0};
    return lutil_answer(L, probe_nf_tables(&e), &e);
}

/* probe_rootless() -> {grade=, why=, failed= text | nil} | nil, error */
static int l_rootless(lua_State *L)
{
    struct err e = {0};
    struct probe_rootless found;
    if (probe_rootless(&found, &e) < 0)
        return lutil_fail(L, &e);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, engine_grade(found.grade));
    lua_setfield(L, -2, "grade");
    lua_pushstring(L, found.why);
    lua_setfield(L, -2, "why");
    if (*found.failed) {
        lua_pushstring(L, found.failed);
        lua_setfield(L, -2, "failed");
    }
    return 1;
}

/* probe_fs_type(dir) -> name | nil, error */
static int l_fs_type(lua_State *L)
{
    struct err e = {0};
    char name[32];
    if (probe_fs_type(lutil_check_text(L, 1), name, sizeof(name), &e) < 0)
        return lutil_fail(L, &e);
    lua_pushstring(L, name);
    return 1;
}

/* probe_space(dir) -> free bytes | nil, error */
static int l_space(lua_State *L)
{
    struct err e = {0};
    uint64_t bytes = 0;
    if (probe_space(lutil_check_text(L, 1), &bytes, &e) < 0)
        return lutil_fail(L, &e);
    lua_pushinteger(L, (lua_Integer)bytes);
    return 1;
}

/* limits() -> {cpu=, memory=, swap=, pids=, freeze= (booleans), version=,
 * where=, why=, remedy=} | nil, error */
static int l_limits(lua_State *L)
{
    struct err e = {0};
    struct cgroup_offer o = {0};
    if (cgroup_offer(&o, &e) < 0)
        return lutil_fail(L, &e);
    const struct {
        const char *name;
        bool has;
    } kinds[] = {{"cpu", o.cpu},
                 {"memory", o.memory},
                 {"swap", o.swap},
                 {"pids", o.pids},
                 {"freeze", o.freeze}};
    lua_createtable(L, 0, 9);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        lua_pushboolean(L, kinds[i].has);
        lua_setfield(L, -2, kinds[i].name);
    }
    lua_pushinteger(L, o.version);
    lua_setfield(L, -2, "version");
    lua_pushstring(L, o.where);
    lua_setfield(L, -2, "where");
    if (*o.why) {
        lua_pushstring(L, o.why);
        lua_setfield(L, -2, "why");
        lua_pushstring(L, o.remedy);
        lua_setfield(L, -2, "remedy");
    }
    return 1;
}

/* disk_kind(bytes [, memory_bytes]) -> "image" | "memory" | nil, error: how a
 * disk of that size would be limited */
static int l_disk_kind(lua_State *L)
{
    struct err e = {0};
    char why[192];
    struct disk_facts f = {.bytes = (uint64_t)luaL_checkinteger(L, 1),
                           .memory_bytes = (uint64_t)luaL_optinteger(L, 2, 0)};
    disk_look(&f);
    enum disk_kind kind = disk_choose(&f, why, sizeof(why));
    if (kind == DISK_NONE) {
        err_set(&e, "unsupported", "%s", why);
        return lutil_fail(L, &e);
    }
    lua_pushstring(L, kind == DISK_LOOP ? "image" : "memory");
    return 1;
}

/* extra_cas() -> how many certificate authorities this machine trusts beyond
 * the distribution's | nil, error */
static int l_cas(lua_State *L)
{
    struct err e = {0};
    struct buf *pem = lutil_buf(L);
    lua_Integer n = 0;
    if (cacerts_extra(&cacerts_system, pem, &e) < 0)
        return lutil_fail(L, &e);
    const char *p = pem->len ? pem->data : NULL;
    for (; p && (p = strstr(p, "-----BEGIN CERTIFICATE")); p++)
        n++;
    lua_pushinteger(L, n);
    return 1;
}

void engine_probe_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"probe_userns", l_userns},
                                         {"probe_idmap", l_idmap},
                                         {"probe_nf_tables", l_nf_tables},
                                         {"probe_rootless", l_rootless},
                                         {"probe_fs_type", l_fs_type},
                                         {"probe_space", l_space},
                                         {"limits", l_limits},
                                         {"disk_kind", l_disk_kind},
                                         {"extra_cas", l_cas},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
