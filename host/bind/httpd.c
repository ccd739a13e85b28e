/* The Lua module e2b_httpd: an HTTP/1.1 server whose handlers are tasks. */
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "httpd_filter.h"
#include "lutil.h"
#include "task.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define SERVER_CLASS  "e2b.httpd"
#define REQUEST_CLASS "e2b.httpd.request"

enum {
    BODY_HIGH = 256 * 1024,
    STALL_MS = 60 * 1000, /* a peer that takes or sends nothing that long */
};
static const lua_Integer BODY_MAX = 16 << 20;

struct server {
    struct httpd *httpd;
    struct loop *loop;
    lua_State *L; /* the main thread */
    const struct httpd_filter *filter;
    int handler; /* registry reference */
};

/* A request lives as long as Lua or the connection refers to it. */
struct request {
    struct httpd_req *r; /* NULL: answered or broken */
    int refs;
    bool ended;   /* the body has come whole */
    bool aborted; /* the peer has gone */
    bool begun, full;
    struct buf in;
    struct task_wait reader, writer;
};

static void request_drop(struct request *q)
{
    if (--q->refs > 0)
        return;
    buf_fini(&q->in);
    free(q);
}

static void on_body(void *arg, const char *p, size_t n)
{
    struct request *q = arg;
    if (n == 0)
        q->ended = true;
    else
        buf_append(&q->in, p, n);
    if (q->in.len >= BODY_HIGH)
        httpd_read(q->r, false);
    task_wake(&q->reader);
}

static void on_drain(void *arg)
{
    struct request *q = arg;
    q->full = false;
    task_wake(&q->writer);
}

static void on_abort(void *arg)
{
    struct request *q = arg;
    q->r = NULL;
    q->aborted = true;
    task_wake(&q->reader);
    task_wake(&q->writer);
    request_drop(q);
}

static void on_done(void *arg)
{
    struct request *q = arg;
    q->r = NULL;
    request_drop(q);
}

static const struct httpd_req_ops REQUEST_OPS = {on_body, on_drain, on_abort,
                                                 on_done};

/* ---- the request object -------------------------------------------------- */

static struct request *to_request(lua_State *L)
{
    return *(struct request **)luaL_checkudata(L, 1, REQUEST_CLASS);
}

static int request_gc(lua_State *L)
{
    struct request **slot = luaL_checkudata(L, 1, REQUEST_CLASS);
    struct request *q = *slot;
    if (!q)
        return 0;
    *slot = NULL;
    task_forget(&q->reader);
    task_forget(&q->writer);
    if (q->r) {
        httpd_reset(q->r); /* nobody is left to answer */
        q->r = NULL;
        q->refs--; /* the connection's */
    }
    request_drop(q);
    return 0;
}

static int fail_gone(lua_State *L)
{
    struct err e = {0};
    err_set(&e, "network", "the client has closed the connection");
    return lutil_fail(L, &e);
}

static int fail_stalled(lua_State *L, const char *what)
{
    struct err e = {0};
    err_set(&e, "timeout", "the client %s for %d s", what, STALL_MS / 1000);
    return lutil_fail(L, &e);
}

/* Waits for more of the body, then goes on with k. */
static int await_body(lua_State *L, struct request *q, lua_KFunction k)
{
    if (q->aborted || !q->r)
        return fail_gone(L);
    if (q->reader.timed_out)
        return fail_stalled(L, "sent nothing");
    httpd_read(q->r, true);
    return task_suspend(L, &q->reader, STALL_MS, (lua_KContext)q, k);
}

static int read_k(lua_State *L, int status, lua_KContext ctx)
{
    struct request *q = (struct request *)ctx;
    (void)status;
    if (q->in.len > 0) {
        lua_pushlstring(L, q->in.data, q->in.len);
        buf_clear(&q->in);
        if (q->r && !q->ended)
            httpd_read(q->r, true);
        return 1;
    }
    if (q->ended) {
        lua_pushnil(L);
        return 1;
    }
    return await_body(L, q, read_k);
}

