/* The Lua module e2b_hash: SHA-256. A link unit of its own for OpenSSL's sake.
 */
#include "base/hash.h"
#include "base/fd.h"
#include "base/mem.h"
#include "lutil.h"
#include "work.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <unistd.h>

/* sha256(bytes) -> 64 hex digits */
static int l_sha256(lua_State *L)
{
    size_t n;
    const char *p = luaL_checklstring(L, 1, &n);
    char hex[65];
    hash_hex(p, n, hex);
    lua_pushstring(L, hex);
    return 1;
}

struct file_hash {
    struct work w;
    char *path;
    char hex[65];
};

static int file_run(struct work *w, struct err *e)
{
    struct file_hash *f = (struct file_hash *)w;
    FD_AUTO int fd = open(f->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, NULL, "cannot read %s", f->path);
    struct hash *h = hash_new();
    int r = hash_fd(h, fd, e);
    if (r == 0)
        hash_final(h, f->hex);
    hash_free(h);
    return r;
}

static int file_push(lua_State *L, struct work *w)
{
    lua_pushstring(L, ((const struct file_hash *)w)->hex);
    return 1;
}

static void file_fini(struct work *w)
{
    free(((struct file_hash *)w)->path);
}

/* file(path) -> 64 hex digits of its contents | nil, error */
static int l_file(lua_State *L)
{
    static const struct work_class FILE_HASH = {file_run, file_push, file_fini};
    const char *path = lutil_check_text(L, 1);
    struct file_hash *f = work_new(L, sizeof(*f), &FILE_HASH);
    f->path = mem_strdup(path);
    return work_call(L, &f->w);
}

int luaopen_e2b_hash(lua_State *L);
int luaopen_e2b_hash(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"sha256", l_sha256}, {"file", l_file}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
