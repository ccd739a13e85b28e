/* What a layer's tree is: a digest of all of it, its size. */
#include "layers.h"

#include "base/fd.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/str.h"
#include "rootless.h"

#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { DEPTH_MAX = 1000 };

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)

struct walk {
    struct hash *hash; /* NULL: only sizes are asked for */
    struct layers_sum *sum;
    struct err *err;
    uint32_t shift; /* of owners on disk */
};

static void feed(const struct walk *w, const void *p, size_t n)
{
    if (w->hash)
        hash_update(w->hash, p, n);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted names in the folder; the caller frees them and the array. */
static int read_names(int dir, char ***names, size_t *count, struct err *e)
{
    DIR *d = path_opendir(dir, ".", 0);
    if (!d)
        return err_errno(e, NULL, "cannot read a folder");
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

static int walk_link(struct walk *w, int dir, const char *name)
{
    char target[4096];
    ssize_t n = readlinkat(dir, name, target, sizeof(target));
    if (n < 0)
        return err_errno(w->err, NULL, "%s", name);
    feed(w, target, (size_t)n);
    return 0;
}

/* Capabilities say whose root they are for: the sandbox's own is left out, as
 * inside. */
static size_t plain_caps(const struct walk *w, unsigned char *caps, size_t n)
{
    struct vfs_ns_cap_data c;
    if (n != sizeof(c))
        return n;
    memcpy(&c, caps, sizeof(c));
    if ((le32toh(c.magic_etc) & VFS_CAP_REVISION_MASK) != VFS_CAP_REVISION_3 ||
        le32toh(c.rootid) != w->shift)
        return n;
    c.magic_etc = htole32((le32toh(c.magic_etc) & ~VFS_CAP_REVISION_MASK) |
                          VFS_CAP_REVISION_2);
    memcpy(caps, &c, sizeof(c));
    return sizeof(struct vfs_cap_data);
}

static int walk_file(struct walk *w, int dir, const char *name)
{
    unsigned char caps[64];
    int FD_AUTO fd = openat(
        dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return err_errno(w->err, NULL, "%s", name);
    ssize_t n = fgetxattr(fd, "security.capability", caps, sizeof(caps));
    if (n > 0)
        feed(w, caps, plain_caps(w, caps, (size_t)n));
    return hash_fd(w->hash, fd, w->err) ? err_wrap(w->err, "%s", name) : 0;
}

/* The entry; a folder is followed by its own. */
static int walk_entry(struct walk *w, int dir, const char *name, int depth)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
        return err_errno(w->err, NULL, "%s", name);
    bool folder = S_ISDIR(st.st_mode);
    w->sum->files++;
    w->sum->bytes += (uint64_t)st.st_blocks * 512 / (folder ? 1 : st.st_nlink);
    char line[160];
    (void)str_fmt(line, sizeof(line), "%o %u:%u %lld %u:%u", st.st_mode,
                  (unsigned)st.st_uid - w->shift,
                  (unsigned)st.st_gid - w->shift,
                  folder ? 0LL : (long long)st.st_size, major(st.st_rdev),
                  minor(st.st_rdev));
    feed(w, name, strlen(name) + 1);
    feed(w, line, strlen(line) + 1);
    if (S_ISLNK(st.st_mode) && w->hash)
        return walk_link(w, dir, name);
    if (S_ISREG(st.st_mode) && w->hash)
        return walk_file(w, dir, name);
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
        feed(w, "opaque", 7);
    if (read_names(dir, &names, &n, w->err))
        return -1;
    if (depth == 0)
        w->sum->top = (int)n;
    int failed = 0;
    for (size_t i = 0; i < n; i++) {
        failed = failed ? -1 : walk_entry(w, dir, names[i], depth);
        free(names[i]);
    }
    free(names);
    feed(w, "/", 2); /* the folder's end */
    return failed;
}

static int walk(struct walk *w, int fs)
{
    int FD_AUTO dir = openat(fs, ".", DIR_FLAGS); /* fs may be O_PATH */
    if (dir < 0)
        return err_errno(w->err, NULL, "cannot read a layer");
    struct rootless_ids ids;
    rootless_ids(&ids);
    w->shift = ids.idmap ? 0 : ids.first;
    memset(w->sum, 0, sizeof(*w->sum));
    return walk_dir(w, dir, 0);
}

int layers_measure(int fs, struct layers_sum *sum, struct err *e)
{
    struct walk w = {.hash = hash_new(), .sum = sum, .err = e};
    int failed = walk(&w, fs);
    if (!failed)
        hash_final(w.hash, sum->digest);
    hash_free(w.hash);
    return failed ? err_wrap(e, "digest of a layer") : 0;
}

uint64_t layers_bytes(int fs)
{
    struct layers_sum sum = {0};
    struct walk w = {.sum = &sum};
    return walk(&w, fs) == 0 ? sum.bytes : 0;
}
