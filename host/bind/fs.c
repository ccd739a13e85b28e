/* require "e2b_fs": files of the machine that runs the script (not of a
 * sandbox). What can take long runs on a worker while the task waits. */
#include "base/mem.h"
#include "base/path.h"
#include "lutil.h"
#include "work.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_MAX = 256 << 20 };

int luaopen_e2b_fs(lua_State *L);

struct fs_work {
    struct work work;
    char *path, *data;
    char **names;
    size_t n, max;
    mode_t mode;
};

static void fs_fini(struct work *w)
{
    struct fs_work *f = (struct fs_work *)w;
    for (size_t i = 0; f->names && i < f->n; i++)
        free(f->names[i]);
    free(f->names);
    free(f->path);
    free(f->data);
}

/* Argument 1 becomes the path of new work. */
static struct fs_work *new_work(lua_State *L, const struct work_class *class)
{
    const char *path = lutil_check_text(L, 1);
    struct fs_work *f = work_new(L, sizeof(*f), class);
    f->path = mem_strdup(path);
    return f;
}

static mode_t opt_mode(lua_State *L, int idx, mode_t dflt)
{
    lua_Integer mode = luaL_optinteger(L, idx, dflt);
    if (mode < 0 || mode > 07777)
        lutil_raise(L, "invalid_argument",
                    "%s is no file mode; give a number such as "
                    "tonumber(\"644\", 8)",
                    luaL_tolstring(L, idx, NULL));
    return (mode_t)mode;
}

/* ---- on a worker --------------------------------------------------------- */

static int read_run(struct work *w, struct err *e)
{
    struct fs_work *f = (struct fs_work *)w;
    f->data = path_read_file(AT_FDCWD, f->path, f->max, &f->n, e);
    return f->data ? 0 : -1;
}

static int read_push(lua_State *L, struct work *w)
{
    const struct fs_work *f = (const struct fs_work *)w;
    lua_pushlstring(L, f->data, f->n);
    return 1;
}

/* read_file(path [, max = 256 MiB]) -> bytes | nil, err */
static int l_read_file(lua_State *L)
{
    static const struct work_class class = {read_run, read_push, fs_fini};
    lua_Integer max = luaL_optinteger(L, 2, READ_MAX);
    if (max < 0)
        lutil_raise(L, "invalid_argument",
                    "a limit of %s bytes; give 0 or more",
                    luaL_tolstring(L, 2, NULL));
    struct fs_work *f = new_work(L, &class);
    f->max = (size_t)max;
    return work_call(L, &f->work);
}

static int write_run(struct work *w, struct err *e)
{
    const struct fs_work *f = (const struct fs_work *)w;
    return path_write_file(AT_FDCWD, f->path, f->data, f->n, f->mode, e);
}

/* write_file(path, data [, mode = 0644]) -> true | nil, err; whole or not at
 * all */