/* req:read() -> piece of the body | nil at its end | nil, error */
static int l_read(lua_State *L)
{
    struct request *q = to_request(L);
    q->reader.timed_out = false;
    return read_k(L, LUA_OK, (lua_KContext)q);
}

static int body_k(lua_State *L, int status, lua_KContext ctx)
{
    struct request *q = (struct request *)ctx;
    lua_Integer max = lua_tointeger(L, 2);
    struct err e = {0};
    (void)status;
    if (q->in.len > (size_t)max) {
        err_set(&e, "invalid_argument", "the request body is over %lld bytes",
                (long long)max);
        return lutil_fail(L, &e);
    }
    if (q->ended) {
        lua_pushlstring(L, q->in.len ? q->in.data : "", q->in.len);
        buf_clear(&q->in);
        return 1;
    }
    return await_body(L, q, body_k);
}

/* req:body([max]) -> string | nil, error */
static int l_body(lua_State *L)
{
    struct request *q = to_request(L);
    lua_Integer max = luaL_optinteger(L, 2, BODY_MAX);
    lua_settop(L, 1);
    lua_pushinteger(L, max);
    q->reader.timed_out = false;
    return body_k(L, LUA_OK, (lua_KContext)q);
}

/* req:query(name) -> decoded value | nil */
static int l_query(lua_State *L)
{
    const char *name = luaL_checkstring(L, 2);
    luaL_checkudata(L, 1, REQUEST_CLASS);
    lua_getfield(L, 1, "target");
    luaL_Buffer out;
    struct buf b = {0};
    int found = http1_query(lua_tostring(L, -1), name, &b);
    if (found <= 0) {
        buf_fini(&b);
        lua_pushnil(L);
        return 1;
    }
    /* The copy may raise for want of memory only; then b is lost. */
    luaL_buffinit(L, &out);
    luaL_addlstring(&out, b.data ? b.data : "", b.len);
    buf_fini(&b);
    luaL_pushresult(&out);
    return 1;
}

/* Writes the headers of the table at idx; -1: one was refused. */
static int put_headers(lua_State *L, int idx, struct httpd_req *r)
{
    if (lua_isnoneornil(L, idx))
        return 0;
    luaL_checktype(L, idx, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        if (lua_type(L, -2) != LUA_TSTRING || !lua_isstring(L, -1))
            return luaL_argerror(L, idx, "header names and values are strings");
        lua_pushvalue(L, -1); /* keep numbers in the table as they are */
        if (httpd_header(r, lua_tostring(L, -3), lua_tostring(L, -1)) < 0)
            return luaL_argerror(L, idx, "a header holds a line break");
        lua_pop(L, 2);
    }
    return 0;
}

static struct request *check_unanswered(lua_State *L, bool begun)
{
    struct request *q = to_request(L);
    if (q->begun != begun)
        luaL_error(L, begun ? "the answer has not begun"
                            : "the answer has begun already");
    return q;
}

/* req:begin(status, headers|nil [, length]) -> true | nil, error */
static int l_begin(lua_State *L)
{
    struct request *q = check_unanswered(L, false);
    lua_Integer status = luaL_checkinteger(L, 2);
    lua_Integer length = luaL_optinteger(L, 4, -1);
    luaL_argcheck(L, status >= 200 && status <= 599, 2, "no HTTP status");
    if (!q->r)
        return fail_gone(L);
    httpd_begin(q->r, (int)status, length);
    q->begun = true;
    put_headers(L, 3, q->r);
    httpd_flush(q->r);
    lua_pushboolean(L, 1);
    return 1;
}

static int write_k(lua_State *L, int status, lua_KContext ctx)
{
    struct request *q = (struct request *)ctx;
    (void)status;
    if (!q->r)
        return fail_gone(L);
    if (q->full && q->writer.timed_out)
        return fail_stalled(L, "took nothing");
    if (q->full)
        return task_suspend(L, &q->writer, STALL_MS, ctx, write_k);
    lua_pushboolean(L, 1);
    return 1;
}

