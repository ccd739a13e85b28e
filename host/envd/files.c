/* GET /files: a file's content, streamed. Disk work runs on a worker, one block
 * at a time and only while the client takes what was sent, so a download holds
 * a few hundred KiB whatever its size. See envd.h for the doors. */
#include "files.h"
#include "base/fd.h"
#include "base/gzip.h"
#include "base/mem.h"
#include "content.h"
#include "entry.h"
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK ((size_t)128 * 1024)

struct get {
    struct job job;
    struct envd *v;
    struct httpd_req *r; /* NULL: the client has gone */
    bool busy;           /* a job is out */
    char path[PATH_MAX];
    int fd;
    struct stat st;
    int64_t at, left; /* left -1: to the end, whatever its size says */
    bool ended;       /* nothing more to read */
    struct buf block; /* read (and compressed), not yet sent */
    struct gzip *gzip;
    int status; /* of a failure, with e */
    struct err e;
};

/* ---- query --------------------------------------------------------------- */

static int text_param(struct httpd_req *r, const char *name, struct buf *out)
{
    char text[80];
    buf_init(out);
    int found = http1_query(httpd_head(r)->target, name, out);
    buf_append(out, "", 0);
    if (found >= 0 && (!out->data || strlen(out->data) == out->len))
        return found;
    snprintf(text, sizeof(text), "query parameter %s: %s", name,
             found < 0 ? "broken percent-encoding" : "holds a NUL byte");
    httpd_error(r, 400, text);
    return -1;
}

int files_query(struct envd *v, struct httpd_req *r, struct files_query *q)
{
    struct buf name;
    struct err e;
    buf_init(&q->path);
    int r1 = text_param(r, "username", &name);
    const char *who = name.data ? name.data : "";
    if (r1 >= 0 && users_find(v, who, &q->user, &e) < 0) {
        err_wrap(&e, "error looking up user '%.64s'",
                 *who ? who : v->default_user);
        httpd_error(r, 401, e.msg);
        r1 = -1;
    }
    buf_fini(&name);
    if (r1 < 0)
        return -1;
    int found = text_param(r, "path", &q->path);
    q->has_path = found > 0;
    return found < 0 ? -1 : 0;
}

void files_query_fini(struct files_query *q)
{
    buf_fini(&q->path);
}

/* ---- on a worker --------------------------------------------------------- */

static int refuse(struct get *g, int status, const char *fmt)
{
    err_set(&g->e, "internal", "path '%.300s' %s", g->path, fmt);
    g->status = status;
    return -1;
}

/* A FIFO or device must not even be opened: that alone can wait or act. */
static int look(struct get *g)
{
    if (stat(g->path, &g->st) < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return refuse(g, 404, "does not exist");
        g->status = 500;
        return entry_fail(&g->e, "internal",
                          "error checking if path exists '%.200s': stat "
                          "%.200s",
                          g->path, g->path);
    }
    if (S_ISDIR(g->st.st_mode))
        return refuse(g, 400, "is a directory");
    if (!S_ISREG(g->st.st_mode))
        return refuse(g, 400, "is not a regular file");
    return 0;
}

static void read_block(struct get *g, struct buf *out)
{
    size_t want = BLOCK;
    if (g->left >= 0 && g->left < (int64_t)BLOCK)
        want = (size_t)g->left;
    char *p = buf_reserve(out, want);
    ssize_t n;
    do
        n = pread(g->fd, p, want, g->at);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        n = 0; /* some files of /proc would wait for more */
    if (n < 0) {
        g->status = 500;
        entry_fail(&g->e, "internal", "error reading file: read %.300s",
                   g->path);
        return;
    }
    out->len += (size_t)n;
    g->at += n;
    if (g->left >= 0)
        g->left -= n;
    g->ended = n == 0 || g->left == 0;
}

