/* Paths from outside. See path.h. */
#include "path.h"
#include "fd.h"
#include "mem.h"
#include "str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Drops the last component of dst[0..n), never above floor. */
static size_t pop(const char *dst, size_t n, size_t floor)
{
    while (n > floor && dst[n - 1] != '/')
        n--;
    return n > floor && n > 1 ? n - 1 : n;
}

static bool ends_in_dotdot(const char *dst, size_t n, bool absolute)
{
    if (absolute || n < 2 || memcmp(dst + n - 2, "..", 2) != 0)
        return false;
    return n == 2 || dst[n - 3] == '/';
}

int path_clean(char *dst, size_t cap, const char *src)
{
    bool absolute = src[0] == '/';
    size_t n = 0;
    if (cap < 2)
        return -1;
    if (absolute)
        dst[n++] = '/';
    while (*src) {
        size_t len = strcspn(src, "/");
        bool up = len == 2 && src[0] == '.' && src[1] == '.';
        if (up && n > 0 && !ends_in_dotdot(dst, n, absolute)) {
            n = pop(dst, n, absolute ? 1 : 0);
        } else if (len > 0 && !(len == 1 && src[0] == '.') &&
                   !(up && absolute)) {
            if (n > 0 && dst[n - 1] != '/') {
                if (n + 1 >= cap)
                    return -1;
                dst[n++] = '/';
            }
            if (n + len >= cap)
                return -1;
            memcpy(dst + n, src, len);
            n += len;
        }
        src += len;
        while (*src == '/')
            src++;
    }
    if (n == 0)
        dst[n++] = '.';
    dst[n] = '\0';
    return 0;
}

int path_join(char *dst, size_t cap, const char *a, const char *b)
{
    if (b[0] == '/' || a[0] == '\0')
        return str_fmt(dst, cap, "%s", b);
    if (b[0] == '\0')
        return str_fmt(dst, cap, "%s", a);
    return str_fmt(dst, cap, str_ends(a, "/") ? "%s%s" : "%s/%s", a, b);
}

const char *path_base(const char *p)
{
    const char *slash = strrchr(p, '/');
    return slash ? slash + 1 : p;
}

int path_mkdirs(int dirfd, const char *path, mode_t mode, struct err *e)
{
    char tmp[PATH_MAX];
    if (str_fmt(tmp, sizeof(tmp), "%s", path) < 0)
        return err_set(e, "invalid_argument", "path too long: %.60s...", path);
    for (char *p = tmp + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char c = *p;
        *p = '\0';
        if (mkdirat(dirfd, tmp, mode) < 0 && errno != EEXIST)
            return err_errno(e, NULL, "make folder %s", tmp);
        *p = c;
        if (c == '\0')
            break;
    }
    struct stat st;
    if (fstatat(dirfd, path, &st, 0) < 0)
        return err_errno(e, NULL, "folder %s", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(e, "invalid_argument", "%s is not a folder", path);
    return 0;
}

int path_open_beneath(int dirfd, const char *path, int flags, mode_t mode,
                      struct err *e)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long fd;
    do
        fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
    while (fd < 0 && (errno == EINTR || errno == EAGAIN));
    if (fd < 0)
        return err_errno(e, NULL, "open %s", path);
    return (int)fd;
}

DIR *path_opendir(int dirfd, const char *name, int flags)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        fd_close(&fd);
    return d;
}

int path_count(int dirfd, const char *name)
{
    DIR *d = path_opendir(dirfd, name, O_NOFOLLOW);
    int n = 0;
    if (!d)
        return -1;
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2; /* . and .. */
}

static int remove_at(int dirfd, const char *name, dev_t dev, int depth,
                     struct err *e);

static int remove_children(int fd, dev_t dev, int depth, struct err *e)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        fd_close(&fd);
        return err_errno(e, NULL, "read folder");
    }
    int r = 0;
    struct dirent *de;
    while (r == 0 && (errno = 0, de = readdir(d))) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
            continue;
        r = remove_at(dirfd(d), de->d_name, dev, depth + 1, e);
    }
    if (r == 0 && errno)
        r = err_errno(e, NULL, "read folder");
    closedir(d);
    return r;
}

static int remove_at(int dirfd, const char *name, dev_t dev, int depth,
                     struct err *e)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return err_errno(e, NULL, "remove %s", name);
    int fd =
        openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && fchmodat(dirfd, name, 0700, 0) == 0)
        fd = openat(dirfd, name,
                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : err_errno(e, NULL, "remove %s", name);
    struct stat st;
    if (fstat(fd, &st) < 0 || (dev && st.st_dev != dev) || depth > 4000) {
        fd_close(&fd);
        return err_set(e, "internal", "remove %s: crosses a mount", name);
    }
    if (remove_children(fd, st.st_dev, depth, e) < 0)
        return -1;
    if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return err_errno(e, NULL, "remove folder %s", name);
    return 0;
}

int path_remove_tree(int dirfd, const char *name, struct err *e)
{
    return remove_at(dirfd, name, 0, 0, e);
}

int path_write_file(int dirfd, const char *name, const void *p, size_t n,
                    mode_t mode, struct err *e)
{
    char tmp[PATH_MAX], tag[17];
    unsigned char rnd[8];
    str_random(rnd, sizeof(rnd));
    str_hex(tag, rnd, sizeof(rnd));
    if (str_fmt(tmp, sizeof(tmp), "%s.%s.tmp", name, tag) < 0)
        return err_set(e, "invalid_argument", "path too long: %.60s...", name);
    int fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return err_errno(e, NULL, "write %s", name);
    int r = fd_write_all(fd, p, n, e);
    if (r == 0 && fchmod(fd, mode) < 0)
        r = err_errno(e, NULL, "mode");
    if (r == 0 && fdatasync(fd) < 0 && errno != EINVAL)
        r = err_errno(e, NULL, "sync");
    fd_close(&fd);
    if (r == 0 && renameat(dirfd, tmp, dirfd, name) < 0)
        r = err_errno(e, NULL, "rename");
    if (r < 0) {
        unlinkat(dirfd, tmp, 0);
        return err_wrap(e, "write %s", name);
    }
    return 0;
}

static int open_file(int dirfd, const char *name, struct stat *st,
                     struct err *e)
{
    int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
    st->st_mode = 0;
    if (fd >= 0 && fstat(fd, st) == 0 && !S_ISDIR(st->st_mode))
        return fd;
    if (S_ISDIR(st->st_mode))
        err_set(e, "invalid_argument", "read %s: is a folder", name);
    else
        err_errno(e, NULL, "read %s", name);
    fd_close(&fd);
    return -1;
}

char *path_read_file(int dirfd, const char *name, size_t max, size_t *n,
                     struct err *e)
{
    struct stat st;
    FD_AUTO int fd = open_file(dirfd, name, &st, e);
    if (fd < 0)
        return NULL;
    size_t cap = st.st_size > 0 ? (size_t)st.st_size : 4096, len = 0;
    char *data = NULL;
    for (;;) {
        if (cap > max)
            cap = max + 1; /* one more byte shows that it is too large */
        data = mem_realloc(data, cap + 1);
        ssize_t r = fd_read_all(fd, data + len, cap - len, e);
        if (r < 0) {
            free(data);
            err_wrap(e, "read %s", name);
            return NULL;
        }
        len += (size_t)r;
        if (len > max) {
            free(data);
            err_set(e, "invalid_argument", "read %s: over %zu bytes", name,
                    max);
            return NULL;
        }
        if (len < cap)
            break;
        cap = cap * 2 + 1;
    }
    data[len] = '\0';
    if (n)
        *n = len;
    return data;
}