static int l_write_file(lua_State *L)
{
    static const struct work_class class = {write_run, work_push_true, fs_fini};
    size_t n;
    luaL_checktype(L, 2, LUA_TSTRING);
    const char *data = lua_tolstring(L, 2, &n);
    mode_t mode = opt_mode(L, 3, 0644);
    struct fs_work *f = new_work(L, &class);
    f->data = mem_alloc(n + 1);
    memcpy(f->data, data, n);
    f->n = n;
    f->mode = mode;
    return work_call(L, &f->work);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void add_name(struct fs_work *f, const char *name)
{
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return;
    if (f->n == f->max) {
        f->max = f->max ? 2 * f->max : 32;
        f->names = mem_realloc(f->names, f->max * sizeof(*f->names));
    }
    f->names[f->n++] = mem_strdup(name);
}

static int list_run(struct work *w, struct err *e)
{
    struct fs_work *f = (struct fs_work *)w;
    const struct dirent *de;
    DIR *d = opendir(f->path);
    if (!d)
        return err_errno(e, NULL, "list %s", f->path);
    while (errno = 0, (de = readdir(d)))
        add_name(f, de->d_name);
    int r = errno ? err_errno(e, NULL, "list %s", f->path) : 0;
    closedir(d);
    if (f->n > 1)
        qsort(f->names, f->n, sizeof(*f->names), by_name);
    return r;
}

static int list_push(lua_State *L, struct work *w)
{
    const struct fs_work *f = (const struct fs_work *)w;
    lua_createtable(L, (int)f->n, 0);
    for (size_t i = 0; i < f->n; i++) {
        lua_pushstring(L, f->names[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* list(path) -> array of names, sorted | nil, err */
static int l_list(lua_State *L)
{
    static const struct work_class class = {list_run, list_push, fs_fini};
    return work_call(L, &new_work(L, &class)->work);
}

static int mkdirs_run(struct work *w, struct err *e)
{
    const struct fs_work *f = (const struct fs_work *)w;
    return path_mkdirs(AT_FDCWD, f->path, f->mode, e);
}

/* mkdirs(path [, mode = 0755]) -> true | nil, err; those above it too */
static int l_mkdirs(lua_State *L)
{
    static const struct work_class class = {mkdirs_run, work_push_true,
                                            fs_fini};
    mode_t mode = opt_mode(L, 2, 0755);
    struct fs_work *f = new_work(L, &class);
    f->mode = mode;
    return work_call(L, &f->work);
}

static int remove_run(struct work *w, struct err *e)
{
    const struct fs_work *f = (const struct fs_work *)w;
    return path_remove_tree(AT_FDCWD, f->path, e);
}

/* remove_tree(path) -> true | nil, err; a file, link or folder with all in it;
 * missing is fine; follows no link, crosses no mount */
static int l_remove_tree(lua_State *L)
{
    static const struct work_class class = {remove_run, work_push_true,
                                            fs_fini};
    char clean[PATH_MAX];
    const char *path = lutil_check_text(L, 1);
    if (path_clean(clean, sizeof(clean), path) < 0 || strcmp(clean, "/") == 0 ||
        strcmp(clean, ".") == 0 || strcmp(path_base(clean), "..") == 0)
        lutil_raise(L, "invalid_argument",
                    "will not remove '%s'; name one file or folder", path);
    struct fs_work *f = work_new(L, sizeof(*f), &class);
    f->path = mem_strdup(clean);
    return work_call(L, &f->work);
}

/* ---- at once ------------------------------------------------------------- */

static const char *type_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "file";
    case S_IFDIR:
        return "dir";
    case S_IFLNK:
        return "link";
    case S_IFIFO:
        return "fifo";
    case S_IFSOCK:
        return "socket";
    case S_IFCHR:
        return "char";
    case S_IFBLK:
        return "block";
    default:
        return "other";
    }
}

/* stat(path [, nofollow]) -> {type=, size=, mode=, mtime=, uid=, gid=} | nil,
 * err */
static int l_stat(lua_State *L)
{
    struct stat st;
    struct err e;
    const char *path = lutil_check_text(L, 1);
    int flags = lua_toboolean(L, 2) ? AT_SYMLINK_NOFOLLOW : 0;
    if (fstatat(AT_FDCWD, path, &st, flags) < 0) {
        err_errno(&e, NULL, "look at %s", path);
        return lutil_fail(L, &e);
    }
    lua_createtable(L, 0, 6);
    lua_pushstring(L, type_name(st.st_mode));
    lua_setfield(L, -2, "type");
    lua_pushinteger(L, st.st_size);
    lua_setfield(L, -2, "size");
    lua_pushinteger(L, st.st_mode & 07777);
    lua_setfield(L, -2, "mode");
    lua_pushnumber(L, (double)st.st_mtim.tv_sec +
                          (double)st.st_mtim.tv_nsec / 1e9);
    lua_setfield(L, -2, "mtime");
    lua_pushinteger(L, st.st_uid);
    lua_setfield(L, -2, "uid");
    lua_pushinteger(L, st.st_gid);
    lua_setfield(L, -2, "gid");
    return 1;
}

/* cwd() -> path | nil, err */
static int l_cwd(lua_State *L)
{
    char path[PATH_MAX];
    struct err e;
    if (!getcwd(path, sizeof(path))) {
        err_errno(&e, NULL, "current folder");
        return lutil_fail(L, &e);
    }
    lua_pushstring(L, path);
    return 1;
}

/* realpath(path) -> absolute path without links | nil, err */
static int l_realpath(lua_State *L)
{
    char real[PATH_MAX];
    struct err e;
    const char *path = lutil_check_text(L, 1);
    if (!realpath(path, real)) {
        err_errno(&e, NULL, "real path of %s", path);
        return lutil_fail(L, &e);
    }
    lua_pushstring(L, real);
    return 1;
}

/* environ() -> {NAME = value} */
static int l_environ(lua_State *L)
{
    lua_newtable(L);
    for (char **v = environ; v && *v; v++) {
        const char *equals = strchr(*v, '=');
        if (!equals)
            continue;
        lua_pushlstring(L, *v, (size_t)(equals - *v));
        lua_pushstring(L, equals + 1);
        lua_rawset(L, -3);
    }
    return 1;
}

int luaopen_e2b_fs(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"read_file", l_read_file},
        {"write_file", l_write_file},
        {"list", l_list},
        {"stat", l_stat},
        {"mkdirs", l_mkdirs},
        {"remove_tree", l_remove_tree},
        {"cwd", l_cwd},
        {"realpath", l_realpath},
        {"environ", l_environ},
        {NULL, NULL},
    };
    luaL_newlib(L, functions);
    return 1;
}