/* req:write(bytes) -> true | nil, error; waits for room */
static int l_write(lua_State *L)
{
    struct request *q = check_unanswered(L, true);
    size_t n;
    const char *p = luaL_checklstring(L, 2, &n);
    if (q->r && httpd_write(q->r, p, n) > STREAM_HIGH)
        q->full = true;
    q->writer.timed_out = false;
    return write_k(L, LUA_OK, (lua_KContext)q);
}

static void end_answer(struct request *q)
{
    struct httpd_req *r = q->r;
    q->r = NULL; /* on_done or on_abort drop the connection's reference */
    httpd_end(r);
}

/* req:finish() -> true | nil, error */
static int l_finish(lua_State *L)
{
    struct request *q = check_unanswered(L, true);
    if (!q->r)
        return fail_gone(L);
    end_answer(q);
    lua_pushboolean(L, 1);
    return 1;
}

/* req:reply(status [, headers [, body]]) -> true | nil, error */
static int l_reply(lua_State *L)
{
    struct request *q = check_unanswered(L, false);
    lua_Integer status = luaL_checkinteger(L, 2);
    size_t n;
    const char *p = luaL_optlstring(L, 4, "", &n);
    luaL_argcheck(L, status >= 200 && status <= 599, 2, "no HTTP status");
    if (!q->r)
        return fail_gone(L);
    httpd_begin(q->r, (int)status, (int64_t)n);
    q->begun = true;
    put_headers(L, 3, q->r);
    httpd_write(q->r, p, n);
    end_answer(q);
    lua_pushboolean(L, 1);
    return 1;
}

/* req:reset() breaks the connection */
static int l_reset(lua_State *L)
{
    struct request *q = to_request(L);
    if (q->r) {
        httpd_reset(q->r);
        q->r = NULL;
        q->aborted = true;
        request_drop(q);
    }
    return 0;
}

/* Fields beside the methods are kept in the user value. */
static int request_index(lua_State *L)
{
    luaL_getmetafield(L, 1, "methods");
    lua_pushvalue(L, 2);
    if (lua_rawget(L, -2) != LUA_TNIL)
        return 1;
    lua_getiuservalue(L, 1, 1);
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    return 1;
}

/* ---- dispatch ------------------------------------------------------------ */

static void push_headers(lua_State *L, const struct http1_head *h)
{
    lua_createtable(L, 0, h->nheaders);
    for (int i = 0; i < h->nheaders; i++) {
        char name[256];
        size_t n = strlen(h->headers[i].name);
        if (n >= sizeof(name))
            continue;
        for (size_t k = 0; k <= n; k++) {
            char c = h->headers[i].name[k];
            name[k] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        }
        if (lua_getfield(L, -1, name) == LUA_TNIL) {
            lua_pushstring(L, h->headers[i].value);
        } else {
            lua_pushfstring(L, "%s, %s", lua_tostring(L, -1),
                            h->headers[i].value);
        }
        lua_setfield(L, -3, name);
        lua_pop(L, 1);
    }
}

static void push_fields(lua_State *L, const struct httpd_req *r)
{
    const struct http1_head *h = httpd_head(r);
    lua_createtable(L, 0, 5);
    lua_pushstring(L, h->method);
    lua_setfield(L, -2, "method");
    lua_pushstring(L, h->target);
    lua_setfield(L, -2, "target");
    lua_pushlstring(L, h->target, strcspn(h->target, "?"));
    lua_setfield(L, -2, "path");
    lua_pushboolean(L, httpd_is_unix(r));
    lua_setfield(L, -2, "unix");
    push_headers(L, h);
    lua_setfield(L, -2, "headers");
}

/* The program ends: nobody's fault. */
static bool is_cancelled(lua_State *L)
{
    if (!lua_istable(L, -1))
        return false;
    lua_getfield(L, -1, "kind");
    const char *kind = lua_tostring(L, -1);
    bool yes = kind && strcmp(kind, "cancelled") == 0;
    lua_pop(L, 1);
    return yes;
}

