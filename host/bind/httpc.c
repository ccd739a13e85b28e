/* The Lua module e2b_httpc: HTTP requests that wait as tasks do. Thin: buffers,
 * deadlines and errors are net/client/httpc's. stdlib/e2b/http.lua is what
 * scripts use. */
#include "lutil.h"
#include "net/client/httpc.h"
#include "task.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define REQUEST_CLASS "e2b.httpc"
#define CLIENT_CLASS  "e2b.httpc_client"
/* Registry key of the client: one a Lua state, closed with it. */
static const char CLIENT = 0;
static const double MAX_SECONDS = 100.0 * 24 * 3600;

struct request {
    struct httpc_req *r; /* NULL: closed */
    struct task_wait reader, writer;
};

/* ---- the client ---------------------------------------------------------- */

static int client_gc(lua_State *L)
{
    struct httpc **c = lua_touserdata(L, 1);
    httpc_free(*c);
    *c = NULL;
    return 0;
}

static struct httpc *client_of(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &CLIENT);
    struct httpc **c = lua_touserdata(L, -1);
    lua_pop(L, 1); /* the registry keeps it */
    if (!*c) {
        struct err e;
        *c = httpc_new(task_loop(L), &e);
        if (!*c)
            lutil_raise(L, e.kind, "%s", e.msg);
    }
    return *c;
}

/* ---- requests ------------------------------------------------------------ */

static void on_wake(void *arg, unsigned what)
{
    struct request *x = arg;
    if (what & HTTPC_READ)
        task_wake(&x->reader);
    if (what & HTTPC_WRITE)
        task_wake(&x->writer);
}

static struct request *check_request(lua_State *L)
{
    struct request *x = luaL_checkudata(L, 1, REQUEST_CLASS);
    if (!x->r)
        lutil_raise(L, "invalid_argument",
                    "the request is closed; make a new one with open");
    return x;
}

/* x:close() */
static int x_close(lua_State *L)
{
    struct request *x = luaL_checkudata(L, 1, REQUEST_CLASS);
    httpc_close(x->r);
    x->r = NULL;
    task_wake(&x->reader);
    task_wake(&x->writer);
    return 0;
}

static int x_gc(lua_State *L)
{
    struct request *x = lua_touserdata(L, 1);
    httpc_close(x->r);
    x->r = NULL;
    task_forget(&x->reader);
    task_forget(&x->writer);
    return 0;
}

static int push_closed(lua_State *L)
{
    struct err e;
    err_set(&e, "cancelled", "the request was closed by another task");
    return lutil_fail(L, &e);
}

static int push_failure(lua_State *L, const struct request *x)
{
    const struct httpc_failure *f = httpc_failure(x->r);
    lutil_fail(L, &f->err);
    lua_pushboolean(L, f->retryable);
    lua_setfield(L, -2, "retryable");
    if (f->deadline) {
        lua_pushstring(L, f->deadline);
        lua_setfield(L, -2, "deadline");
    }
    return 2;
}

static void check_free(lua_State *L, const struct task_wait *w,
                       const char *what)
{
    if (w->task)
        lutil_raise(L, "invalid_argument",
                    "another task already %s this request", what);
}

/* Appends to the value of a header that came twice. */
static void push_headers(lua_State *L, const struct httpc_req *r)
{
    const char *name, *value;
    size_t pos = 0;
    lua_newtable(L);
    while ((name = httpc_next(r, &pos, &value))) {
        if (lua_getfield(L, -1, name) == LUA_TSTRING) {
            lua_pushfstring(L, "%s, %s", lua_tostring(L, -1), value);
            lua_remove(L, -2);
        } else {
            lua_pop(L, 1);
            lua_pushstring(L, value);
        }
        lua_setfield(L, -2, name);
    }
}

static int waited(lua_State *L, int status, lua_KContext ctx)
{
    struct request *x = lua_touserdata(L, 1);
    (void)status, (void)ctx;
    if (!x->r)
        return push_closed(L);
    if (httpc_has_head(x->r)) {
        lua_pushinteger(L, httpc_status(x->r));
        push_headers(L, x->r);
        return 2;
    }
    if (httpc_state(x->r) == HTTPC_FAILED)
        return push_failure(L, x);
    return task_suspend(L, &x->reader, -1, 0, waited);
}

/* x:wait() -> status, headers | nil, err */
static int x_wait(lua_State *L)
{
    check_free(L, &check_request(L)->reader, "reads");
    return waited(L, LUA_OK, 0);
}

