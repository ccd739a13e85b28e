/* File sets of COPY instructions. What is read stays below the context folder,
 * unless the caller asks for links to be followed. */
#include "net/client/archive.h"

#include "base/fd.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MEMBERS_MAX = 1000000, DEPTH_MAX = 200, CHUNK = 128 * 1024 };

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)

void archive_set_add(struct archive_set *s, const char *path)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 64;
        s->paths = mem_realloc(s->paths, s->cap * sizeof(*s->paths));
    }
    s->paths[s->n++] = mem_strdup(path);
}

void archive_set_fini(struct archive_set *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->paths[i]);
    free(s->paths);
    free(s->context);
    memset(s, 0, sizeof(*s));
}

static int open_context(const struct archive_set *s, struct err *e)
{
    int fd = open(s->context, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, NULL, "the context folder %s", s->context);
    return fd;
}

/* ---- list ---- */

static char type_of(mode_t mode)
{
    return S_ISDIR(mode)   ? 'd'
           : S_ISREG(mode) ? 'f'
           : S_ISLNK(mode) ? 'l'
                           : 'o';
}

struct listing {
    struct archive_set *set;
    struct buf *types;
    struct err *err;
};

static int list_dir(struct listing *l, int fd, const char *path, int depth);

static int list_one(struct listing *l, int dir, const char *name,
                    const char *path, int depth)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? 0 : err_errno(l->err, NULL, "%s", path);
    if (l->set->n >= MEMBERS_MAX)
        return err_set(l->err, "template",
                       "more than %d files below %s: copy less, or exclude "
                       "some by .dockerignore",
                       MEMBERS_MAX, l->set->context);
    char type = type_of(st.st_mode);
    archive_set_add(l->set, path);
    buf_append(l->types, &type, 1);
    if (type != 'd')
        return 0;
    int FD_AUTO fd = openat(dir, name, DIR_FLAGS);
    if (fd < 0)
        return err_errno(l->err, NULL, "%s", path);
    return list_dir(l, fd, path, depth + 1);
}

static int list_dir(struct listing *l, int fd, const char *path, int depth)
{
    if (depth > DEPTH_MAX)
        return err_set(l->err, "template",
                       "folders are nested deeper than %d: %.200s", DEPTH_MAX,
                       path);
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR *d = own < 0 ? NULL : fdopendir(own);
    if (!d) {
        err_errno(l->err, NULL, "%s", path);
        fd_close(&own);
        return -1;
    }
    int failed = 0;
    for (struct dirent *n; !failed && (n = readdir(d));) {
        char below[PATH_MAX];
        if (!strcmp(n->d_name, ".") || !strcmp(n->d_name, ".."))
            continue;
        bool root = !strcmp(path, ".");
        if (str_fmt(below, sizeof(below), "%s%s%s", root ? "" : path,
                    root ? "" : "/", n->d_name))
            failed =
                err_set(l->err, "template", "a path is too long: %.200s", path);
        else
            failed = list_one(l, fd, n->d_name, below, depth);
    }
    closedir(d);
    return failed;
}

int archive_set_list(struct archive_set *s, const char *sub, struct buf *types,
                     struct err *e)
{
    struct listing l = {s, types, e};
    int FD_AUTO context = open_context(s, e);
    if (context < 0)
        return -1;
    const char *name = path_base(sub);
    char parent[PATH_MAX];
    size_t n = (size_t)(name - sub);
    if (str_fmt(parent, sizeof(parent), "%.*s", (int)n, sub))
        return err_set(e, "template", "a path is too long: %.200s", sub);
    struct err missing = {0};
    int FD_AUTO dir = path_open_beneath(context, n ? parent : ".",
                                        O_RDONLY | O_DIRECTORY, 0, &missing);
    if (dir < 0) {
        if (missing.errnum == ENOENT || missing.errnum == ENOTDIR)
            return 0;
        return err_set(e, "template", "%s", missing.msg);
    }
    return list_one(&l, dir, name, sub, 0);
}

/* ---- members ---- */

