/* Making and removing folders for the file calls of envd. See entry.h. */
#include "base/fd.h"
#include "base/str.h"
#include "entry.h"
#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- making -------------------------------------------------------------- */

/* Makes one folder and gives it away. It is opened without following a link, so
 * that nobody can put a link in its place before the chown. */
static int make_one(int at, const char *name, uid_t uid, gid_t gid)
{
    if (mkdirat(at, name, 0755) < 0)
        return errno == EEXIST
                   ? openat(at, name, O_PATH | O_DIRECTORY | O_CLOEXEC)
                   : -1;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fchown(fd, uid, gid) < 0)
        fd_close(&fd);
    return fd;
}

/* Opens name below *at, making it where it is missing, and puts it in *at. */
static int step_into(int *at, const char *name, uid_t uid, gid_t gid)
{
    int fd = openat(*at, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        fd = make_one(*at, name, uid, gid);
    if (fd < 0)
        return -1;
    fd_close(at);
    *at = fd;
    return 0;
}

int entry_make_dirs(const char *path, uid_t uid, gid_t gid, struct err *e)
{
    char name[NAME_MAX + 1];
    FD_AUTO int at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return entry_fail(e, "internal", "failed to stat directory: stat /");
    for (const char *p = path + strspn(path, "/"); *p;) {
        size_t n = strcspn(p, "/");
        const char *next = p + n + strspn(p + n, "/");
        int so_far = (int)(p + n - path);
        errno = ENAMETOOLONG;
        if (str_fmt(name, sizeof(name), "%.*s", (int)n, p) < 0 ||
            step_into(&at, name, uid, gid) < 0) {
            if (errno == ENOTDIR)
                return err_set(e, "internal", "path is a file: %.*s",
                               so_far > 400 ? 400 : so_far, path);
            return entry_fail(e, "internal",
                              "failed to create directory: mkdir %.*s",
                              so_far > 300 ? 300 : so_far, path);
        }
        p = next;
    }
    return 0;
}

/* ---- removing ------------------------------------------------------------ */

enum { BATCH = 1024, STACKED_MAX = 64 * 1024 };

struct removal {
    struct walk walk;
    size_t stacked; /* names of folders kept over all levels */
    int failed;
};

/* Files go while the folder is read; folders are kept for the way down. A
 * folder with more of them than a batch is read again when they are gone. */
static bool remove_or_keep(void *arg, const char *name, int type)
{
    struct removal *r = arg;
    struct walk_folder *top = walk_top(&r->walk);
    (void)type;
    if (unlinkat(top->fd, name, 0) == 0 || errno == ENOENT)
        return true;
    if (errno != EISDIR && errno != EPERM) {
        r->failed = errno;
        return false;
    }
    int why = errno;
    if (unlinkat(top->fd, name, AT_REMOVEDIR) == 0)
        return true;
    if (errno == ENOTDIR) { /* EPERM: a file that may not be removed */
        r->failed = why;
        return false;
    }
    walk_names_add(&top->names, name);
    r->stacked++;
    return top->names.n < (r->stacked < STACKED_MAX ? BATCH : 1);
}

static int read_folder(struct removal *r)
{
    if (walk_read(&r->walk, remove_or_keep, r) < 0)
        return -1;
    errno = r->failed;
    return r->failed ? -1 : 0;
}

static int leave_and_remove(struct removal *r)
{
    if (walk_up(&r->walk) < 0)
        return -1;
    struct walk_folder *top = walk_top(&r->walk);
    char *name = top->names.v[top->next - 1];
    if (unlinkat(top->fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return -1;
    return 0;
}

/* Empties the folder that the walk begins with. */
static int remove_below(struct removal *r)
{
    if (read_folder(r) < 0)
        return -1;
    for (;;) {
        struct walk_folder *top = walk_top(&r->walk);
        if (top->next < top->names.n) {
            const char *name = top->names.v[top->next++];
            if (walk_down(&r->walk, name) == 0) {
                if (read_folder(r) < 0)
                    return -1;
            } else if (errno != ENOENT) {
                return -1;
            }
            continue;
        }
        if (top->names.n > 0) { /* perhaps there is more than the batch */
            r->stacked -= top->names.n;
            walk_names_fini(&top->names);
            top->next = 0;
            if (read_folder(r) < 0)
                return -1;
            continue;
        }
        if (r->walk.depth == 1)
            return 0;
        if (leave_and_remove(r) < 0)
            return -1;
    }
}

static int remove_tree(const char *path)
{
    struct removal r = {.stacked = 0, .failed = 0};
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1;
    int result = walk_open(&r.walk, fd);
    if (result == 0)
        result = remove_below(&r);
    int saved = errno;
    walk_close(&r.walk);
    if (result == 0 && rmdir(path) < 0 && errno != ENOENT)
        return -1;
    if (result < 0)
        errno = saved;
    return result;
}

int entry_remove(const char *path)
{
    char plain[PATH_MAX];
    if (str_fmt(plain, sizeof(plain), "%s", path) < 0) {
        errno = ENAMETOOLONG;
        return -1;
    }
    size_t n = strlen(plain);
    while (n > 1 && plain[n - 1] == '/')
        plain[--n] = '\0';
    if (strcmp(plain, "/") == 0 || str_ends(plain, "/.") ||
        str_ends(plain, "/..")) {
        errno = EINVAL;
        return -1;
    }
    if (unlink(plain) == 0 || errno == ENOENT || errno == ENOTDIR)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -1;
    return remove_tree(plain);
}
