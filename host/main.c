/* The program: options, the Lua state, one protected call, one place that
 * prints a fatal error. */
#include "base/buf.h"
#include "base/log.h"
#include "find.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_SCRIPT = 1, EXIT_USAGE = 2, EXIT_BUG = 70 };

int luaopen_cjson(lua_State *L);
int luaopen_lpeg(lua_State *L);

static const char help[] =
    "usage: e2blua [options] FILE [ARGS]\n"
    "       e2blua [options] -e CODE [ARGS]\n"
    "       e2blua [options] - [ARGS]        (the script comes from stdin)\n"
    "\n"
    "FILE is looked for as given, then in scripts/ of the current project,\n"
    "then among the scripts that the program carries.\n"
    "\n"
    "  -e CODE    run CODE\n"
    "  -v         log to stderr what happens; tracebacks\n"
    "  --help     this text\n"
    "  --version  name and version\n"
    "\n"
    "Exit codes: 0 fine, 1 the script failed, 2 usage, 70 our own bug.\n";

struct options {
    const char *code; /* -e */
    int verbose;
    int script; /* index in argv of FILE or "-", 0: none */
};

/* The running state for the signal handler; the only writable global. */
static struct {
    lua_State *L;
    volatile sig_atomic_t signal;
} interrupted;

static void stop_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    luaL_error(L, "interrupted");
}

/* The second signal finds the default action. */
static void on_signal(int sig)
{
    signal(sig, SIG_DFL);
    interrupted.signal = sig;
    lua_sethook(interrupted.L, stop_hook,
                LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

static int usage(const char *what, const char *arg)
{
    static const char *const known[] = {"-e",     "-v",        "-",
                                        "--help", "--version", NULL};
    const char *near = arg ? find_nearest(arg, known) : NULL;
    fprintf(stderr, "e2blua: %s%s%s", what, arg ? " " : "", arg ? arg : "");
    if (near)
        fprintf(stderr, "; did you mean %s?", near);
    fprintf(stderr, "\nTry: e2blua --help\n");
    return EXIT_USAGE;
}

/* 0: go on; 1: answered, exit 0; else exit code + 1. */
static int parse(int argc, char **argv, struct options *o)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
            fputs(help, stdout);
            return 1;
        }
        if (strcmp(a, "--version") == 0) {
            puts("e2blua " E2B_VERSION " (" LUA_RELEASE ")");
            return 1;
        }
        if (strcmp(a, "-v") == 0) {
            o->verbose = 1;
        } else if (strcmp(a, "-e") == 0) {
            if (i + 1 >= argc)
                return usage("option -e needs a piece of code", NULL) + 1;
            o->code = argv[++i];
        } else {
            return usage("unknown option", a) + 1;
        }
    }
    if (!o->code && i >= argc)
        return usage("no script given", NULL) + 1;
    o->script = o->code ? i - 1 : i;
    return 0;
}

/* require "e2b.error" -> stdlib/e2b/error.lua, from the program itself or, for
 * development, from $E2BLUA_STDLIB. */
static int search_stdlib(lua_State *L)
{
    const char *name = luaL_gsub(L, luaL_checkstring(L, 1), ".", "/");
    const char *dir = getenv("E2BLUA_STDLIB");
    if (dir) {
        const char *path = lua_pushfstring(L, "%s/%s.lua", dir, name);
        if (access(path, R_OK) == 0) {
            if (luaL_loadfile(L, path) != LUA_OK)
                return lua_error(L);
            lua_pushstring(L, path);
            return 2;
        }
    }
    const char *path = lua_pushfstring(L, "stdlib/%s.lua", name);
    const struct embed_file *f = find_carried(path);
    if (!f) {
        lua_pushfstring(L, "no carried file '%s'", path);
        return 1;
    }
    const char *chunk = lua_pushfstring(L, "@%s", path);
    if (luaL_loadbuffer(L, (const char *)f->data, f->size, chunk) != LUA_OK)
        return lua_error(L);
    lua_pushstring(L, path);
    return 2;
}

/* os.exit(code) closes the state, so that <close> variables are closed. */
static int unwinding_exit(lua_State *L)
{
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_pushboolean(L, 1);
    lua_call(L, 2, 0);
    return 0;
}

