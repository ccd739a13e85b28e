/* The program: options, the Lua state, one protected call, one place that
 * prints a fatal error. */
#include "base/buf.h"
#include "base/log.h"
#include "base/str.h"
#include "bind/lutil.h"
#include "bind/task.h"
#include "find.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { EXIT_SCRIPT = 1, EXIT_USAGE = 2, EXIT_BUG = 70 };

int luaopen_cjson(lua_State *L);
int luaopen_e2b_httpd(lua_State *L);
int luaopen_e2b_process(lua_State *L);
int luaopen_lpeg(lua_State *L);
int luaopen_e2b_carried(lua_State *L);
int luaopen_e2b_fs(lua_State *L);
int luaopen_e2b_json(lua_State *L);
int luaopen_e2b_terminal(lua_State *L);
int luaopen_e2b_wire(lua_State *L);

static const char help[] =
    "usage: e2blua [options] FILE [ARGS]\n"
    "       e2blua [options] -e CODE [ARGS]\n"
    "       e2blua [options] - [ARGS]        (the script comes from stdin)\n"
    "       e2blua VERB [ARGS]\n"
    "\n"
    "FILE is looked for as given, then in scripts/ of the current project,\n"
    "then among the scripts that the program carries.\n"
    "\n"
    "Verbs (e2blua VERB --help tells more):\n"
    "  create [TEMPLATE]         creates a sandbox and prints its id\n"
    "  list                      lists the sandboxes that run\n"
    "  kill ID...|--all          ends sandboxes\n"
    "  exec ID -- COMMAND...     runs a command in a sandbox\n"
    "  shell [ID]                opens a terminal in a sandbox\n"
    "  cp SOURCE TARGET          copies files; ID:PATH is in a sandbox\n"
    "  url ID PORT               prints the URL of a port of a sandbox\n"
    "  logs ID                   prints what a sandbox has noted\n"
    "  metrics ID                prints what a sandbox uses\n"
    "  template build|list|delete   makes and lists templates\n"
    "  engine status|stop|logs|gc  the engine of this machine and its cache\n"
    "  doctor                    says what this machine lacks\n"
    "  completion SHELL          prints the completions for a shell\n"
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

/* What the signal handler needs; the only writable global. */
static struct {
    struct sched *sched;
    volatile sig_atomic_t signal;
} interrupted;

