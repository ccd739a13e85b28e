/* Writing uploads. See upload.h.
 *
 * A file is written in place, as E2B's envd does, not under another name and
 * renamed: clients count the events of a watched folder (CREATE, CHMOD, WRITE
 * for a new file), and programs that have the file open, hard links and files
 * that are mount points (/etc/hosts) must see the new content. What a cut
 * upload leaves: a file that was not there before goes away again, one that was
 * keeps what had arrived. */
#include "upload.h"
#include "base/fd.h"
#include "base/gzip.h"
#include "base/mem.h"
#include "base/path.h"
#include "entry.h"
#include "metadata.h"
#include "net/core/multipart.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PLAIN_MAX = 256 * 1024 };

struct upload {
    struct envd paths; /* only what users_path looks at */
    struct user user;
    char *path, *workdir;
    int64_t length;
    json_t *metadata, *answer, *seen; /* seen: resolved paths as keys */
    struct multipart *multipart;
    struct gzip *gzip;
    bool gzip_ended;
    struct buf plain;   /* decompressed */
    struct buf pending; /* not yet written: one write for a small file */
    int fd;             /* of the file being written, -1 none */
    bool created;
    char target[PATH_MAX];
    int status;
    struct err e;
};

__attribute__((format(printf, 3, 4))) static int
fail(struct upload *u, int status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(u->e.msg, sizeof(u->e.msg), fmt, ap) < 0)
        u->e.msg[0] = '\0';
    va_end(ap);
    u->status = status;
    return -1;
}

/* With the text of errno behind it; a full disk is always 507. */
__attribute__((format(printf, 3, 4))) static int
fail_errno(struct upload *u, const char *what, const char *fmt, ...)
{
    int saved = errno;
    char more[320], text[96];
    bool full = saved == ENOSPC || saved == EDQUOT;
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(more, sizeof(more), fmt, ap) < 0)
        more[0] = '\0';
    va_end(ap);
    return fail(u, full ? 507 : 500, "%s: %s: %s",
                full ? "not enough inodes available" : what, more,
                entry_errno(saved, text, sizeof(text)));
}

/* ---- one file ------------------------------------------------------------ */

static int make_parents(struct upload *u)
{
    char parent[PATH_MAX];
    struct err e = {.errnum = 0};
    size_t n = (size_t)(path_base(u->target) - u->target);
    memcpy(parent, u->target, n);
    parent[n] = '\0';
    if (entry_make_dirs(parent, u->user.uid, u->user.gid, &e) == 0)
        return 0;
    bool full = e.errnum == ENOSPC || e.errnum == EDQUOT;
    return fail(u, full ? 507 : 500, "%s: %s",
                full ? "not enough inodes available"
                     : "error ensuring directories",
                e.msg);
}

/* Existing files are opened without O_CREAT: with it the kernel may refuse even
 * root in folders like /tmp (fs.protected_regular). */
static int open_target(struct upload *u)
{
    int flags = O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    u->created = true;
    u->fd = open(u->target, flags | O_CREAT | O_EXCL, 0666);
    if (u->fd >= 0 || errno != EEXIST)
        return u->fd;
    u->created = false;
    u->fd = open(u->target, flags);
    if (u->fd < 0 && errno == ENOENT) /* a link to what is not there yet */
        u->fd = open(u->target, flags | O_CREAT, 0666);
    return u->fd;
}

/* In the order that E2B's clients see as events: made, owned, emptied. */
static int prepare_target(struct upload *u)
{
    struct stat st;
    if (fstat(u->fd, &st) < 0)
        return fail_errno(u, "error getting file info", "stat %.200s",
                          u->target);
    if (!S_ISREG(st.st_mode))
        return fail(u, 400, "path is not a regular file: %.300s", u->target);
    bool mine = st.st_uid == u->user.uid && st.st_gid == u->user.gid;
    if ((u->created || !mine) && fchown(u->fd, u->user.uid, u->user.gid) < 0)
        return fail_errno(u, "error changing file ownership", "chown %.200s",
                          u->target);
    if (metadata_store(u->fd, u->metadata) < 0)
        return fail_errno(u, "error storing metadata", "%.200s", u->target);
    if (st.st_size > 0 && ftruncate(u->fd, 0) < 0)
        return fail_errno(u, "error opening file", "truncate %.200s",
                          u->target);
    return 0;
}