struct member {
    const char *path;
    int fd; /* O_PATH */
    struct stat st;
    char target[PATH_MAX]; /* of a link that is not followed */
    size_t target_len;
};

static void member_close(struct member *m)
{
    fd_close(&m->fd);
}

/* What the link points to, if it is to be followed and there is something. */
static void follow(struct member *m, int context)
{
    struct stat st;
    int fd = openat(context, m->path, O_PATH | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0 &&
        (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))) {
        fd_close(&m->fd);
        m->fd = fd;
        m->st = st;
        return;
    }
    fd_close(&fd);
}

static int member_open(struct member *m, const struct archive_set *s,
                       int context, size_t i, struct err *e)
{
    m->path = s->paths[i];
    m->fd = path_open_beneath(context, m->path, O_PATH | O_NOFOLLOW, 0, e);
    if (m->fd < 0)
        return -1;
    if (fstat(m->fd, &m->st))
        return err_errno(e, NULL, "%s", m->path);
    if (S_ISLNK(m->st.st_mode) && s->follow)
        follow(m, context);
    if (S_ISLNK(m->st.st_mode)) {
        ssize_t n = readlinkat(m->fd, "", m->target, sizeof(m->target) - 1);
        if (n < 0)
            return err_errno(e, NULL, "%s", m->path);
        m->target[n] = '\0';
        m->target_len = (size_t)n;
    } else if (!S_ISREG(m->st.st_mode) && !S_ISDIR(m->st.st_mode)) {
        return err_set(e, "template",
                       "%s is neither file, folder nor link: exclude it by "
                       ".dockerignore",
                       m->path);
    }
    return 0;
}

