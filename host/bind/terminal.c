/* The Lua module e2b_terminal: the terminal of the program, and its standard
 * input read without holding up other tasks. */
#include "base/fd.h"
#include "base/tty.h"
#include "lutil.h"
#include "task.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define RAW_CLASS    "e2b.terminal.raw"
#define INPUT_CLASS  "e2b.terminal.input"
#define RESIZE_CLASS "e2b.terminal.resize"

/* ---- raw mode ------------------------------------------------------------ */

/* mode:restore(), also when the variable is closed or collected */
static int l_restore(lua_State *L)
{
    tty_restore(luaL_checkudata(L, 1, RAW_CLASS));
    return 0;
}

/* raw([fd = 0]) -> mode | nil, error */
static int l_raw(lua_State *L)
{
    int fd = (int)luaL_optinteger(L, 1, 0);
    struct err e = {0};
    struct tty_raw *t = lua_newuserdatauv(L, sizeof(*t), 0);
    memset(t, 0, sizeof(*t));
    luaL_setmetatable(L, RAW_CLASS);
    if (tty_raw(t, fd, &e) < 0)
        return lutil_fail(L, &e);
    return 1;
}

/* size([fd = 1]) -> columns, rows | nil: not a terminal */
static int l_size(lua_State *L)
{
    int cols = 0, rows = 0;
    if (tty_size((int)luaL_optinteger(L, 1, 1), &cols, &rows) < 0) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, cols);
    lua_pushinteger(L, rows);
    return 2;
}

/* ---- input --------------------------------------------------------------- */

/* The descriptor is watched through an epoll of its own: watched directly it
 * would become nonblocking, and with it the shell's, which shares it. */
struct input {
    struct task_wait w;
    int fd, ep;
    struct loop_watch *watch;
    bool over;
};

static void input_ready(void *arg, unsigned events)
{
    struct input *in = arg;
    (void)events;
    loop_watch_set(in->watch, 0);
    task_wake(&in->w);
}

static int watch_input(lua_State *L, struct input *in, struct err *e)
{
    struct epoll_event ev = {.events = EPOLLIN};
    if (in->watch)
        return 0;
    if (in->ep < 0)
        in->ep = epoll_create1(EPOLL_CLOEXEC);
    if (in->ep < 0 ||
        (epoll_ctl(in->ep, EPOLL_CTL_ADD, in->fd, &ev) < 0 && errno != EEXIST))
        return err_errno(e, NULL, "cannot watch descriptor %d", in->fd);
    in->watch = loop_watch(task_loop(L), in->ep, 0, input_ready, in, e);
    return in->watch ? 0 : -1;
}

static int input_close(lua_State *L)
{
    struct input *in = luaL_checkudata(L, 1, INPUT_CLASS);
    in->over = true;
    task_forget(&in->w);
    loop_watch_stop(in->watch);
    in->watch = NULL;
    fd_close(&in->ep);
    return 0;
}

static int l_input_read(lua_State *L);

static int input_woken(lua_State *L, int status, lua_KContext ctx)
{
    (void)status, (void)ctx;
    return l_input_read(L);
}

/* input:read() -> bytes, as many as there are; nil at the end | nil, error */
static int l_input_read(lua_State *L)
{
    struct input *in = luaL_checkudata(L, 1, INPUT_CLASS);
    char piece[65536];
    struct err e = {0};
    lua_settop(L, 1);
    task_check(L);
    while (!in->over && tty_readable(in->fd)) {
        ssize_t n = read(in->fd, piece, sizeof(piece));
        if (n > 0) {
            lua_pushlstring(L, piece, (size_t)n);
            return 1;
        }
        /* a terminal whose other end has gone says EIO */
        in->over = n == 0 || errno == EIO;
        if (n < 0 && errno != EINTR && errno != EAGAIN && !in->over) {
            err_errno(&e, NULL, "read descriptor %d", in->fd);
            return lutil_fail(L, &e);
        }
    }
    if (in->over) {
        lua_pushnil(L);
        return 1;
    }
    if (watch_input(L, in, &e) < 0)
        return lutil_fail(L, &e);
    loop_watch_set(in->watch, LOOP_READ);
    return task_suspend(L, &in->w, -1, 0, input_woken);
}

/* input([fd = 0]) -> input. The descriptor is not closed with it. */
static int l_input(lua_State *L)
{
    int fd = (int)luaL_optinteger(L, 1, 0);
    struct input *in = lua_newuserdatauv(L, sizeof(*in), 0);
    memset(in, 0, sizeof(*in));
    in->fd = fd;
    in->ep = -1;
    luaL_setmetatable(L, INPUT_CLASS);
    return 1;
}

/* ---- changes of the size ------------------------------------------------- */

struct resize {
    struct task_wait w;
    struct loop_signal *sig;
    bool pending;
};

static void resized(void *arg)
{
    struct resize *r = arg;
    r->pending = true;
    task_wake(&r->w);
}

static int resize_close(lua_State *L)
{
    struct resize *r = luaL_checkudata(L, 1, RESIZE_CLASS);
    task_forget(&r->w);
    loop_signal_stop(r->sig);
    r->sig = NULL;
    return 0;
}

static int resize_woken(lua_State *L, int status, lua_KContext ctx)
{
    struct resize *r = luaL_checkudata(L, 1, RESIZE_CLASS);
    (void)status, (void)ctx;
    r->pending = false;
    return 0;
}

/* resizes:wait() returns when the window's size has changed */
static int l_resize_wait(lua_State *L)
{
    struct resize *r = luaL_checkudata(L, 1, RESIZE_CLASS);
    luaL_argcheck(L, r->sig, 1, "it is closed");
    lua_settop(L, 1);
    task_check(L);
    if (r->pending)
        return resize_woken(L, 0, 0);
    return task_suspend(L, &r->w, -1, 0, resize_woken);
}

/* resizes() -> resizes | nil, error: hears of SIGWINCH until it is closed */
static int l_resizes(lua_State *L)
{
    struct err e = {0};
    struct resize *r = lua_newuserdatauv(L, sizeof(*r), 0);
    memset(r, 0, sizeof(*r));
    luaL_setmetatable(L, RESIZE_CLASS);
    r->sig = loop_signal(task_loop(L), SIGWINCH, resized, r, &e);
    return r->sig ? 1 : lutil_fail(L, &e);
}

int luaopen_e2b_terminal(lua_State *L);
int luaopen_e2b_terminal(lua_State *L)
{
    static const luaL_Reg raw_meta[] = {
        {"__gc", l_restore}, {"__close", l_restore}, {NULL, NULL}};
    static const luaL_Reg raw[] = {{"restore", l_restore}, {NULL, NULL}};
    static const luaL_Reg input_meta[] = {
        {"__gc", input_close}, {"__close", input_close}, {NULL, NULL}};
    static const luaL_Reg input[] = {
        {"read", l_input_read}, {"close", input_close}, {NULL, NULL}};
    static const luaL_Reg resize_meta[] = {
        {"__gc", resize_close}, {"__close", resize_close}, {NULL, NULL}};
    static const luaL_Reg resize[] = {
        {"wait", l_resize_wait}, {"close", resize_close}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"raw", l_raw},
                                         {"size", l_size},
                                         {"input", l_input},
                                         {"resizes", l_resizes},
                                         {NULL, NULL}};
    lutil_class(L, RAW_CLASS, raw_meta, raw);
    lutil_class(L, INPUT_CLASS, input_meta, input);
    lutil_class(L, RESIZE_CLASS, resize_meta, resize);
    luaL_newlib(L, functions);
    return 1;
}