static int note_path(struct upload *u)
{
    /* keys of an object are compared as bytes, also when not UTF-8 */
    if (json_object_get(u->seen, u->target))
        return fail(u, 400,
                    "you cannot upload multiple files to the same path "
                    "'%.300s' in one upload request, only the first specified "
                    "file was uploaded",
                    u->target);
    json_object_set_new_nocheck(u->seen, u->target, json_true());
    return 0;
}

static int begin_file(struct upload *u, const char *path)
{
    struct stat st;
    if (users_path(&u->paths, &u->user, path, u->target, sizeof(u->target),
                   &u->e) < 0) {
        u->status = 400;
        return -1;
    }
    if (note_path(u) < 0)
        return -1;
    bool there = stat(u->target, &st) == 0;
    if (!path_base(u->target)[0] || (there && S_ISDIR(st.st_mode)))
        return fail(u, 400, "path is a directory: %.300s", u->target);
    /* a FIFO must not be opened, nor a device */
    if (there && !S_ISREG(st.st_mode))
        return fail(u, 400, "path is not a regular file: %.300s", u->target);
    if (!there && make_parents(u) < 0)
        return -1;
    if (open_target(u) < 0)
        return fail_errno(u, "error opening file", "open %.200s", u->target);
    return prepare_target(u);
}

static int write_out(struct upload *u, const char *p, size_t left)
{
    while (left > 0) {
        ssize_t n = write(u->fd, p, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != ENOSPC && errno != EDQUOT)
            return fail_errno(u, "error writing file", "write %.200s",
                              u->target);
        if (n < 0 && u->length > 0)
            return fail(u, 507,
                        "attempted to write %lld bytes: not enough disk space "
                        "available",
                        (long long)u->length);
        if (n < 0)
            return fail(u, 507, "not enough disk space available");
        p += n;
        left -= (size_t)n;
    }
    return 0;
}

static int flush(struct upload *u)
{
    int r = write_out(u, u->pending.data, u->pending.len);
    buf_clear(&u->pending);
    return r;
}

static int write_file(struct upload *u, const char *p, size_t n)
{
    if (u->pending.len == 0 && n >= UPLOAD_PIECE)
        return write_out(u, p, n);
    buf_append(&u->pending, p, n);
    return u->pending.len >= UPLOAD_PIECE ? flush(u) : 0;
}

static int end_file(struct upload *u)
{
    if (flush(u) < 0)
        return -1;
    /* network file systems tell of a full disk here */
    int fd = u->fd;
    u->fd = -1;
    if (close(fd) < 0 && errno != EINTR)
        return fail_errno(u, "error writing file", "close %.200s", u->target);
    const char *name = path_base(u->target);
    json_t *o = json_object();
    json_object_set_new_nocheck(o, "path",
                                json_bytes(u->target, strlen(u->target)));
    json_object_set_new_nocheck(o, "name", json_bytes(name, strlen(name)));
    json_object_set_new_nocheck(o, "type", json_string_nocheck("file"));
    if (json_object_size(u->metadata) > 0)
        json_object_set_nocheck(o, "metadata", u->metadata);
    json_array_append_new(u->answer, o);
    return 0;
}

