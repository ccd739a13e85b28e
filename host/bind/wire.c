/* require "e2b_wire": the byte formats of the protocols: base64, percent and
 * UTF-8, Connect envelopes, server-sent events. */
#include "base/base64.h"
#include "base/str.h"
#include "base/utf8.h"
#include "lutil.h"
#include "net/core/connect.h"
#include "net/core/http1.h"
#include "net/core/sse.h"

#include <stdbool.h>
#include <string.h>

#define CONNECT_CLASS "e2b.connect_reader"
#define SSE_CLASS     "e2b.sse_reader"

enum { RANDOM_MAX = 1024 };

int luaopen_e2b_wire(lua_State *L);

static const char *check_bytes(lua_State *L, int idx, size_t *n)
{
    luaL_checktype(L, idx, LUA_TSTRING);
    return lua_tolstring(L, idx, n);
}

static int push_buf(lua_State *L, struct buf *b)
{
    lua_pushlstring(L, b->len ? b->data : "", b->len);
    buf_fini(b);
    return 1;
}

/* base64(bytes) -> text, standard alphabet, padded */
static int l_base64(lua_State *L)
{
    size_t n;
    const char *p = check_bytes(L, 1, &n);
    struct buf *b = lutil_buf(L);
    base64_encode(b, p, n);
    return push_buf(L, b);
}

/* unbase64(text) -> bytes | nil, err; both alphabets, padded or not */
static int l_unbase64(lua_State *L)
{
    size_t n;
    struct err e;
    const char *p = check_bytes(L, 1, &n);
    struct buf *b = lutil_buf(L);
    if (base64_decode(b, p, n) == 0)
        return push_buf(L, b);
    err_set(&e, "protocol", "not base64: %.40s%s", p, n > 40 ? "..." : "");
    return lutil_fail(L, &e);
}

/* escape(text) -> text; all but RFC 3986's unreserved as %XX */
static int l_escape(lua_State *L)
{
    size_t n;
    const char *p = check_bytes(L, 1, &n);
    struct buf *b = lutil_buf(L);
    http1_escape(b, p, n);
    return push_buf(L, b);
}

/* unescape(text [, plus]) -> text | nil, err; plus: '+' is a space */
static int l_unescape(lua_State *L)
{
    size_t n;
    struct err e;
    const char *p = check_bytes(L, 1, &n);
    bool plus = lua_toboolean(L, 2);
    struct buf *b = lutil_buf(L);
    if (http1_unescape(b, p, n, plus) == 0)
        return push_buf(L, b);
    err_set(&e, "protocol", "a %% without two hex digits: %.40s%s", p,
            n > 40 ? "..." : "");
    return lutil_fail(L, &e);
}

/* utf8(bytes) -> text; what is not UTF-8 becomes U+FFFD */
static int l_utf8(lua_State *L)
{
    size_t n;
    const char *p = check_bytes(L, 1, &n);
    if (utf8_valid(p, n)) {
        lua_settop(L, 1);
        return 1;
    }
    struct buf *b = lutil_buf(L);
    utf8_repair(b, p, n);
    return push_buf(L, b);
}

/* random(n) -> 2n hex digits made of n random bytes */
static int l_random(lua_State *L)
{
    unsigned char bytes[RANDOM_MAX];
    char text[2 * RANDOM_MAX + 1];
    lua_Integer n = luaL_checkinteger(L, 1);
    if (n < 1 || n > RANDOM_MAX)
        lutil_raise(L, "invalid_argument",
                    "%s random bytes were asked for; ask for 1 to %d",
                    luaL_tolstring(L, 1, NULL), RANDOM_MAX);
    str_random(bytes, (size_t)n);
    str_hex(text, bytes, (size_t)n);
    lua_pushlstring(L, text, 2 * (size_t)n);
    return 1;
}

/* ---- Connect ------------------------------------------------------------- */

/* connect(flags, payload) -> the envelope's bytes; flags: 1 compressed, 2 end
 */
static int l_connect(lua_State *L)
{
    size_t n;
    lua_Integer flags = luaL_checkinteger(L, 1);
    const char *p = check_bytes(L, 2, &n);
    if (flags < 0 || flags > (CONNECT_COMPRESSED | CONNECT_END))
        lutil_raise(L, "invalid_argument",
                    "%s is no set of Connect flags; use 0 to 3",
                    luaL_tolstring(L, 1, NULL));
    if (n > CONNECT_MAX)
        lutil_raise(L, "invalid_argument",
                    "a Connect message holds at most %d bytes; send several",
                    (int)CONNECT_MAX);
    struct buf *b = lutil_buf(L);
    connect_put(b, (unsigned)flags, p, n);
    return push_buf(L, b);
}

static size_t check_max(lua_State *L, int idx)
{
    lua_Integer max = luaL_optinteger(L, idx, CONNECT_MAX);
    if (max < 1 || max > CONNECT_MAX)
        lutil_raise(L, "invalid_argument",
                    "a limit of %s bytes; use 1 to %d (64 MiB)",
                    luaL_tolstring(L, idx, NULL), (int)CONNECT_MAX);
    return (size_t)max;
}

