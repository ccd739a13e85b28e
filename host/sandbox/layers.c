/* Layers on disk: making, publishing by rename, leases by flock, digests. No
 * mounting, no meaning of what is in them. */
#include "layers.h"

#include "base/fd.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/str.h"
#include "rootless.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { META_MAX = 1 << 20, DEPTH_MAX = 1000 };

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)

static int check_id(const char *id, struct err *e)
{
    size_t n = strlen(id);
    if (n >= 1 && n <= 64 &&
        strspn(id, "0123456789abcdefghijklmnopqrstuvwxyz") == n)
        return 0;
    return err_set(e, "invalid_argument",
                   "layer id '%.80s' must be 1 to 64 of a-z and 0-9", id);
}

/* layers/<id><tail> */
static void layer_path(char dst[128], const char *id, const char *tail)
{
    (void)str_fmt(dst, 128, "layers/%s%s", id, tail);
}

/* Removes tmp/<name> if its maker is gone. */
static void sweep_one(int tmp, const char *name)
{
    int FD_AUTO fd = openat(tmp, name, DIR_FLAGS);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        path_remove_tree(tmp, name, NULL);
}

/* As layers_tmp makes them. */
static bool is_tmp_name(const char *name)
{
    return strlen(name) == LAYERS_TMP_NAME - 1 &&
           strspn(name, "0123456789abcdef") == LAYERS_TMP_NAME - 1;
}

void layers_sweep(int cache)
{
    int fd = openat(cache, "tmp", DIR_FLAGS);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        fd_close(&fd);
        return;
    }
    for (struct dirent *n; (n = readdir(d));)
        if (is_tmp_name(n->d_name))
            sweep_one(fd, n->d_name);
    closedir(d);
}

int layers_open(const char *cache, int *dirfd, struct err *e)
{
    if (path_mkdirs(AT_FDCWD, cache, 0700, e))
        return -1;
    int fd = open(cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, NULL, "cannot open the cache %s", cache);
    if ((mkdirat(fd, "layers", 0700) && errno != EEXIST) ||
        (mkdirat(fd, "tmp", 0700) && errno != EEXIST)) {
        err_errno(e, NULL, "cannot make folders in the cache %s", cache);
        fd_close(&fd);
        return -1;
    }
    *dirfd = fd;
    return 0;
}

