/* POST /files: collects the body while a worker writes what came before.
 * Reading from the client stops when HIGH bytes wait, so an upload holds some
 * hundred KiB whatever its size. */
#include "base/mem.h"
#include "base/str.h"
#include "files.h"
#include "metadata.h"
#include "upload.h"
#include "work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HIGH = UPLOAD_PIECE };

struct post {
    struct job job;
    struct envd *v;
    struct httpd_req *r; /* NULL: the client has gone */
    struct upload *upload;
    struct buf in; /* from the client */
    bool busy, paused, answered, begun;
    bool body_ended; /* by the client */
    /* the worker's while busy */
    struct buf work;
    bool last; /* work holds the end of the body */
    bool failed;
};

/* ---- on a worker --------------------------------------------------------- */

static void write_job(struct job *j)
{
    struct post *p = (struct post *)j;
    int r = upload_feed(p->upload, p->work.data, p->work.len);
    if (r == 0 && p->last)
        r = upload_finish(p->upload);
    p->failed = r < 0;
    buf_clear(&p->work);
}

static void free_job(struct job *j)
{
    struct post *p = (struct post *)j;
    upload_free(p->upload);
    p->upload = NULL;
}

/* ---- on the loop --------------------------------------------------------- */

static void freed(struct job *j)
{
    struct post *p = (struct post *)j;
    upload_free(p->upload); /* when envd ends, the job did not run */
    buf_fini(&p->in);
    buf_fini(&p->work);
    free(p);
}

/* The last thing done to p: closing and removing may wait for the disk. */
static void post_free(struct post *p)
{
    p->job.run = free_job;
    p->job.done = freed;
    if (work_submit(p->v, &p->job, NULL) < 0)
        freed(&p->job);
}

static void answer(struct post *p)
{
    struct buf b;
    p->answered = true;
    if (p->failed) {
        int status = upload_status(p->upload);
        httpd_error(p->r, status ? status : 503,
                    status ? upload_message(p->upload)
                           : "the sandbox is ending");
        return;
    }
    buf_init(&b);
    json_write(&b, upload_answer(p->upload));
    httpd_reply(p->r, 200, "application/json", b.data, b.len);
    buf_fini(&b);
}

static void wrote(struct job *j);

/* Gives the worker what has come, if it is idle. */
static void kick(struct post *p)
{
    struct err e;
    if (p->busy || p->answered || (p->in.len == 0 && !p->body_ended))
        return;
    /* The file is made at once, and then written in large pieces only. */
    if (p->begun && p->in.len < UPLOAD_PIECE && !p->body_ended)
        return;
    p->begun = true;
    struct buf empty = p->work;
    p->work = p->in;
    p->in = empty;
    if (p->paused)
        httpd_read(p->r, true);
    p->paused = false;
    p->last = p->body_ended;
    p->job.run = write_job;
    p->job.done = wrote;
    p->failed = true; /* unless the job runs */
    p->busy = true;
    if (work_submit(p->v, &p->job, &e) < 0) {
        p->busy = false;
        p->answered = true;
        httpd_error(p->r, 500, e.msg);
    }
}

static void wrote(struct job *j)
{
    struct post *p = (struct post *)j;
    p->busy = false;
    if (!p->r) {
        post_free(p);
        return;
    }
    if (p->failed || p->last) {
        answer(p);
        return;
    }
    kick(p);
}

static void on_body(void *arg, const char *data, size_t n)
{
    struct post *p = arg;
    if (p->answered)
        return;
    if (n == 0)
        p->body_ended = true;
    buf_append(&p->in, data, n);
    if (p->busy && p->in.len > HIGH && !p->body_ended) {
        p->paused = true;
        httpd_read(p->r, false);
    }
    kick(p);
}

static void on_drain(void *arg)
{
    (void)arg;
}

static void on_gone(void *arg)
{
    struct post *p = arg;
    p->r = NULL;
    if (!p->busy)
        post_free(p);
}

static const struct httpd_req_ops OPS = {on_body, on_drain, on_gone, on_gone};

/* ---- the request --------------------------------------------------------- */

static bool media_type_is(const char *given, const char *type)
{
    size_t n = strcspn(given, "; \t");
    char *text = mem_strndup(given, n);
    bool same = str_ieq(text, type);
    free(text);
    return same;
}

/* Fills what the headers say; -1: e->msg is for a 400. */
static int read_head(const struct http1_head *h, const struct files_query *q,
                     struct upload_want *w, struct err *e)
{
    const char *coding = http1_get(h, "Content-Encoding");
    const char *type = http1_get(h, "Content-Type");
    w->user = &q->user;
    w->path = q->has_path ? (q->path.data ? q->path.data : "") : NULL;
    w->length = h->length;
    w->gzip = coding && str_ieq(coding, "gzip");
    if (coding && !w->gzip && !str_ieq(coding, "identity") && coding[0])
        return err_set(e, "invalid_argument",
                       "unsupported Content-Encoding: %.100s, supported: "
                       "[gzip]",
                       coding);
    type = type ? type : "";
    if (media_type_is(type, "multipart/form-data")) {
        w->content_type = type;
        return 0;
    }
    if (!media_type_is(type, "application/octet-stream"))
        return err_set(e, "invalid_argument",
                       "unsupported content type: %.200s, expected "
                       "multipart/form-data or application/octet-stream",
                       type);
    if (!w->path)
        return err_set(e, "invalid_argument",
                       "path query parameter is required for raw body upload");
    return 0;
}

static struct upload *start(struct envd *v, const struct http1_head *h,
                            const struct files_query *q, struct err *e)
{
    struct upload_want w = {.workdir = v->default_workdir};
    json_t *metadata = metadata_read(h, e);
    if (!metadata)
        return NULL;
    if (read_head(h, q, &w, e) < 0) {
        json_decref(metadata);
        return NULL;
    }
    return upload_new(&w, metadata, e);
}

void files_post(struct envd *v, struct httpd_req *r)
{
    struct files_query q;
    struct err e;
    if (files_query(v, r, &q) == 0) {
        struct upload *u = start(v, httpd_head(r), &q, &e);
        if (u) {
            struct post *p = mem_alloc(sizeof(*p));
            p->v = v;
            p->r = r;
            p->upload = u;
            buf_init(&p->in);
            buf_init(&p->work);
            httpd_set(r, &OPS, p);
            httpd_read(r, true);
        } else {
            httpd_error(r, 400, e.msg);
        }
    }
    files_query_fini(&q);
}