/* Takes back what an unfinished upload made, if it is still that file. */
static void undo(struct upload *u)
{
    struct stat a, b;
    if (u->fd < 0)
        return;
    if (u->created && fstat(u->fd, &a) == 0 && lstat(u->target, &b) == 0 &&
        a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        unlink(u->target);
    fd_close(&u->fd);
}

/* ---- multipart ----------------------------------------------------------- */

static int on_part(void *arg, const char *name, const char *filename,
                   struct err *e)
{
    struct upload *u = arg;
    (void)e;
    if (strcmp(name, "file") != 0)
        return 0;
    if (!u->path && !filename)
        return fail(u, 400,
                    "error getting multipart custom part file name: filename "
                    "not found in Content-Disposition header");
    return begin_file(u, u->path ? u->path : filename);
}

static int on_data(void *arg, const char *p, size_t n, struct err *e)
{
    struct upload *u = arg;
    (void)e;
    return u->fd < 0 ? 0 : write_file(u, p, n);
}

static int on_end(void *arg, struct err *e)
{
    struct upload *u = arg;
    (void)e;
    return u->fd < 0 ? 0 : end_file(u);
}

static const struct multipart_ops OPS = {on_part, on_data, on_end};

/* What multipart says unless one of ours had failed before. */
static int multipart_failed(struct upload *u, const struct err *e)
{
    return u->status
               ? -1
               : fail(u, 400, "error reading multipart body: %.400s", e->msg);
}

/* ---- the body ------------------------------------------------------------ */

static int take(struct upload *u, const char *p, size_t n)
{
    struct err e;
    if (!u->multipart)
        return write_file(u, p, n);
    if (multipart_feed(u->multipart, p, n, &e) < 0)
        return multipart_failed(u, &e);
    return 0;
}

/* A gzip body may be several members one behind the other. */
static int next_member(struct upload *u, char first)
{
    if (first != '\x1f')
        return fail(u, 400,
                    "error reading gzip body: bytes behind the end of the "
                    "compressed data");
    gzip_free(u->gzip);
    u->gzip = gzip_new(false);
    u->gzip_ended = false;
    return 0;
}

static int gunzip(struct upload *u, const char *p, size_t n)
{
    for (;;) {
        struct err e;
        size_t used = 0;
        if (u->gzip_ended && n > 0 && next_member(u, *p) < 0)
            return -1;
        int r = gzip_run(u->gzip, p, n, &used, false, PLAIN_MAX, &u->plain, &e);
        if (r < 0)
            return fail(u, 400, "error reading gzip body: %.400s", e.msg);
        p += used;
        n -= used;
        size_t got = u->plain.len;
        if (got > 0 && take(u, u->plain.data, got) < 0)
            return -1;
        buf_clear(&u->plain);
        u->gzip_ended = r == 1;
        if (n == 0 && got < PLAIN_MAX)
            return 0;
    }
}

static int feed(struct upload *u, const char *p, size_t n)
{
    if (u->status)
        return -1;
    if (!u->multipart && u->fd < 0 && begin_file(u, u->path) < 0)
        return -1;
    if (n == 0)
        return 0;
    return u->gzip ? gunzip(u, p, n) : take(u, p, n);
}

static int finish(struct upload *u)
{
    struct err e;
    if (feed(u, NULL, 0) < 0)
        return -1;
    if (u->gzip && !u->gzip_ended)
        return fail(u, 400,
                    "error reading gzip body: unexpected end of the data");
    if (!u->multipart)
        return end_file(u);
    if (multipart_finish(u->multipart, &e) < 0)
        return multipart_failed(u, &e);
    if (json_array_size(u->answer) == 0)
        return fail(u, 400,
                    "no part named 'file' in the multipart body: nothing was "
                    "uploaded");
    return 0;
}

/* Undone before the answer: who gets 507 may look at the disk at once. */
int upload_feed(struct upload *u, const char *p, size_t n)
{
    int r = feed(u, p, n);
    if (r < 0)
        undo(u);
    return r;
}

int upload_finish(struct upload *u)
{
    int r = finish(u);
    if (r < 0)
        undo(u);
    return r;
}

const json_t *upload_answer(const struct upload *u)
{
    return u->answer;
}

int upload_status(const struct upload *u)
{
    return u->status;
}

const char *upload_message(const struct upload *u)
{
    return u->e.msg;
}

struct upload *upload_new(const struct upload_want *want, json_t *metadata,
                          struct err *e)
{
    struct upload *u = mem_alloc(sizeof(*u));
    u->fd = -1;
    u->user = *want->user;
    u->length = want->length;
    u->metadata = metadata;
    u->answer = json_array();
    u->seen = json_object();
    u->path = want->path ? mem_strdup(want->path) : NULL;
    u->workdir = want->workdir ? mem_strdup(want->workdir) : NULL;
    u->paths.default_workdir = u->workdir;
    buf_init(&u->plain);
    buf_init(&u->pending);
    if (want->gzip)
        u->gzip = gzip_new(false);
    if (want->content_type &&
        !(u->multipart = multipart_new(want->content_type, &OPS, u, e))) {
        upload_free(u);
        return NULL;
    }
    return u;
}

void upload_free(struct upload *u)
{
    if (!u)
        return;
    undo(u);
    multipart_free(u->multipart);
    gzip_free(u->gzip);
    buf_fini(&u->plain);
    buf_fini(&u->pending);
    json_decref(u->metadata);
    json_decref(u->answer);
    json_decref(u->seen);
    free(u->path);
    free(u->workdir);
    free(u);
}