static int has_read(lua_State *L, int status, lua_KContext ctx)
{
    struct request *x = lua_touserdata(L, 1);
    const char *p;
    (void)status, (void)ctx;
    if (!x->r)
        return push_closed(L);
    size_t n = httpc_peek(x->r, &p);
    if (n > 0) {
        lua_pushlstring(L, p, n);
        httpc_take(x->r, n);
        return 1;
    }
    switch (httpc_state(x->r)) {
    case HTTPC_FAILED:
        return push_failure(L, x);
    case HTTPC_ENDED:
        lua_pushnil(L);
        return 1;
    default:
        return task_suspend(L, &x->reader, -1, 0, has_read);
    }
}

/* x:read() -> chunk | nil at the end | nil, err */
static int x_read(lua_State *L)
{
    check_free(L, &check_request(L)->reader, "reads");
    return has_read(L, LUA_OK, 0);
}

static int saved(lua_State *L, int status, lua_KContext ctx)
{
    struct request *x = lua_touserdata(L, 1);
    luaL_Stream *s = lua_touserdata(L, 2);
    size_t n, total = (size_t)ctx;
    const char *p;
    struct err e;
    (void)status;
    if (!x->r)
        return push_closed(L);
    while ((n = httpc_peek(x->r, &p)) > 0) {
        if (!s->closef) {
            err_set(&e, "cancelled", "the file was closed by another task");
            return lutil_fail(L, &e);
        }
        if (fwrite(p, 1, n, s->f) < n) {
            err_errno(&e, NULL, "write the file");
            return lutil_fail(L, &e);
        }
        total += n;
        httpc_take(x->r, n);
    }
    if (httpc_state(x->r) == HTTPC_FAILED)
        return push_failure(L, x);
    if (httpc_state(x->r) != HTTPC_ENDED)
        return task_suspend(L, &x->reader, -1, (lua_KContext)total, saved);
    if (s->closef && fflush(s->f) != 0) {
        err_errno(&e, NULL, "write the file");
        return lutil_fail(L, &e);
    }
    lua_pushinteger(L, (lua_Integer)total);
    return 1;
}

/* x:save(file) -> bytes | nil, err; the rest of the body goes into the open
 * file, without a Lua string for each piece */
static int x_save(lua_State *L)
{
    struct request *x = check_request(L);
    luaL_Stream *s = luaL_checkudata(L, 2, LUA_FILEHANDLE);
    if (!s->closef)
        return lutil_raise(L, "invalid_argument", "the file is closed");
    lua_settop(L, 2);
    check_free(L, &x->reader, "reads");
    return saved(L, LUA_OK, 0);
}

/* ctx: how much has been taken so far */
static int written(lua_State *L, int status, lua_KContext ctx)
{
    struct request *x = lua_touserdata(L, 1);
    size_t n, at = (size_t)ctx;
    const char *p = lua_tolstring(L, 2, &n);
    (void)status;
    if (!x->r)
        return push_closed(L);
    if (httpc_state(x->r) != HTTPC_FAILED)
        at += httpc_write(x->r, p + at, n - at);
    if (httpc_state(x->r) == HTTPC_FAILED)
        return push_failure(L, x);
    if (at < n)
        return task_suspend(L, &x->writer, -1, (lua_KContext)at, written);
    lua_pushboolean(L, true);
    return 1;
}

static void check_writable(lua_State *L, struct request *x)
{
    check_free(L, &x->writer, "writes to");
    if (httpc_finished(x->r))
        lutil_raise(L, "invalid_argument",
                    "nothing more can be written: open without upload, or "
                    "after finish");
}

/* x:write(bytes) -> true | nil, err; waits for room. Dropped, true, once the
 * server has answered completely. */
static int x_write(lua_State *L)
{
    struct request *x = check_request(L);
    luaL_checktype(L, 2, LUA_TSTRING);
    lua_settop(L, 2);
    check_writable(L, x);
    int64_t left = httpc_left(x->r), n = (int64_t)lua_rawlen(L, 2);
    if (left >= 0 && n > left) {
        struct err e;
        err_set(&e, "invalid_argument",
                "%lld bytes are more than the %lld that are left of the "
                "upload's length",
                (long long)n, (long long)left);
        lutil_push_err(L, &e);
        return lua_error(L);
    }
    return written(L, LUA_OK, 0);
}