bool layers_have(int cache, const char *id)
{
    char path[128];
    struct stat st;
    if (check_id(id, NULL))
        return false;
    layer_path(path, id, "/meta.json");
    return fstatat(cache, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(st.st_mode);
}

static int missing(const char *id, struct err *e)
{
    return err_set(e, "not_found",
                   "layer %s is not in the cache: build the template again",
                   id);
}

int layers_fd(int cache, const char *id, struct err *e)
{
    char path[128];
    if (check_id(id, e))
        return -1;
    if (!layers_have(cache, id))
        return missing(id, e);
    layer_path(path, id, "/fs");
    int fd = openat(cache, path, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_errno(e, NULL, "layer %s", id);
    return fd;
}

int layers_lease(int cache, const char *id, struct err *e)
{
    char path[128];
    if (check_id(id, e))
        return -1;
    layer_path(path, id, "");
    int fd = openat(cache, path, DIR_FLAGS);
    if (fd < 0)
        return missing(id, e);
    /* One that is being removed is locked exclusively, or already renamed. */
    struct stat here, there;
    if (flock(fd, LOCK_SH | LOCK_NB) || fstat(fd, &here) ||
        fstatat(cache, path, &there, AT_SYMLINK_NOFOLLOW) ||
        here.st_ino != there.st_ino || !layers_have(cache, id)) {
        fd_close(&fd);
        return missing(id, e);
    }
    return fd;
}

int layers_meta(int cache, const char *id, struct buf *json, struct err *e)
{
    char path[128];
    if (check_id(id, e))
        return -1;
    if (!layers_have(cache, id))
        return missing(id, e);
    layer_path(path, id, "/meta.json");
    size_t n;
    char *text = path_read_file(cache, path, META_MAX, &n, e);
    if (!text)
        return -1;
    buf_append(json, text, n);
    free(text);
    return 0;
}

int layers_list(int cache, struct buf *ids, struct err *e)
{
    int fd = openat(cache, "layers", DIR_FLAGS);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        err_errno(e, NULL, "cannot list the layers");
        fd_close(&fd);
        return -1;
    }
    for (struct dirent *n; (n = readdir(d));)
        if (layers_have(cache, n->d_name)) {
            buf_puts(ids, n->d_name);
            buf_puts(ids, "\n");
        }
    closedir(d);
    return 0;
}

int layers_tmp(int cache, char name[LAYERS_TMP_NAME], struct err *e)
{
    int FD_AUTO tmp = openat(cache, "tmp", DIR_FLAGS);
    if (tmp < 0)
        return err_errno(e, NULL, "cannot open tmp in the cache");
    for (int tries = 0; tries < 100; tries++) {
        unsigned char random[16];
        str_random(random, sizeof(random));
        str_hex(name, random, sizeof(random));
        if (mkdirat(tmp, name, 0700))
            return err_errno(e, NULL, "cannot make a folder in the cache");
        int fd = openat(tmp, name, DIR_FLAGS);
        struct stat st;
        /* A sweeper may have come between mkdir and flock. */
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
            fstatat(tmp, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            return fd;
        fd_close(&fd);
    }
    return err_set(e, "internal", "cannot lock a folder in the cache");
}

static void drop_tmp(int cache, const char *name)
{
    int FD_AUTO tmp = openat(cache, "tmp", DIR_FLAGS);
    if (tmp >= 0)
        path_remove_tree(tmp, name, NULL);
}

/* Out of sight by one rename, then gone; fd is the open layer. */
static int remove_unused(int cache, const char *path, int fd, struct err *e)
{
    char to[64], name[LAYERS_TMP_NAME];
    if (flock(fd, LOCK_EX | LOCK_NB))
        return 1;
    int FD_AUTO lock = layers_tmp(cache, name, e);
    if (lock < 0)
        return -1;
    (void)str_fmt(to, sizeof(to), "tmp/%s/gone", name);
    int failed = 0;
    if (renameat(cache, path, cache, to) && errno != ENOENT)
        failed = err_errno(e, NULL, "cannot remove %s", path);
    drop_tmp(cache, name);
    return failed;
}

int layers_remove(int cache, const char *id, struct err *e)
{
    char path[128];
    if (check_id(id, e))
        return -1;
    layer_path(path, id, "");
    int fd = openat(cache, path, DIR_FLAGS);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(e, NULL, "layer %s", id);
    int result = remove_unused(cache, path, fd, e);
    fd_close(&fd);
    return result;
}

/* One whose meta.json is missing (a full disk, a foreign hand) is in the way
 * of a new one. */
static int make_way(int cache, const char *id, struct err *e)
{
    if (layers_have(cache, id))
        return 0;
    int in_use = layers_remove(cache, id, e);
    if (in_use > 0)
        return err_set(e, "internal", "layer %s is broken and in use", id);
    return in_use;
}

int layers_publish(int cache, const char *name, const char *id,
                   const char *meta_json, struct err *e)
{
    char from[64], to[128];
    if (check_id(id, e))
        return -1;
    (void)str_fmt(from, sizeof(from), "tmp/%s", name);
    layer_path(to, id, "");
    int FD_AUTO dir = openat(cache, from, DIR_FLAGS);
    if (dir < 0)
        return err_errno(e, NULL, "cannot open %s in the cache", from);
    if (path_write_file(dir, "meta.json", meta_json, strlen(meta_json), 0600,
                        e))
        return err_wrap(e, "layer %s", id);
    for (int tries = 0; tries < 10; tries++) {
        if (renameat2(cache, from, cache, to, RENAME_NOREPLACE) == 0)
            return 0;
        if (errno != EEXIST)
            return err_errno(e, NULL, "cannot publish layer %s", id);
        if (layers_have(cache, id)) {
            drop_tmp(cache, name);
            return 0;
        }
        if (make_way(cache, id, e))
            return -1;
    }
    return err_set(e, "internal", "cannot publish layer %s", id);
}

int layers_seal(int cache, int upper_parent, const char *upper, const char *id,
                const char *meta_json, struct err *e)
{
    char name[LAYERS_TMP_NAME];
    if (check_id(id, e))
        return -1;
    int FD_AUTO tmp = layers_tmp(cache, name, e);
    if (tmp < 0)
        return -1;
    if (renameat(upper_parent, upper, tmp, "fs")) {
        err_errno(e, NULL, "layer %s: cannot move %s into the cache%s", id,
                  upper,
                  errno == EXDEV ? " (it is on another file system: set "
                                   "E2BLUA_CACHE to a folder on this one)"
                                 : "");
        drop_tmp(cache, name);
        return -1;
    }
    if (layers_publish(cache, name, id, meta_json, e)) {
        drop_tmp(cache, name);
        return -1;
    }
    return 0;
}

/* ---- digest ---- */

struct walk {
    struct hash *hash;
    uint64_t bytes;
    uint32_t shift; /* of owners on disk */
    struct err *err;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted names in the folder; the caller frees them and the array. */
static int read_names(int dir, char ***names, size_t *count, struct err *e)
{
    int fd = fcntl(dir, F_DUPFD_CLOEXEC, 0);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        err_errno(e, NULL, "cannot read a folder");
        fd_close(&fd);
        return -1;
    }
    size_t n = 0, cap = 0;
    char **list = NULL;
    for (struct dirent *f; (f = readdir(d));) {
        if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, ".."))
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 16;
            list = mem_realloc(list, cap * sizeof(*list));
        }
        list[n++] = mem_strdup(f->d_name);
    }
    closedir(d);
    if (n)
        qsort(list, n, sizeof(*list), by_name);
    *names = list;
    *count = n;
    return 0;
}