/* The content of a file; O_PATH descriptors cannot be read themselves. */
static int member_read(const struct member *m, struct err *e)
{
    char self[64];
    (void)str_fmt(self, sizeof(self), "/proc/self/fd/%d", m->fd);
    int fd = open(self, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_errno(e, NULL, "%s", m->path);
    return fd;
}

/* ---- hash ---- */

static int hash_member(struct hash *h, const struct member *m, struct err *e)
{
    char text[64];
    hash_update(h, m->path, strlen(m->path));
    if (S_ISDIR(m->st.st_mode))
        (void)str_fmt(text, sizeof(text), "%u", (unsigned)m->st.st_mode);
    else
        (void)str_fmt(text, sizeof(text), "%u%lld", (unsigned)m->st.st_mode,
                      (long long)m->st.st_size);
    hash_update(h, text, strlen(text));
    if (S_ISLNK(m->st.st_mode))
        hash_update(h, m->target, m->target_len);
    if (!S_ISREG(m->st.st_mode))
        return 0;
    int FD_AUTO fd = member_read(m, e);
    return fd < 0 ? -1 : hash_fd(h, fd, e);
}

int archive_set_hash(const struct archive_set *s, const char *prefix,
                     char out[65], struct err *e)
{
    int FD_AUTO context = open_context(s, e);
    if (context < 0)
        return -1;
    struct hash *h = hash_new();
    hash_update(h, prefix, strlen(prefix));
    int failed = 0;
    for (size_t i = 0; !failed && i < s->n; i++) {
        struct member m = {.fd = -1};
        failed = member_open(&m, s, context, i, e) || hash_member(h, &m, e);
        member_close(&m);
    }
    if (!failed)
        hash_final(h, out);
    hash_free(h);
    return failed ? -1 : 0;
}

/* ---- pack ---- */

static int pack_failed(struct archive *a, const char *path, struct err *e)
{
    int code = archive_errno(a);
    const char *text = archive_error_string(a);
    return err_set(e, code == ENOSPC ? "not_enough_space" : NULL,
                   "cannot pack %s: %s", path, text ? text : "out of memory");
}

/* The header has promised st_size bytes. */
static int pack_content(struct archive *a, const struct member *m,
                        struct err *e)
{
    int FD_AUTO fd = member_read(m, e);
    char *chunk = fd < 0 ? NULL : mem_alloc(CHUNK);
    int64_t left = m->st.st_size;
    int failed = chunk ? 0 : -1;
    while (!failed && left > 0) {
        ssize_t n = fd_read_all(fd, chunk,
                                left < CHUNK ? (size_t)left : (size_t)CHUNK, e);
        if (n == 0)
            err_set(e, "template", "%s became shorter while it was packed",
                    m->path);
        if (n <= 0)
            failed = -1;
        else if (archive_write_data(a, chunk, (size_t)n) != n)
            failed = pack_failed(a, m->path, e);
        left -= n;
    }
    free(chunk);
    return failed;
}

static int pack_member(struct archive *a, const struct member *m, struct err *e)
{
    struct archive_entry *en = archive_entry_new();
    if (!en)
        return err_set(e, NULL, "cannot pack %s: out of memory", m->path);
    archive_entry_set_pathname(en, m->path);
    archive_entry_set_mode(en, m->st.st_mode);
    archive_entry_set_mtime(en, m->st.st_mtim.tv_sec, 0);
    /* Owners are this machine's affair; the builder sets its own. */
    archive_entry_set_uid(en, 0);
    archive_entry_set_gid(en, 0);
    if (S_ISLNK(m->st.st_mode))
        archive_entry_set_symlink(en, m->target);
    archive_entry_set_size(en, S_ISREG(m->st.st_mode) ? m->st.st_size : 0);
    int failed = 0;
    if (archive_write_header(a, en) < ARCHIVE_WARN)
        failed = pack_failed(a, m->path, e);
    else if (S_ISREG(m->st.st_mode))
        failed = pack_content(a, m, e);
    archive_entry_free(en);
    return failed;
}

static int pack_all(const struct archive_set *s, struct archive *a,
                    struct err *e)
{
    int FD_AUTO context = open_context(s, e);
    int failed = context < 0 ? -1 : 0;
    for (size_t i = 0; !failed && i < s->n; i++) {
        struct member m = {.fd = -1};
        failed = member_open(&m, s, context, i, e) || pack_member(a, &m, e);
        member_close(&m);
    }
    return failed ? -1 : 0;
}

static int pack_into(const struct archive_set *s, bool gzip, int fd,
                     struct err *e)
{
    struct archive *a = archive_write_new();
    if (!a)
        return err_set(e, NULL, "cannot pack: out of memory");
    /* GNU's format takes names as bytes; pax wants to translate them. */
    int r = archive_write_set_format_gnutar(a);
    if (r == ARCHIVE_OK && gzip)
        r = archive_write_add_filter_gzip(a);
    if (r == ARCHIVE_OK && gzip)
        r = archive_write_set_options(a, "gzip:!timestamp");
    if (r == ARCHIVE_OK)
        r = archive_write_set_bytes_in_last_block(a, 1);
    if (r == ARCHIVE_OK)
        r = archive_write_open_fd(a, fd);
    int failed =
        r == ARCHIVE_OK ? pack_all(s, a, e) : pack_failed(a, "an archive", e);
    if (!failed && archive_write_close(a) != ARCHIVE_OK)
        failed = pack_failed(a, "an archive", e);
    archive_write_free(a);
    return failed;
}

int archive_set_pack(const struct archive_set *s, bool gzip, char **path,
                     uint64_t *size, struct err *e)
{
    const char *tmp = getenv("TMPDIR");
    char name[PATH_MAX];
    struct stat st;
    if (str_fmt(name, sizeof(name), "%s/e2blua-copy-XXXXXX",
                tmp && *tmp ? tmp : "/tmp"))
        return err_set(e, NULL, "TMPDIR is too long");
    int FD_AUTO fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, NULL, "cannot make a temporary file %s", name);
    int failed = pack_into(s, gzip, fd, e);
    if (!failed && fstat(fd, &st))
        failed = err_errno(e, NULL, "%s", name);
    if (failed) {
        unlink(name);
        return -1;
    }
    *path = mem_strdup(name);
    *size = (uint64_t)st.st_size;
    return 0;
}
