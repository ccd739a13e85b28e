/* EntryInfo: names, types and modes as E2B's envd gives them. See entry.h. */
#include "entry.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/str.h"
#include "envd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

const char *entry_errno(int errnum, char *dst, size_t cap)
{
    char text[96];
    snprintf(dst, cap, "%s", strerror_r(errnum, text, sizeof(text)));
    if (dst[0] >= 'A' && dst[0] <= 'Z')
        dst[0] = (char)(dst[0] - 'A' + 'a');
    return dst;
}

__attribute__((format(printf, 3, 0))) static size_t
format(char *dst, size_t cap, const char *fmt, va_list ap)
{
    int n = vsnprintf(dst, cap, fmt, ap);
    if (n < 0)
        dst[0] = '\0';
    return n < 0 ? 0 : (size_t)n >= cap ? cap - 1 : (size_t)n;
}

int entry_fail(struct err *e, const char *kind, const char *fmt, ...)
{
    int saved = errno;
    char text[96];
    va_list ap;
    va_start(ap, fmt);
    size_t at = format(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    snprintf(e->msg + at, sizeof(e->msg) - at, ": %s",
             entry_errno(saved, text, sizeof(text)));
    e->kind = kind;
    e->errnum = saved;
    errno = saved;
    return -1;
}

static void put(json_t *o, const char *key, json_t *value)
{
    json_object_set_new_nocheck(o, key, value);
}

static void put_text(json_t *o, const char *key, const char *text)
{
    put(o, key, json_bytes(text, strlen(text)));
}

static const char *type_name(mode_t mode)
{
    if (S_ISREG(mode))
        return "FILE_TYPE_FILE";
    if (S_ISDIR(mode))
        return "FILE_TYPE_DIRECTORY";
    return "FILE_TYPE_UNSPECIFIED";
}

/* Go's FileMode.String: letters for the kind, then nine for the permissions. */
static void permissions(mode_t m, char dst[24])
{
    char *p = dst;
    if (S_ISDIR(m))
        *p++ = 'd';
    if (S_ISLNK(m))
        *p++ = 'L';
    if (S_ISBLK(m) || S_ISCHR(m))
        *p++ = 'D';
    if (S_ISFIFO(m))
        *p++ = 'p';
    if (S_ISSOCK(m))
        *p++ = 'S';
    if (m & S_ISUID)
        *p++ = 'u';
    if (m & S_ISGID)
        *p++ = 'g';
    if (S_ISCHR(m))
        *p++ = 'c';
    if (m & S_ISVTX)
        *p++ = 't';
    if (p == dst)
        *p++ = '-';
    for (int i = 0; i < 9; i++)
        *p++ = m & (0400 >> i) ? "rwxrwxrwx"[i] : '-';
    *p = '\0';
}

/* proto3 JSON writes no, three, six or nine digits behind the second. */
static void put_time(json_t *o, const struct timespec *t)
{
    struct tm tm;
    char text[48], frac[16];
    if (!gmtime_r(&t->tv_sec, &tm) || tm.tm_year < -1899 || tm.tm_year > 8099)
        return; /* beyond what a Timestamp may hold */
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(frac, sizeof(frac), ".%09ld", t->tv_nsec);
    size_t digits = t->tv_nsec == 0             ? 0
                    : t->tv_nsec % 1000000 == 0 ? 4
                    : t->tv_nsec % 1000 == 0    ? 7
                                                : 10;
    snprintf(text + n, sizeof(text) - n, "%.*sZ", (int)digits, frac);
    put(o, "modifiedTime", json_string_nocheck(text));
}

static void put_owner(struct entry_names *c, json_t *o, const struct stat *st)
{
    if (!c->has_user || c->uid != st->st_uid) {
        users_name(st->st_uid, c->user, sizeof(c->user));
        c->uid = st->st_uid;
        c->has_user = true;
    }
    if (!c->has_group || c->gid != st->st_gid) {
        users_group_name(st->st_gid, c->group, sizeof(c->group));
        c->gid = st->st_gid;
        c->has_group = true;
    }
    put_text(o, "owner", c->user);
    put_text(o, "group", c->group);
}

/* What a link ends at: type and mode of it, and its whole path. The link's own
 * path stands for a target that cannot be reached. */
static void put_target(json_t *o, int dirfd, const char *at, const char *shown)
{
    char link[64], target[PATH_MAX] = "";
    struct stat st;
    ssize_t n = -1;
    FD_AUTO int fd = openat(dirfd, at, O_PATH | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0) {
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, target, sizeof(target));
    }
    bool found = n > 0 && n < (ssize_t)sizeof(target) && target[0] == '/';
    put(o, "type",
        json_string_nocheck(found ? type_name(st.st_mode)
                                  : "FILE_TYPE_UNSPECIFIED"));
    put(o, "mode", json_integer(found ? st.st_mode & 0777 : 0));
    put(o, "symlinkTarget",
        found ? json_bytes(target, (size_t)n)
              : json_bytes(shown, strlen(shown)));
    put(o, "isSymlink", json_true());
}

static void put_attribute(json_t *o, const char *file, const char *name)
{
    char value[4096];
    ssize_t n = lgetxattr(file, name, value, sizeof(value));
    if (n < 0)
        return;
    const char *key = name + sizeof(ENTRY_XATTR) - 1;
    json_t *text = json_bytes(key, strlen(key));
    put(o, json_string_value(text), json_bytes(value, (size_t)n));
    json_decref(text);
}

static void put_metadata(json_t *o, int dirfd, const char *at)
{
    char file[PATH_MAX], list[64 * 1024]; /* XATTR_LIST_MAX */
    int r = dirfd == AT_FDCWD || at[0] == '/'
                ? str_fmt(file, sizeof(file), "%s", at)
                : str_fmt(file, sizeof(file), "/proc/self/fd/%d/%s", dirfd, at);
    ssize_t n = r < 0 ? -1 : llistxattr(file, list, sizeof(list));
    json_t *found = NULL;
    for (char *p = list; n > 0 && p < list + n; p += strlen(p) + 1) {
        if (!str_starts(p, ENTRY_XATTR))
            continue;
        if (!found)
            found = json_object();
        put_attribute(found, file, p);
    }
    if (found)
        put(o, "metadata", found);
}

/* As Go's: without slashes at the end; the root is "/". */
static void put_name(json_t *o, const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    if (start == end && start > 0)
        start--;
    put(o, "name", json_bytes(path + start, end - start));
}

json_t *entry_info(struct entry_names *names, int dirfd, const char *at,
                   const char *shown)
{
    struct stat st;
    char text[32];
    if (fstatat(dirfd, at, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return NULL;
    json_t *o = json_object();
    put_name(o, shown);
    put_text(o, "path", shown);
    if (S_ISLNK(st.st_mode)) {
        put_target(o, dirfd, at, shown);
    } else {
        put(o, "type", json_string_nocheck(type_name(st.st_mode)));
        put(o, "mode", json_integer(st.st_mode & 0777));
    }
    snprintf(text, sizeof(text), "%lld", (long long)st.st_size);
    put(o, "size", json_string_nocheck(text));
    permissions(st.st_mode, text);
    put(o, "permissions", json_string_nocheck(text));
    put_owner(names, o, &st);
    put_time(o, &st.st_mtim);
    if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
        put_metadata(o, dirfd, at);
    return o;
}