/* The second signal finds the default action. */
static void on_signal(int sig)
{
    signal(sig, SIG_DFL);
    interrupted.signal = sig;
    /* Written for signal handlers, says task.h; the tool knows only POSIX's.
     * NOLINTNEXTLINE(bugprone-signal-handler) */
    task_interrupt(interrupted.sched);
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

/* Loads dir/name of $E2BLUA_STDLIB; pushes chunk and path, or nothing. */
static int load_developed(lua_State *L, const char *dir, const char *name)
{
    const char *path = lua_pushfstring(L, "%s/%s", dir, name);
    if (access(path, R_OK) != 0) {
        lua_pop(L, 1);
        return 0;
    }
    if (luaL_loadfile(L, path) != LUA_OK)
        return lua_error(L);
    lua_insert(L, -2);
    return 2;
}

static int load_embedded(lua_State *L, const char *name)
{
    const char *path = lua_pushfstring(L, "stdlib/%s", name);
    const struct embed_file *f = find_carried(path);
    if (!f) {
        lua_pop(L, 1);
        return 0;
    }
    const char *chunk = lua_pushfstring(L, "@%s", path);
    if (luaL_loadbuffer(L, (const char *)f->data, f->size, chunk) != LUA_OK)
        return lua_error(L);
    lua_pushvalue(L, -3);
    return 2;
}

/* require "e2b.error" -> stdlib/e2b/error.lua, require "e2b" ->
 * stdlib/e2b/init.lua, from the program itself or, for development, from
 * $E2BLUA_STDLIB. */
static int search_stdlib(lua_State *L)
{
    static const char *const forms[] = {"%s.lua", "%s/init.lua"};
    const char *name = luaL_gsub(L, luaL_checkstring(L, 1), ".", "/");
    const char *dir = getenv("E2BLUA_STDLIB");
    for (int i = 0; dir && i < 2; i++)
        if (load_developed(L, dir, lua_pushfstring(L, forms[i], name)))
            return 2;
    for (int i = 0; i < 2; i++)
        if (load_embedded(L, lua_pushfstring(L, forms[i], name)))
            return 2;
    lua_pushfstring(L, "no carried file 'stdlib/%s.lua'", name);
    return 1;
}

/* Our C modules lie beside the program, or where `make install` puts them. */
static void set_cpath(lua_State *L)
{
    char exe[4096], dir[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    exe[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = '\0';
    const char *mods = "/modules";
    if (str_fmt(dir, sizeof(dir), "%s%s", exe, mods) < 0 ||
        access(dir, X_OK) < 0)
        str_fmt(dir, sizeof(dir), "%s/../lib/e2blua", exe);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "cpath");
    lua_pushfstring(L, "%s/?.so;%s", dir, lua_tostring(L, -1));
    lua_setfield(L, -3, "cpath");
    lua_pop(L, 2);
}

static void open_libs(lua_State *L)
{
    static const luaL_Reg carried[] = {
        {"cjson", luaopen_cjson},
        {"lpeg", luaopen_lpeg},
        {"e2b_carried", luaopen_e2b_carried},
        {"e2b_fs", luaopen_e2b_fs},
        {"e2b_httpd", luaopen_e2b_httpd},
        {"e2b_json", luaopen_e2b_json},
        {"e2b_process", luaopen_e2b_process},
        {"e2b_terminal", luaopen_e2b_terminal},
        {"e2b_wire", luaopen_e2b_wire},
        {NULL, NULL},
    };
    luaL_openlibs(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    luaL_setfuncs(L, carried, 0);
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
    set_cpath(L);
}

struct call {
    int argc;
    char **argv;
    const struct options *options;
    struct loop *loop;
    int code;
};

static void set_arg(lua_State *L, int argc, char **argv, int script)
{
    lua_newtable(L);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - script);
    }
    lua_setglobal(L, "arg");
}

/* A word that is neither a path nor a file name is a verb of stdlib/cli. */
static const struct embed_file *find_verb(const char *word)
{
    char path[256];
    if (strchr(word, '/') || str_ends(word, ".lua") ||
        str_fmt(path, sizeof(path), "stdlib/cli/%s.lua", word) < 0)
        return NULL;
    return find_carried(path);
}

static int load_carried(lua_State *L, const struct embed_file *f)
{
    const char *chunk = lua_pushfstring(L, "@%s", f->name);
    int r = luaL_loadbuffer(L, (const char *)f->data, f->size, chunk);
    lua_remove(L, -2);
    return r;
}

/* The verb that the word is nearest to, or NULL. */
static const char *near_verb(const char *word)
{
    static const char *const verbs[] = {
        "create", "list",   "kill",       "exec",    "shell",
        "cp",     "url",    "logs",       "metrics", "template",
        "engine", "doctor", "completion", NULL};
    return strchr(word, '/') || str_ends(word, ".lua")
               ? NULL
               : find_nearest(word, verbs);
}

static int no_script(const char *name, const char *looked)
{
    const char *near = near_verb(name);
    near = near ? near : find_near_script(name);
    fprintf(stderr, "e2blua: no verb or script %s", name);
    if (near)
        fprintf(stderr, "; did you mean %s?", near);
    fprintf(stderr, "\nlooked for\n%sTry: e2blua --help\n", looked);
    return -1;
}

static int load_script(lua_State *L, const char *name)
{
    static const char verb[] = "require('cli.lib.main').run(...)";
    if (strcmp(name, "-") == 0)
        return luaL_loadfile(L, NULL);
    if (find_verb(name))
        return luaL_loadbuffer(L, verb, sizeof(verb) - 1, "@stdlib/cli");
    struct found f;
    struct buf looked = {0};
    if (find_script(name, &f, &looked) < 0) {
        int r = no_script(name, looked.data);
        buf_fini(&looked);
        return r;
    }
    buf_fini(&looked);
    if (!f.carried)
        return luaL_loadfile(L, f.path);
    return load_carried(L, f.carried);
}

/* The error on top of the stack, as one readable line and the remedy. */
static void report(lua_State *L)
{
    int e = lua_gettop(L);
    bool ours = false;
    if (lua_istable(L, e) && lua_getmetatable(L, e)) {
        luaL_getmetatable(L, LUTIL_ERROR_CLASS);
        ours = lua_rawequal(L, -1, -2);
        lua_settop(L, e);
    }
    const char *text = NULL, *where = NULL, *remedy = NULL, *trace = NULL;
    if (ours) {
        lua_getfield(L, e, "message");
        lua_getfield(L, e, "where");
        lua_getfield(L, e, "remedy");
        lua_getfield(L, e, "traceback");
        text = lua_tostring(L, e + 1);
        where = lua_tostring(L, e + 2);
        remedy = lua_tostring(L, e + 3);
        trace = lua_tostring(L, e + 4);
    } else if (lua_isstring(L, e) || luaL_callmeta(L, e, "__tostring")) {
        text = lua_tostring(L, -1);
    }
    if (!text)
        text = lua_pushfstring(L, "the script failed with a %s as its error",
                               luaL_typename(L, e));
    fprintf(stderr, "e2blua: %s%s%s\n", where ? where : "", where ? ": " : "",
            text);
    if (remedy)
        fprintf(stderr, "  %s\n", remedy);
    if (trace)
        fprintf(stderr, "%s\n", trace);
}

static int run(lua_State *L, struct call *c)
{
    const struct options *o = c->options;
    set_arg(L, c->argc, c->argv, o->script);
    int r = o->code ? luaL_loadbuffer(L, o->code, strlen(o->code), "=(-e)")
                    : load_script(L, c->argv[o->script]);
    if (r < 0)
        return EXIT_USAGE;
    if (r != LUA_OK) {
        report(L);
        return EXIT_SCRIPT;
    }
    /* A verb is told its own name. */
    bool verb = !o->code && find_verb(c->argv[o->script]);
    int first = o->script + (verb ? 0 : 1);
    int n = c->argc > first ? c->argc - first : 0;
    luaL_checkstack(L, n + 1, "too many arguments");
    for (int i = 0; i < n; i++)
        lua_pushstring(L, c->argv[first + i]);
    int code = 0;
    if (task_run(interrupted.sched, n, &code) == 0)
        return code;
    if (!interrupted.signal)
        report(L);
    return EXIT_SCRIPT;
}

static int protected_main(lua_State *L)
{
    struct call *c = lua_touserdata(L, 1);
    lua_settop(L, 0);
    open_libs(L);
    interrupted.sched = task_open(L, c->loop);
    if (!interrupted.sched)
        return luaL_error(L, "no scheduler");
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    /* A closed terminal ends what runs in it; nohup's wish is respected. */
    if (signal(SIGHUP, on_signal) == SIG_IGN)
        signal(SIGHUP, SIG_IGN);
    c->code = run(L, c);
    return 0;
}

/* An engine of many sandboxes and a script with many streams need more than
 * the 1024 that a shell usually allows. */
static void raise_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) < 0)
        return;
    r.rlim_cur = r.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &r);
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct err e;
    int r = parse(argc, argv, &o);
    if (r != 0)
        return r - 1;
    if (o.verbose)
        log_open(STDERR_FILENO, LOG_DEBUG);
    raise_limit();
    signal(SIGPIPE, SIG_IGN);
    struct call c = {argc, argv, &o, loop_new(&e), EXIT_BUG};
    lua_State *L = luaL_newstate();
    if (!L || !c.loop) {
        fputs("e2blua: not enough memory\n", stderr);
        return EXIT_BUG;
    }
    lua_pushcfunction(L, protected_main);
    lua_pushlightuserdata(L, &c);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK)
        fprintf(stderr, "e2blua: internal error: %s\n", lua_tostring(L, -1));
    if (interrupted.sched)
        task_end_jobs(interrupted.sched);
    lua_close(L);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    if (interrupted.signal == SIGHUP)
        signal(SIGHUP, SIG_DFL);
    if (interrupted.sched)
        task_close(interrupted.sched);
    loop_free(c.loop);
    if (interrupted.signal)
        raise(interrupted.signal);
    return c.code;
}