static void open_libs(lua_State *L)
{
    luaL_openlibs(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_cjson);
    lua_setfield(L, -2, "cjson");
    lua_pushcfunction(L, luaopen_lpeg);
    lua_setfield(L, -2, "lpeg");
    lua_pop(L, 1);

    /* Behind preload, before the disk: a project cannot replace our code. */
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    for (lua_Integer i = luaL_len(L, -1); i >= 2; i--) {
        lua_geti(L, -1, i);
        lua_seti(L, -2, i + 1);
    }
    lua_pushcfunction(L, search_stdlib);
    lua_seti(L, -2, 2);
    lua_pop(L, 2);

    lua_getglobal(L, "os");
    lua_getfield(L, -1, "exit");
    lua_pushcclosure(L, unwinding_exit, 1);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 1);
}

static void set_arg(lua_State *L, int argc, char **argv, int script)
{
    lua_newtable(L);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - script);
    }
    lua_setglobal(L, "arg");
}

static int load_script(lua_State *L, const char *name)
{
    if (strcmp(name, "-") == 0)
        return luaL_loadfile(L, NULL);
    struct found f;
    struct buf looked = {0};
    if (find_script(name, &f, &looked) < 0) {
        fprintf(stderr, "e2blua: no script %s; looked for\n%s", name,
                looked.data);
        buf_fini(&looked);
        return -1;
    }
    buf_fini(&looked);
    if (!f.carried)
        return luaL_loadfile(L, f.path);
    const char *chunk = lua_pushfstring(L, "@%s", f.carried->name);
    int r = luaL_loadbuffer(L, (const char *)f.carried->data, f.carried->size,
                            chunk);
    lua_remove(L, -2);
    return r;
}

static int message(lua_State *L)
{
    bool verbose = lua_toboolean(L, lua_upvalueindex(1));
    const char *text = lua_tostring(L, 1);
    if (!text && luaL_callmeta(L, 1, "__tostring"))
        text = lua_tostring(L, -1);
    if (!text)
        text = lua_pushfstring(L, "the script failed with a %s as its error",
                               luaL_typename(L, 1));
    if (verbose)
        luaL_traceback(L, L, text, 1);
    else
        lua_pushstring(L, text);
    return 1;
}

static int run(lua_State *L, int argc, char **argv, const struct options *o)
{
    set_arg(L, argc, argv, o->script);
    int r = o->code ? luaL_loadbuffer(L, o->code, strlen(o->code), "=(-e)")
                    : load_script(L, argv[o->script]);
    if (r < 0)
        return EXIT_USAGE;
    if (r == LUA_OK) {
        int first = o->script + 1, n = argc > first ? argc - first : 0;
        lua_pushboolean(L, o->verbose);
        lua_pushcclosure(L, message, 1);
        lua_insert(L, 1);
        luaL_checkstack(L, n + 1, "too many arguments");
        for (int i = 0; i < n; i++)
            lua_pushstring(L, argv[first + i]);
        r = lua_pcall(L, n, 0, 1);
    }
    if (r != LUA_OK) {
        const char *text = lua_tostring(L, -1);
        fprintf(stderr, "e2blua: %s\n", text ? text : "unknown error");
        return EXIT_SCRIPT;
    }
    return 0;
}

struct call {
    int argc;
    char **argv;
    const struct options *options;
    int code;
};

static int protected_main(lua_State *L)
{
    struct call *c = lua_touserdata(L, 1);
    lua_settop(L, 0);
    open_libs(L);
    c->code = run(L, c->argc, c->argv, c->options);
    return 0;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    int r = parse(argc, argv, &o);
    if (r != 0)
        return r - 1;
    if (o.verbose)
        log_open(STDERR_FILENO, LOG_DEBUG);
    lua_State *L = luaL_newstate();
    if (!L) {
        fputs("e2blua: not enough memory\n", stderr);
        return EXIT_BUG;
    }
    interrupted.L = L;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    struct call c = {argc, argv, &o, EXIT_BUG};
    lua_pushcfunction(L, protected_main);
    lua_pushlightuserdata(L, &c);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK)
        fprintf(stderr, "e2blua: internal error: %s\n", lua_tostring(L, -1));
    lua_close(L);
    if (interrupted.signal) {
        signal(interrupted.signal, SIG_DFL);
        raise(interrupted.signal);
    }
    return c.code;
}