static int handled(lua_State *L, int status, lua_KContext ctx)
{
    struct request *q = *(struct request **)lua_touserdata(L, 1);
    bool failed = status != LUA_OK && status != LUA_YIELD;
    (void)ctx;
    if (failed && !is_cancelled(L)) {
        log_line(LOG_ERROR, "httpd", "a handler failed: %s",
                 luaL_tolstring(L, -1, NULL));
        lua_pop(L, 1);
    }
    struct httpd_req *r = q->r;
    if (!r)
        return 0;
    if (q->begun) {
        l_reset(L); /* half an answer must not look whole */
        return 0;
    }
    q->begun = true;
    q->r = NULL;
    httpd_error(r, 500,
                failed ? "an internal error; the log has it"
                       : "the request was not answered");
    return 0;
}

/* request, handler: the body of a request's task */
static int handle(lua_State *L)
{
    lua_pushvalue(L, 1);
    return handled(L, lua_pcallk(L, 1, 0, 0, 0, handled), 0);
}

struct dispatch {
    struct server *s;
    struct httpd_req *r;
};

static int dispatch(lua_State *L)
{
    const struct dispatch *d = lua_touserdata(L, 1);
    lua_pushcfunction(L, handle);
    struct request **slot = lua_newuserdatauv(L, sizeof(struct request *), 1);
    *slot = NULL;
    luaL_setmetatable(L, REQUEST_CLASS);
    push_fields(L, d->r);
    lua_setiuservalue(L, -2, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, d->s->handler);
    struct request *q = mem_alloc(sizeof(*q));
    q->r = d->r;
    q->refs = 2;
    *slot = q;
    httpd_set(d->r, &REQUEST_OPS, q);
    task_spawn(L, 2);
    return 0;
}

static void on_request(void *arg, struct httpd_req *r)
{
    struct server *s = arg;
    if (s->filter && s->filter->take(s->filter->arg, r))
        return;
    struct dispatch d = {s, r};
    lua_pushcfunction(s->L, dispatch);
    lua_pushlightuserdata(s->L, &d);
    if (lutil_call(s->L, 1, 0) == 0)
        return;
    log_line(LOG_ERROR, "httpd", "%s", luaL_tolstring(s->L, -1, NULL));
    lua_pop(s->L, 2);
    httpd_error(r, 503, "the server is out of memory");
}

/* ---- the server object --------------------------------------------------- */

static int server_gc(lua_State *L)
{
    struct server *s = luaL_checkudata(L, 1, SERVER_CLASS);
    if (s->httpd)
        httpd_free(s->httpd);
    s->httpd = NULL;
    luaL_unref(L, LUA_REGISTRYINDEX, s->handler);
    s->handler = LUA_NOREF;
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, s);
    return 0;
}

static struct server *check_server(lua_State *L)
{
    struct server *s = luaL_checkudata(L, 1, SERVER_CLASS);
    if (!s->httpd)
        luaL_error(L, "the server is closed");
    return s;
}

/* Listens as the options at idx say; *port is the TCP port or 0. */
static int add(lua_State *L, int idx, struct server *s, int *port,
               struct err *e)
{
    const char *path = lutil_opt_str(L, idx, "unix", NULL);
    const char *host = lutil_opt_str(L, idx, "host", "127.0.0.1");
    long long want = lutil_opt_int(L, idx, "port", 0);
    int fd;
    *port = 0;
    if (want < 0 || want > 65535)
        lutil_raise(L, "invalid_argument", "port %d is not in 0..65535",
                    (int)want);
    if (path)
        fd = fd_unix_listen(AT_FDCWD, path, 0600, e);
    else
        fd = stream_bind_tcp(host, (int)want, port, e);
    if (fd < 0)
        return -1;
    if (httpd_listen(s->httpd, fd, e) < 0) {
        fd_close(&fd);
        return -1;
    }
    return 0;
}