static int sent(lua_State *L, int status, lua_KContext ctx)
{
    struct request *x = lua_touserdata(L, 1);
    luaL_Stream *s = lua_touserdata(L, 2);
    size_t n = (size_t)ctx, got = n;
    struct err e;
    (void)status;
    if (!x->r)
        return push_closed(L);
    if (httpc_state(x->r) == HTTPC_FAILED)
        return push_failure(L, x);
    char *space = httpc_space(x->r, &n);
    if (space && n == 0)
        return task_suspend(L, &x->writer, -1, ctx, sent);
    if (!s->closef) {
        err_set(&e, "cancelled", "the file was closed by another task");
        return lutil_fail(L, &e);
    }
    if (space) {
        got = fread(space, 1, n, s->f);
        if (got == 0 && ferror(s->f)) {
            err_errno(&e, NULL, "read the file");
            return lutil_fail(L, &e);
        }
        httpc_filled(x->r, got);
    }
    if (httpc_state(x->r) == HTTPC_FAILED)
        return push_failure(L, x);
    lua_pushinteger(L, (lua_Integer)got);
    return 1;
}

/* x:send(file, max) -> bytes | nil, err; waits for room, then moves at most so
 * many from the open file into the upload, without a Lua string. 0: the file's
 * end. As with write, dropped once the server has answered completely. */
static int x_send(lua_State *L)
{
    struct request *x = check_request(L);
    luaL_Stream *s = luaL_checkudata(L, 2, LUA_FILEHANDLE);
    lua_Integer n = luaL_checkinteger(L, 3);
    lua_settop(L, 2);
    check_writable(L, x);
    int64_t left = httpc_left(x->r);
    if (!s->closef || n < 1 || (left >= 0 && n > left))
        return lutil_raise(L, "invalid_argument",
                           "send needs an open file and 1 to so many bytes as "
                           "are left of the upload's length");
    return sent(L, LUA_OK, (lua_KContext)n);
}

/* x:finish(): the upload is complete */
static int x_finish(lua_State *L)
{
    httpc_finish(check_request(L)->r);
    return 0;
}

/* ---- open ---------------------------------------------------------------- */

static void check_keys(lua_State *L)
{
    static const char *const known[] = {
        "method",       "url",    "headers",         "body",
        "upload",       "length", "timeout",         "connect_timeout",
        "idle_timeout", "unix",   "proxy",           "ca_file",
        "follow",       "large",  "accept_encoding", NULL};
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1)
                                                         : luaL_typename(L, -1);
        int i = 0;
        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i])
            lutil_raise(L, "invalid_argument",
                        "unknown option '%s' of an HTTP request", key);
    }
}

static long opt_ms(lua_State *L, const char *field, double dflt)
{
    if (lua_getfield(L, 1, field) != LUA_TNIL) {
        if (lua_type(L, -1) != LUA_TNUMBER)
            lutil_raise(L, "invalid_argument",
                        "%s must be a number of seconds, not %s", field,
                        luaL_typename(L, -1));
        dflt = lua_tonumber(L, -1);
        if (isnan(dflt) || dflt <= 0)
            lutil_raise(L, "invalid_argument",
                        "%s is %f; give seconds above 0, or nil for none",
                        field, dflt);
    }
    lua_pop(L, 1);
    return dflt > MAX_SECONDS ? 0 : (long)ceil(dflt * 1000);
}

static void read_options(lua_State *L, struct httpc_options *o)
{
    o->timeout_ms = opt_ms(L, "timeout", 0);
    o->connect_ms = opt_ms(L, "connect_timeout", 30);
    o->idle_ms = opt_ms(L, "idle_timeout", 0);
    o->unix_path = lutil_opt_str(L, 1, "unix", NULL);
    o->proxy = lutil_opt_str(L, 1, "proxy", NULL);
    o->ca_file = lutil_opt_str(L, 1, "ca_file", NULL);
    o->accept_encoding = lutil_opt_str(L, 1, "accept_encoding", NULL);
    o->follow = lutil_opt_bool(L, 1, "follow", 0);
    o->large = lutil_opt_bool(L, 1, "large", 0);
    o->upload = lutil_opt_bool(L, 1, "upload", 0);
    o->length = lutil_opt_int(L, 1, "length", -1);
    o->body = lutil_opt_str(L, 1, "body", NULL);
    lua_getfield(L, 1, "body");
    o->nbody = o->body ? lua_rawlen(L, -1) : 0;
    lua_pop(L, 1);
    if (o->length != -1 && (o->length < 0 || !o->upload))
        lutil_raise(L, "invalid_argument",
                    "length must be 0 or more, and only with upload=true");
}