static int walk_dir(struct walk *w, int dir, int depth);

/* What the entry is, without the name; folders are followed by theirs. */
static int walk_entry(struct walk *w, int dir, const char *name, int depth)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
        return err_errno(w->err, NULL, "%s", name);
    w->bytes += (uint64_t)st.st_blocks * 512;
    bool folder = S_ISDIR(st.st_mode);
    char line[160];
    (void)str_fmt(line, sizeof(line), "%o %u:%u %lld %u:%u", st.st_mode,
                  (unsigned)st.st_uid - w->shift,
                  (unsigned)st.st_gid - w->shift,
                  folder ? 0LL : (long long)st.st_size, major(st.st_rdev),
                  minor(st.st_rdev));
    hash_update(w->hash, name, strlen(name) + 1);
    hash_update(w->hash, line, strlen(line) + 1);
    if (S_ISLNK(st.st_mode)) {
        char target[4096];
        ssize_t n = readlinkat(dir, name, target, sizeof(target));
        if (n < 0)
            return err_errno(w->err, NULL, "%s", name);
        hash_update(w->hash, target, (size_t)n);
    }
    if (!folder)
        return 0;
    int FD_AUTO sub = openat(dir, name, DIR_FLAGS);
    if (sub < 0)
        return err_errno(w->err, NULL, "%s", name);
    return walk_dir(w, sub, depth + 1);
}

static int walk_dir(struct walk *w, int dir, int depth)
{
    char **names = NULL;
    size_t n = 0;
    if (depth > DEPTH_MAX)
        return err_set(w->err, "invalid_argument",
                       "folders are nested deeper than %d", DEPTH_MAX);
    char opaque[8];
    if (fgetxattr(dir, "user.overlay.opaque", opaque, sizeof(opaque)) > 0)
        hash_update(w->hash, "opaque", 7);
    if (read_names(dir, &names, &n, w->err))
        return -1;
    int failed = 0;
    for (size_t i = 0; i < n; i++) {
        failed = failed ? -1 : walk_entry(w, dir, names[i], depth);
        free(names[i]);
    }
    free(names);
    hash_update(w->hash, "/", 2); /* the folder's end */
    return failed;
}

int layers_measure(int fs, char digest[65], uint64_t *bytes, struct err *e)
{
    int FD_AUTO dir = openat(fs, ".", DIR_FLAGS); /* fs may be O_PATH */
    if (dir < 0)
        return err_errno(e, NULL, "cannot read a layer");
    struct rootless_ids ids;
    rootless_ids(&ids);
    struct walk w = {.hash = hash_new(), .err = e};
    w.shift = ids.idmap ? 0 : ids.first;
    int failed = walk_dir(&w, dir, 0);
    if (!failed)
        hash_final(w.hash, digest);
    hash_free(w.hash);
    if (failed)
        return err_wrap(e, "digest of a layer");
    if (bytes)
        *bytes = w.bytes;
    return 0;
}

int layers_digest(int fs, char out[65], struct err *e)
{
    return layers_measure(fs, out, NULL, e);
}
