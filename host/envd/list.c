/* ListDir. See list.h. */
#include "list.h"
#include "base/buf.h"
#include "base/path.h"
#include "entry.h"
#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct listing {
    struct walk walk;
    unsigned depth;
    const char *root;
    struct buf path; /* of what is being looked at, as shown */
    size_t seen, bytes;
    struct entry_names names;
    json_t *entries;
};

static bool keep_name(void *arg, const char *name, int type)
{
    struct listing *l = arg;
    (void)type;
    walk_names_add(&walk_top(&l->walk)->names, name);
    return ++l->seen <= LIST_MAX;
}

static int too_much(const struct listing *l, struct err *e)
{
    return err_set(e, "resource_exhausted",
                   "'%.200s' has more than %d entries or %d MiB of paths: list "
                   "it with a smaller depth or folder by folder",
                   l->root, LIST_MAX, LIST_BYTES >> 20);
}

static int read_names(struct listing *l, struct err *e)
{
    struct walk_folder *top = walk_top(&l->walk);
    top->mark = l->path.len;
    if (walk_read(&l->walk, keep_name, l) < 0)
        return entry_fail(e, "internal", "error reading directory %.300s",
                          l->path.data);
    if (l->seen > LIST_MAX)
        return too_much(l, e);
    walk_names_sort(&top->names);
    return 0;
}

static void shown_path(struct listing *l, size_t mark, const char *name)
{
    l->path.len = mark;
    l->path.data[mark] = '\0';
    if (mark == 0 || l->path.data[mark - 1] != '/')
        buf_puts(&l->path, "/");
    buf_puts(&l->path, name);
}

/* Goes into the folder just listed. What vanished or was replaced meanwhile is
 * simply not entered. */
static int enter(struct listing *l, const char *name, struct err *e)
{
    if (walk_down(&l->walk, name) < 0) {
        if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
            return 0;
        return entry_fail(e, "internal", "error reading directory %.300s",
                          l->path.data);
    }
    return read_names(l, e);
}

static int list_one(struct listing *l, const char *name, struct err *e)
{
    struct walk_folder *top = walk_top(&l->walk);
    shown_path(l, top->mark, name);
    l->bytes += l->path.len;
    if (l->bytes > LIST_BYTES)
        return too_much(l, e);
    json_t *one = entry_info(&l->names, top->fd, name, l->path.data);
    if (!one && errno == ENOENT)
        return 0;
    if (!one)
        return entry_fail(e, "internal",
                          "error getting file info: lstat %.300s",
                          l->path.data);
    json_array_append_new(l->entries, one);
    bool folder = !json_object_get(one, "isSymlink") &&
                  strcmp(json_string_value(json_object_get(one, "type")),
                         "FILE_TYPE_DIRECTORY") == 0;
    if (folder && l->walk.depth < l->depth)
        return enter(l, name, e);
    return 0;
}

static int walk_all(struct listing *l, struct err *e)
{
    if (read_names(l, e) < 0)
        return -1;
    while (l->walk.depth > 0) {
        struct walk_folder *top = walk_top(&l->walk);
        if (top->next < top->names.n) {
            if (list_one(l, top->names.v[top->next++], e) < 0)
                return -1;
        } else if (walk_up(&l->walk) < 0) {
            return entry_fail(e, "internal", "error reading directory %.300s",
                              l->root);
        }
    }
    return 0;
}

static int open_root(const char *path, struct err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        return fd;
    switch (errno) {
    case ENOENT:
        return entry_fail(e, "not_found", "path not found: lstat %.300s", path);
    case ELOOP:
        return err_set(e, "failed_precondition",
                       "cyclic symlink or chain >255 links at \"%.300s\"",
                       path);
    case ENOTDIR: {
        struct stat st;
        if (stat(path, &st) == 0)
            return err_set(e, "invalid_argument",
                           "path is not a directory: %.300s", path);
        errno = ENOTDIR; /* a file stands where a folder of the path should */
        return entry_fail(e, "not_found", "path not found: lstat %.300s", path);
    }
    default:
        return entry_fail(e, "internal", "error reading directory %.300s",
                          path);
    }
}

json_t *list_folder(const char *path, unsigned depth, struct err *e)
{
    struct listing l = {.depth = depth ? depth : 1, .root = path};
    char clean[PATH_MAX];
    int fd = open_root(path, e);
    if (fd < 0)
        return NULL;
    buf_init(&l.path);
    buf_puts(&l.path,
             path_clean(clean, sizeof(clean), path) < 0 ? path : clean);
    l.entries = json_array();
    int r = walk_open(&l.walk, fd);
    if (r < 0)
        entry_fail(e, "internal", "error reading directory %.300s", path);
    else
        r = walk_all(&l, e);
    walk_close(&l.walk);
    buf_fini(&l.path);
    if (r == 0)
        return l.entries;
    json_decref(l.entries);
    return NULL;
}