/* Adds the name at -2 and the value at -1. */
static int add_header(lua_State *L, struct request *x, struct err *e)
{
    size_t nname, nvalue;
    if (lua_type(L, -2) != LUA_TSTRING || !lua_isstring(L, -1))
        lutil_raise(L, "invalid_argument",
                    "a header must be a name and a string, not %s and %s",
                    luaL_typename(L, -2), luaL_typename(L, -1));
    const char *name = lua_tolstring(L, -2, &nname);
    const char *value = lua_tolstring(L, -1, &nvalue);
    return httpc_header(x->r, name, nname, value, nvalue, e);
}

/* headers: {["Name"] = "v"} or {{"Name", "v"}, ...}; at the stack's top */
static int add_headers(lua_State *L, struct request *x, struct err *e)
{
    if (lua_isnil(L, -1))
        return 0;
    if (!lua_istable(L, -1))
        lutil_raise(L, "invalid_argument", "headers must be a table, not %s",
                    luaL_typename(L, -1));
    int t = lua_gettop(L), got = 0;
    lua_pushnil(L);
    while (got == 0 && lua_next(L, t)) {
        if (lua_istable(L, -1)) {
            lua_geti(L, -1, 1);
            lua_geti(L, -2, 2);
            got = add_header(L, x, e);
        } else {
            got = add_header(L, x, e);
        }
        lua_settop(L, t + 1); /* the key */
    }
    lua_settop(L, t);
    return got;
}

/* open{url=, method="GET", headers=, body= | upload=true [, length=],
 *      timeout=, connect_timeout=30, idle_timeout=, unix=, proxy=, ca_file=,
 *      follow=false, accept_encoding=, large=false} -> x | nil, err */
static int l_open(lua_State *L)
{
    struct httpc_options o = {0};
    struct err e;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    check_keys(L);
    read_options(L, &o);
    const char *method = lutil_opt_str(L, 1, "method", "GET");
    const char *url = lutil_opt_str(L, 1, "url", NULL);
    if (!url)
        return lutil_raise(L, "invalid_argument",
                           "an HTTP request needs a url");
    task_check(L);
    struct httpc *client = client_of(L);
    struct request *x = lua_newuserdatauv(L, sizeof(*x), 1);
    memset(x, 0, sizeof(*x));
    luaL_setmetatable(L, REQUEST_CLASS);
    o.wake = on_wake;
    o.arg = x;
    x->r = httpc_prepare(client, method, url, &e);
    if (!x->r)
        return lutil_fail(L, &e);
    lua_getfield(L, 1, "body"); /* curl sends from the string itself */
    lua_setiuservalue(L, 2, 1);
    lua_getfield(L, 1, "headers");
    if (add_headers(L, x, &e) < 0 || httpc_start(x->r, &o, &e) < 0) {
        httpc_close(x->r);
        x->r = NULL;
        return lutil_fail(L, &e);
    }
    lua_settop(L, 2);
    return 1;
}

/* active() -> number of requests that run; for tests of leaks */
static int l_active(lua_State *L)
{
    lua_pushinteger(L, httpc_active(client_of(L)));
    return 1;
}

/* forget() closes the kept connections, unless a request runs; for tests */
static int l_forget(lua_State *L)
{
    httpc_forget(client_of(L));
    return 0;
}

int luaopen_e2b_httpc(lua_State *L);

int luaopen_e2b_httpc(lua_State *L)
{
    static const luaL_Reg request_meta[] = {
        {"__gc", x_gc}, {"__close", x_close}, {NULL, NULL}};
    static const luaL_Reg request[] = {{"save", x_save},   {"send", x_send},
                                       {"write", x_write}, {"finish", x_finish},
                                       {"wait", x_wait},   {"read", x_read},
                                       {"close", x_close}, {NULL, NULL}};
    static const luaL_Reg client_meta[] = {{"__gc", client_gc}, {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg functions[] = {{"open", l_open},
                                         {"active", l_active},
                                         {"forget", l_forget},
                                         {NULL, NULL}};
    lutil_class(L, REQUEST_CLASS, request_meta, request);
    lutil_class(L, CLIENT_CLASS, client_meta, none);
    struct httpc **c = lua_newuserdatauv(L, sizeof(struct httpc *), 0);
    *c = NULL;
    luaL_setmetatable(L, CLIENT_CLASS);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &CLIENT);
    luaL_newlib(L, functions);
    return 1;
}