static int connect_gc(lua_State *L)
{
    connect_reader_fini(lua_touserdata(L, 1));
    return 0;
}

/* connect_reader([max = 64 MiB]) -> reader of envelopes */
static int l_connect_reader(lua_State *L)
{
    size_t max = check_max(L, 1);
    struct connect_reader *r = lua_newuserdatauv(L, sizeof(*r), 0);
    connect_reader_init(r, max);
    luaL_setmetatable(L, CONNECT_CLASS);
    return 1;
}

/* reader:feed(bytes) -> reader */
static int l_connect_feed(lua_State *L)
{
    size_t n;
    struct connect_reader *r = luaL_checkudata(L, 1, CONNECT_CLASS);
    const char *p = check_bytes(L, 2, &n);
    connect_reader_feed(r, p, n);
    lua_settop(L, 1);
    return 1;
}

/* reader:next() -> flags, payload | nil (needs more) | nil, err */
static int l_connect_next(lua_State *L)
{
    unsigned flags;
    const char *p;
    size_t n;
    struct err e;
    struct connect_reader *r = luaL_checkudata(L, 1, CONNECT_CLASS);
    int got = connect_reader_next(r, &flags, &p, &n, &e);
    if (got < 0)
        return lutil_fail(L, &e);
    if (got == 0) {
        luaL_pushfail(L);
        return 1;
    }
    lua_pushinteger(L, (lua_Integer)flags);
    lua_pushlstring(L, p, n);
    return 2;
}

/* ---- server-sent events -------------------------------------------------- */

/* Events wait in out as (size of name, name, size of data, data) until the
 * parser has returned: no Lua inside its callback. */
struct sse_reader {
    struct sse sse;
    struct buf out;
    struct err e;
    bool failed;
};

static void put_sized(struct buf *b, const char *p, size_t n)
{
    buf_append(b, &n, sizeof(n));
    buf_append(b, p, n);
}

static void on_event(void *arg, const char *event, const char *data, size_t n)
{
    struct sse_reader *r = arg;
    put_sized(&r->out, event, strlen(event));
    put_sized(&r->out, data, n);
}

static int sse_gc(lua_State *L)
{
    struct sse_reader *r = lua_touserdata(L, 1);
    sse_fini(&r->sse);
    buf_fini(&r->out);
    return 0;
}

/* sse_reader([max = 64 MiB of one event]) -> reader of event streams */
static int l_sse_reader(lua_State *L)
{
    size_t max = check_max(L, 1);
    struct sse_reader *r = lua_newuserdatauv(L, sizeof(*r), 0);
    memset(r, 0, sizeof(*r));
    sse_init(&r->sse, max);
    luaL_setmetatable(L, SSE_CLASS);
    return 1;
}

static size_t push_sized(lua_State *L, const struct buf *b, size_t at)
{
    size_t n;
    memcpy(&n, b->data + at, sizeof(n));
    lua_pushlstring(L, b->data + at + sizeof(n), n);
    return at + sizeof(n) + n;
}

static int push_events(lua_State *L, struct buf *b)
{
    size_t at = 0;
    lua_newtable(L);
    for (lua_Integer i = 1; at < b->len; i++) {
        lua_createtable(L, 0, 2);
        at = push_sized(L, b, at);
        lua_setfield(L, -2, "event");
        at = push_sized(L, b, at);
        lua_setfield(L, -2, "data");
        lua_rawseti(L, -2, i);
    }
    buf_clear(b);
    return 1;
}

/* reader:feed(bytes) -> array of {event=, data=} | nil, err */
static int l_sse_feed(lua_State *L)
{
    size_t n;
    struct sse_reader *r = luaL_checkudata(L, 1, SSE_CLASS);
    const char *p = check_bytes(L, 2, &n);
    buf_clear(&r->out); /* an error may have left some */
    if (!r->failed)
        r->failed = sse_feed(&r->sse, p, n, on_event, r, &r->e) < 0;
    return r->failed ? lutil_fail(L, &r->e) : push_events(L, &r->out);
}

int luaopen_e2b_wire(lua_State *L)
{
    static const luaL_Reg connect_meta[] = {{"__gc", connect_gc}, {NULL, NULL}};
    static const luaL_Reg connect[] = {
        {"feed", l_connect_feed}, {"next", l_connect_next}, {NULL, NULL}};
    static const luaL_Reg sse_meta[] = {{"__gc", sse_gc}, {NULL, NULL}};
    static const luaL_Reg sse[] = {{"feed", l_sse_feed}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"base64", l_base64},
        {"unbase64", l_unbase64},
        {"escape", l_escape},
        {"unescape", l_unescape},
        {"utf8", l_utf8},
        {"random", l_random},
        {"connect", l_connect},
        {"connect_reader", l_connect_reader},
        {"sse_reader", l_sse_reader},
        {NULL, NULL},
    };
    lutil_class(L, CONNECT_CLASS, connect_meta, connect);
    lutil_class(L, SSE_CLASS, sse_meta, sse);
    luaL_newlib(L, functions);
    return 1;
}