/* srv:add{host=, port= | unix=} -> port (0 for unix) | nil, error */
static int l_add(lua_State *L)
{
    struct server *s = check_server(L);
    struct err e = {0};
    int port;
    luaL_checktype(L, 2, LUA_TTABLE);
    if (add(L, 2, s, &port, &e) < 0)
        return lutil_fail(L, &e);
    lua_pushinteger(L, port);
    return 1;
}

/* srv:close() resets what is open */
static int l_close(lua_State *L)
{
    return server_gc(L);
}

/* srv:drain() takes no new connections; open ones end after their answer */
static int l_drain(lua_State *L)
{
    httpd_close(check_server(L)->httpd, false);
    return 0;
}

/* srv:connections() -> integer */
static int l_connections(lua_State *L)
{
    lua_pushinteger(L, httpd_connections(check_server(L)->httpd));
    return 1;
}

static int server_index(lua_State *L)
{
    luaL_getmetafield(L, 1, "methods");
    lua_pushvalue(L, 2);
    if (lua_rawget(L, -2) != LUA_TNIL)
        return 1;
    lua_getiuservalue(L, 1, 1);
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    return 1;
}

static const struct httpd_ops SERVER_OPS = {NULL, on_request};

/* listen{host="127.0.0.1", port=0 | unix=path, handler=function(req),
 *        filter=light userdata} -> srv | nil, error; srv.port */
static int l_listen(lua_State *L)
{
    struct err e = {0};
    int port;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (lua_getfield(L, 1, "handler") != LUA_TFUNCTION)
        return lutil_raise(L, "invalid_argument",
                           "handler must be a function, not %s",
                           luaL_typename(L, -1));
    struct server *s = lua_newuserdatauv(L, sizeof(*s), 1);
    memset(s, 0, sizeof(*s));
    s->handler = LUA_NOREF;
    luaL_setmetatable(L, SERVER_CLASS);
    lua_pushvalue(L, 2);
    s->handler = luaL_ref(L, LUA_REGISTRYINDEX);
    if (lua_getfield(L, 1, "filter") == LUA_TLIGHTUSERDATA)
        s->filter = lua_touserdata(L, -1);
    lua_pop(L, 1);
    s->L = task_main(L);
    s->loop = task_loop(L);
    s->httpd = httpd_new(s->loop, &SERVER_OPS, s);
    if (add(L, 1, s, &port, &e) < 0)
        return lutil_fail(L, &e);
    lua_createtable(L, 0, 1);
    lua_pushinteger(L, port);
    lua_setfield(L, -2, "port");
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, s); /* it lives until it is closed */
    return 1;
}

/* A class whose fields beside the methods stand in user value 1. */
static void make_class(lua_State *L, const char *name, const luaL_Reg *meta,
                       const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, meta, 0);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "methods");
    lua_pop(L, 1);
}

int luaopen_e2b_httpd(lua_State *L);
int luaopen_e2b_httpd(lua_State *L)
{
    static const luaL_Reg server_meta[] = {{"__gc", server_gc},
                                           {"__close", server_gc},
                                           {"__index", server_index},
                                           {NULL, NULL}};
    static const luaL_Reg server[] = {{"add", l_add},
                                      {"drain", l_drain},
                                      {"close", l_close},
                                      {"connections", l_connections},
                                      {NULL, NULL}};
    static const luaL_Reg request_meta[] = {
        {"__gc", request_gc}, {"__index", request_index}, {NULL, NULL}};
    static const luaL_Reg request[] = {
        {"read", l_read},   {"body", l_body},   {"query", l_query},
        {"begin", l_begin}, {"write", l_write}, {"finish", l_finish},
        {"reply", l_reply}, {"reset", l_reset}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"listen", l_listen}, {NULL, NULL}};
    make_class(L, SERVER_CLASS, server_meta, server);
    make_class(L, REQUEST_CLASS, request_meta, request);
    luaL_newlib(L, functions);
    return 1;
}
