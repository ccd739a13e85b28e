/* Layers on disk: making, publishing by rename, setting aside what is damaged.
 * No mounting, no meaning of what is in them. */
#include "layers.h"

#include "base/fd.h"
#include "base/json.h"
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
#include <time.h>
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
    DIR *d = path_opendir(cache, "tmp", O_NOFOLLOW);
    if (!d)
        return;
    for (struct dirent *n; (n = readdir(d));)
        if (is_tmp_name(n->d_name))
            sweep_one(dirfd(d), n->d_name);
    closedir(d);
}

int layers_open(const char *cache, int *dirfd, struct err *e)
{
    if (path_mkdirs(AT_FDCWD, cache, 0700, e))
        return -1;
    int fd = open(cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, NULL, "cannot open the cache %s", cache);
    static const char *const folders[] = {"layers", "tmp", "leases", "roots",
                                          "damaged"};
    for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
        if (mkdirat(fd, folders[i], 0700) && errno != EEXIST) {
            err_errno(e, NULL, "cannot make %s in the cache %s", folders[i],
                      cache);
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

bool layers_ours(int cache, const char *id)
{
    char path[128];
    struct stat st;
    struct rootless_ids ids;
    rootless_ids(&ids);
    layer_path(path, id, "/fs");
    return ids.idmap || fstatat(cache, path, &st, AT_SYMLINK_NOFOLLOW) ||
           (st.st_uid >= ids.first && st.st_uid - ids.first < ids.count);
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
    if (!layers_ours(cache, id))
        return err_set(e, "not_found",
                       "layer %s belongs to ids that sandboxes do not have "
                       "now (was /etc/subuid changed, or newuidmap?): build "
                       "the template again, or remove layers/%s in the cache",
                       id, id);
    layer_path(path, id, "/fs");
    int fd = openat(cache, path, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return err_errno(e, NULL, "layer %s", id);
    return fd;
}

void layers_touch(int cache, const char *id)
{
    char path[128];
    if (check_id(id, NULL))
        return;
    layer_path(path, id, "");
    (void)utimensat(cache, path, NULL, AT_SYMLINK_NOFOLLOW);
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
    DIR *d = path_opendir(cache, "layers", O_NOFOLLOW);
    if (!d)
        return err_errno(e, NULL, "cannot list the layers");
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

/* Out of sight by one rename, then gone. */
int layers_remove(int cache, const char *id, struct err *e)
{
    char path[128], to[64], name[LAYERS_TMP_NAME];
    if (check_id(id, e))
        return -1;
    layer_path(path, id, "");
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

/* One whose meta.json is missing (a full disk, a foreign hand) is in the way
 * of a new one. */
static int make_way(int cache, const char *id, struct err *e)
{
    if (layers_have(cache, id))
        return 0;
    return layers_remove(cache, id, e);
}

/* "" when it cannot be read. */
static void boot_id(char id[40])
{
    size_t n = 0;
    char *text = path_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 39,
                                &n, NULL);
    (void)str_fmt(id, 40, "%.*s", text ? (int)strcspn(text, "\n") : 0,
                  text ? text : "");
    free(text);
}

/* Whose ids the files have, as far as a digest depends on it. */
static const char *ids_here(void)
{
    struct rootless_ids ids;
    rootless_ids(&ids);
    return ids.grade == ROOTLESS_ONE ? "one" : "all";
}

/* meta.json of the folder, with what the tree is now. */
static int write_meta(int dir, const char *meta_json, struct err *e)
{
    struct layers_sum sum;
    struct buf text = {0};
    char boot[40];
    int FD_AUTO fs = openat(dir, "fs", DIR_FLAGS);
    if (fs < 0)
        return err_errno(e, NULL, "cannot open fs");
    if (layers_measure(fs, &sum, e))
        return -1;
    json_t *meta = json_parse(meta_json, strlen(meta_json), e);
    if (!meta)
        return -1;
    json_object_set_new(meta, "content", json_string(sum.digest));
    json_object_set_new(meta, "size", json_integer((json_int_t)sum.bytes));
    json_object_set_new(meta, "files", json_integer((json_int_t)sum.files));
    json_object_set_new(meta, "top", json_integer(sum.top));
    json_object_set_new(meta, "ids", json_string(ids_here()));
    boot_id(boot);
    json_object_set_new(meta, "boot", json_string(boot));
    json_write(&text, meta);
    json_decref(meta);
    int failed =
        path_write_file(dir, "meta.json", text.data, text.len, 0600, e);
    buf_fini(&text);
    return failed;
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
    if (write_meta(dir, meta_json, e))
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

/* ---- damage ---- */

/* What else fails (descriptors, rights) is not the layer's fault. */
static int damaged(const char *id, struct err *e, const char *why)
{
    err_set(e, "internal", "layer %s is damaged: %s", id, why);
    if (e)
        e->errnum = EUCLEAN;
    return -1;
}

/* Can a failure to read be the layer's fault? */
static bool is_damage(int errnum)
{
    return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP ||
           errnum == EIO || errnum == EUCLEAN || errnum == EBADMSG;
}

/* Made before this boot, and not known to have reached the disk. */
static bool is_unsure(int cache, const char *id, const char *made)
{
    char now[40], path[128];
    layer_path(path, id, "/synced");
    if (!*made || faccessat(cache, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return false;
    boot_id(now);
    return strcmp(made, now) != 0;
}

struct record {
    char id[65], content[65], boot[40], ids[8];
    int top; /* -1: not on record */
};

static int read_record(const char *id, const struct buf *meta, struct record *r,
                       struct err *e)
{
    json_t *doc = json_parse(meta->data, meta->len, NULL);
    if (!json_is_object(doc)) {
        json_decref(doc);
        return damaged(id, e, "its meta.json is no JSON object");
    }
    const json_t *top = json_object_get(doc, "top");
    json_text(doc, "id", r->id, sizeof(r->id));
    json_text(doc, "content", r->content, sizeof(r->content));
    json_text(doc, "boot", r->boot, sizeof(r->boot));
    json_text(doc, "ids", r->ids, sizeof(r->ids));
    r->top = json_is_integer(top) ? (int)json_integer_value(top) : -1;
    json_decref(doc);
    if (*r->id && strcmp(r->id, id) != 0)
        return damaged(id, e, "its meta.json is that of another layer");
    return 0;
}

int layers_check(int cache, const char *id, const struct buf *meta,
                 struct err *e)
{
    char path[128];
    struct record r;
    if (read_record(id, meta, &r, e))
        return -1;
    layer_path(path, id, "/fs");
    int FD_AUTO fs = openat(cache, path, DIR_FLAGS);
    int have = fs < 0 ? -1 : path_count(fs, ".");
    if (have < 0 && is_damage(errno))
        return damaged(id, e, "its folder fs cannot be read");
    if (have < 0)
        return err_errno(e, NULL, "cannot read layer %s", id);
    if (r.top >= 0 && have != r.top) {
        char why[96];
        (void)str_fmt(why, sizeof(why),
                      "%d entries in its root, %d when it was made", have,
                      r.top);
        return damaged(id, e, why);
    }
    return is_unsure(cache, id, r.boot) ? 1 : 0;
}

static int mark_synced(int cache, const char *id, struct err *e)
{
    char path[128];
    layer_path(path, id, "/synced");
    int fd =
        openat(cache, path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(e, NULL, "layer %s", id);
    fd_close(&fd);
    return 0;
}

int layers_sync(int cache, const char *const *ids, int n, struct err *e)
{
    if (syncfs(cache))
        return err_errno(e, NULL, "cannot write the cache to its disk");
    for (int i = 0; i < n; i++)
        if (check_id(ids[i], e) || mark_synced(cache, ids[i], e))
            return -1;
    return 0;
}

/* 0, 1 or -1 as layers_verify. */
static int compare_content(int cache, const char *id, const char *want,
                           struct err *e)
{
    struct layers_sum sum;
    int FD_AUTO fs = layers_fd(cache, id, e);
    if (fs < 0)
        return -1;
    struct err why = {0};
    if (layers_measure(fs, &sum, &why)) {
        if (is_damage(why.errnum)) {
            damaged(id, e, why.msg);
            return 1;
        }
        return err_set(e, why.kind, "layer %s: %s", id, why.msg);
    }
    if (strcmp(want, sum.digest) == 0)
        return 0;
    char text[96];
    (void)str_fmt(text, sizeof(text),
                  "its content has digest %.12s, %.12s when it was made",
                  sum.digest, want);
    damaged(id, e, text);
    return 1;
}

int layers_verify(int cache, const char *id, struct err *e)
{
    struct buf meta = {0};
    struct record r;
    if (layers_meta(cache, id, &meta, e))
        return -1;
    struct err why = {0};
    int look = layers_check(cache, id, &meta, &why);
    int failed = look < 0 || read_record(id, &meta, &r, &why);
    buf_fini(&meta);
    if (failed) {
        if (e)
            *e = why;
        return why.errnum == EUCLEAN ? 1 : -1;
    }
    if (!*r.content || (*r.ids && strcmp(r.ids, ids_here()) != 0))
        return 2;
    int result = compare_content(cache, id, r.content, e);
    if (result == 0 && look == 1)
        mark_synced(cache, id, NULL); /* it has come from the disk */
    return result;
}

int layers_aside(int cache, const char *id, char name[LAYERS_ASIDE_NAME],
                 struct err *e)
{
    char from[128], to[160];
    if (check_id(id, e))
        return -1;
    layer_path(from, id, "");
    for (long long at = (long long)time(NULL);; at++) {
        (void)str_fmt(name, LAYERS_ASIDE_NAME, "damaged/%s.%lld", id, at);
        (void)str_fmt(to, sizeof(to), "%s", name);
        if (renameat2(cache, from, cache, to, RENAME_NOREPLACE) == 0)
            return 0;
        if (errno != EEXIST)
            return err_errno(e, NULL, "cannot set layer %s aside", id);
    }
}

bool layers_was_damaged(int cache, const char *id)
{
    DIR *d = path_opendir(cache, "damaged", O_NOFOLLOW);
    bool found = false;
    if (!d)
        return false;
    for (struct dirent *n; !found && (n = readdir(d));)
        found = str_starts(n->d_name, id) && n->d_name[strlen(id)] == '.';
    closedir(d);
    return found;
}
