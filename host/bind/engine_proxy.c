/* The data plane for Lua: proxy(run_dir) -> p; p:filter() goes to
 * e2b_httpd.listen. */
#include "base/fd.h"
#include "engine.h"
#include "httpd_filter.h"
#include "lutil.h"
#include "net/server/proxy.h"
#include "task.h"

#include <fcntl.h>
#include <lauxlib.h>

#define PROXY_CLASS "e2b.proxy"

struct lproxy {
    struct proxy *proxy;
    int run_dir;
    struct httpd_filter filter;
};

static int proxy_gc(lua_State *L)
{
    struct lproxy *p = luaL_checkudata(L, 1, PROXY_CLASS);
    proxy_free(p->proxy);
    p->proxy = NULL;
    fd_close(&p->run_dir);
    return 0;
}

static struct lproxy *check_proxy(lua_State *L)
{
    struct lproxy *p = luaL_checkudata(L, 1, PROXY_CLASS);
    if (!p->proxy)
        luaL_error(L, "the proxy is closed");
    return p;
}

static bool take(void *arg, struct httpd_req *r)
{
    struct lproxy *p = arg;
    return p->proxy && proxy_take(p->proxy, r);
}

/* proxy(run_dir) -> p | nil, error */
static int l_proxy(lua_State *L)
{
    struct err e = {0};
    const char *dir = luaL_checkstring(L, 1);
    struct lproxy *p = lua_newuserdatauv(L, sizeof(*p), 0);
    *p = (struct lproxy){NULL, -1, {take, p}};
    luaL_setmetatable(L, PROXY_CLASS);
    p->run_dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (p->run_dir < 0) {
        err_errno(&e, NULL, "cannot open %s", dir);
        return lutil_fail(L, &e);
    }
    p->proxy = proxy_new(task_loop(L), p->run_dir);
    return 1;
}

/* p:filter() -> light userdata; p must outlive the server */
static int l_filter(lua_State *L)
{
    lua_pushlightuserdata(L, &check_proxy(L)->filter);
    return 1;
}

/* p:add{id=, socket=, access_token=, traffic_token=, mask_host=} */
static int l_add(lua_State *L)
{
    struct lproxy *p = check_proxy(L);
    luaL_checktype(L, 2, LUA_TTABLE);
    struct proxy_box b = {
        .id = lutil_opt_str(L, 2, "id", NULL),
        .socket = lutil_opt_str(L, 2, "socket", NULL),
        .access_token = lutil_opt_str(L, 2, "access_token", NULL),
        .traffic_token = lutil_opt_str(L, 2, "traffic_token", NULL),
        .mask_host = lutil_opt_str(L, 2, "mask_host", NULL),
    };
    luaL_argcheck(L, b.id && b.socket, 2, "id and socket are needed");
    proxy_add(p->proxy, &b);
    return 0;
}

/* p:remove(id [, starved]) resets the open connections; starved says how one
 * ran out of memory: "ran out of memory (it had 1024 MiB)" */
static int l_remove(lua_State *L)
{
    struct lproxy *p = check_proxy(L);
    const char *id = luaL_checkstring(L, 2);
    const char *starved = luaL_optstring(L, 3, NULL);
    if (starved)
        proxy_remove_starved(p->proxy, id, starved);
    else
        proxy_remove(p->proxy, id);
    return 0;
}

/* p:open() -> number of exchanges under way */
static int l_open(lua_State *L)
{
    lua_pushinteger(L, proxy_open(check_proxy(L)->proxy));
    return 1;
}

void engine_proxy_open(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", proxy_gc}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"filter", l_filter}, {"add", l_add},
                                       {"remove", l_remove}, {"open", l_open},
                                       {"close", proxy_gc},  {NULL, NULL}};
    lutil_class(L, PROXY_CLASS, meta, methods);
    lua_pushcfunction(L, l_proxy);
    lua_setfield(L, -2, "proxy");
}