static void open_job(struct job *j)
{
    struct get *g = (struct get *)j;
    if (look(g) < 0)
        return;
    g->fd = open(g->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (g->fd < 0 || fstat(g->fd, &g->st) < 0) {
        g->status = 500;
        entry_fail(&g->e, "internal",
                   "error opening file '%.200s': open %.200s", g->path,
                   g->path);
        return;
    }
    if (!S_ISREG(g->st.st_mode)) {
        refuse(g, 400, "is not a regular file");
        return;
    }
    g->status = 0;
    g->left = g->st.st_size > 0 ? g->st.st_size : -1;
    read_block(g, &g->block);
}

static void compress(struct get *g, const struct buf *raw)
{
    const char *p = raw->data;
    size_t n = raw->len, used = 0;
    int r;
    do {
        r = gzip_run(g->gzip, p, n, &used, g->ended, 2 * BLOCK, &g->block,
                     &g->e);
        p += used;
        n -= used;
    } while (r == 0 && (n > 0 || g->ended));
    if (r < 0)
        g->status = 500;
}

static void read_job(struct job *j)
{
    struct get *g = (struct get *)j;
    g->status = 0;
    if (!g->gzip) {
        if (!g->ended)
            read_block(g, &g->block);
        return;
    }
    struct buf raw;
    buf_init(&raw);
    if (!g->ended)
        read_block(g, &raw);
    if (g->ended && g->left > 0)
        g->status = 500; /* the file shrank: never look complete */
    if (g->status == 0)
        compress(g, &raw);
    buf_fini(&raw);
}

/* ---- on the loop --------------------------------------------------------- */

static void get_free(struct get *g)
{
    fd_close(&g->fd);
    buf_fini(&g->block);
    gzip_free(g->gzip);
    free(g);
}

static void submit(struct get *g, void (*run)(struct job *j),
                   void (*done)(struct job *j))
{
    g->job.run = run;
    g->job.done = done;
    g->busy = true;
    g->status = 503; /* what it says when envd ends before it runs */
    err_set(&g->e, "unavailable", "the sandbox is ending");
    if (work_submit(g->v, &g->job, &g->e) == 0)
        return;
    g->busy = false;
    httpd_reset(g->r);
    get_free(g);
}

static void sent_block(struct job *j);

/* Sends what was read; then reads on, waits for the client, or ends. */
static void send_block(struct get *g)
{
    size_t queued = httpd_write(g->r, g->block.data, g->block.len);
    buf_clear(&g->block);
    /* compressed, the end is only known after a last block */
    bool done = g->ended && !g->gzip;
    if (done && g->left > 0) { /* the file shrank: never look complete */
        httpd_reset(g->r);
        get_free(g);
    } else if (done) {
        httpd_end(g->r);
    } else if (queued <= (size_t)STREAM_HIGH) {
        submit(g, read_job, sent_block);
    }
}

static void sent_block(struct job *j)
{
    struct get *g = (struct get *)j;
    g->busy = false;
    if (!g->r) {
        get_free(g);
        return;
    }
    if (g->status) {
        httpd_reset(g->r); /* the head has gone out: cut it off */
        get_free(g);
        return;
    }
    if (g->gzip && g->ended) {
        gzip_free(g->gzip);
        g->gzip = NULL;
        g->left = 0;
    }
    send_block(g);
}

static void put_headers(struct get *g, const char *type)
{
    char date[40];
    struct buf b;
    buf_init(&b);
    content_disposition(&b, g->path);
    httpd_header(g->r, "Vary", "Accept-Encoding");
    httpd_header(g->r, "Content-Disposition", b.data);
    buf_fini(&b);
    if (type)
        httpd_header(g->r, "Content-Type", type);
    content_date(g->st.st_mtime, date);
    if (g->st.st_mtime > 0 && date[0])
        httpd_header(g->r, "Last-Modified", date);
}

static bool is_head(const struct get *g)
{
    return strcmp(httpd_head(g->r)->method, "HEAD") == 0;
}

static void answer_empty(struct get *g, int status)
{
    httpd_begin(g->r, status, status == 304 ? -1 : 0);
    put_headers(g, NULL);
    httpd_end(g->r);
}

static void answer_bad_range(struct get *g, const char *why)
{
    char text[64];
    snprintf(text, sizeof(text), "bytes */%lld", (long long)g->st.st_size);
    httpd_begin(g->r, 416, (int64_t)strlen(why));
    httpd_header(g->r, "Content-Type", "text/plain; charset=utf-8");
    httpd_header(g->r, "Content-Range", text);
    httpd_write(g->r, why, strlen(why));
    httpd_end(g->r);
}

static void answer_gzip(struct get *g)
{
    const char *type = content_type(g->path);
    httpd_begin(g->r, 200, -1);
    httpd_header(g->r, "Content-Encoding", "gzip");
    put_headers(g, type ? type : "application/octet-stream");
    if (is_head(g)) {
        httpd_end(g->r);
        return;
    }
    g->gzip = gzip_new(true);
    g->at = 0; /* the block already read goes through the worker again */
    g->left = g->st.st_size > 0 ? g->st.st_size : -1;
    g->ended = false;
    buf_clear(&g->block);
    submit(g, read_job, sent_block);
}

static void answer_identity(struct get *g, const char *range)
{
    int64_t size = g->st.st_size, first = 0, last = size - 1;
    const char *type = content_type(g->path);
    char text[96];
    /* /proc says 0 and has content all the same: length unknown */
    bool unknown = size == 0 && g->block.len > 0;
    int part = unknown ? 0 : content_range(range, size, &first, &last);
    if (part < 0) {
        answer_bad_range(g, "invalid range\n");
        return;
    }
    if (!type)
        type = content_sniff(g->block.data, g->block.len);
    int64_t length = part ? last - first + 1 : size;
    httpd_begin(g->r, part ? 206 : 200, unknown ? -1 : length);
    put_headers(g, type);
    httpd_header(g->r, "Accept-Ranges", "bytes");
    if (part) {
        snprintf(text, sizeof(text), "bytes %lld-%lld/%lld", (long long)first,
                 (long long)last, (long long)size);
        httpd_header(g->r, "Content-Range", text);
        buf_clear(&g->block);
        g->at = first;
        g->left = length;
        g->ended = false;
    }
    if (is_head(g) || (length == 0 && !unknown))
        httpd_end(g->r);
    else
        send_block(g);
}

static void opened(struct job *j)
{
    struct get *g = (struct get *)j;
    g->busy = false;
    if (!g->r) {
        get_free(g);
        return;
    }
    if (g->status) {
        httpd_error(g->r, g->status, g->e.msg);
        return;
    }
    const struct http1_head *h = httpd_head(g->r);
    bool use_range, plain = content_conditional(h);
    enum content_coding coding =
        plain ? CONTENT_IDENTITY
              : content_negotiate(http1_get(h, "Accept-Encoding"));
    int status = content_conditions(h, g->st.st_mtime, &use_range);
    if (coding == CONTENT_NEITHER)
        httpd_error(g->r, 406,
                    "error parsing Accept-Encoding: no acceptable encoding "
                    "found, supported: [gzip identity]");
    else if (status)
        answer_empty(g, status);
    else if (coding == CONTENT_GZIP && g->block.len > 0)
        answer_gzip(g);
    else
        answer_identity(g, use_range ? http1_get(h, "Range") : NULL);
}

static void on_body(void *arg, const char *p, size_t n)
{
    (void)arg, (void)p, (void)n;
}

static void on_drain(void *arg)
{
    struct get *g = arg;
    if (!g->busy && g->r)
        submit(g, read_job, sent_block);
}

static void on_abort(void *arg)
{
    struct get *g = arg;
    g->r = NULL;
    if (!g->busy)
        get_free(g);
}

static const struct httpd_req_ops OPS = {on_body, on_drain, on_abort, on_abort};

void files_get(struct envd *v, struct httpd_req *r)
{
    struct files_query q;
    struct err e;
    if (files_query(v, r, &q) < 0) {
        files_query_fini(&q);
        return;
    }
    struct get *g = mem_alloc(sizeof(*g));
    g->v = v;
    g->r = r;
    g->fd = -1;
    buf_init(&g->block);
    const char *path = q.path.data ? q.path.data : "";
    int bad = users_path(v, &q.user, path, g->path, sizeof(g->path), &e);
    files_query_fini(&q);
    httpd_set(r, &OPS, g);
    if (bad < 0)
        httpd_error(r, 400, e.msg);
    else
        submit(g, open_job, opened);
}
