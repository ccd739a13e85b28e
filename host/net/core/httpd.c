/* HTTP/1.1 server. See httpd.h. A connection serves one request at a time and
 * is its httpd_req: what a handler calls "the request" ends with `done` or
 * `abort`, the connection may go on with the next one. */
#include "httpd.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HEAD_MS = 30 * 1000,
    IDLE_MS = 640 * 1000,
    DISCARD_MS = 1000,
    DISCARD_MAX = 1024 * 1024,
    SMALL_MAX = 16 * 1024,
};

struct listener {
    struct listener *next;
    struct httpd *server;
    struct stream_listen *listen;
};

struct httpd {
    struct loop *loop;
    const struct httpd_ops *ops;
    void *arg;
    struct listener *listeners;
    struct httpd_req *conns;
    unsigned count;
    bool closing;
};

enum state {
    WAITING,   /* for a head */
    HANDLING,  /* the handler has the request */
    FINISHING, /* answered; the rest of the request's body is discarded */
    LINGERING, /* closing: what still comes is discarded until the peer ends */
};

struct httpd_req {
    struct httpd_req *next, **at;
    struct httpd *server;
    struct stream *stream;
    struct http1_parser *parser;
    const struct httpd_req_ops *ops;
    void *arg;
    enum state state;
    bool unix_peer, in_head, has_body, body_read, body_ended, body_told;
    bool begun, head_sent, chunked, bodiless, close_after, until_close;
    bool busy, dead;
    int status;
    int64_t left; /* bytes of the announced length, -1: none announced */
    size_t discarded, stalled;
    struct buf head;   /* the answer's, until it is sent */
    struct buf always; /* headers that it has in any case */
    const char *cur;   /* what the parser has not seen yet */
    size_t ncur;
    struct loop_timer *limit; /* idle, head, discard */
    struct loop_timer *soon;  /* work that may not run inside a call */
};

static void no_body(void *arg, const char *p, size_t n)
{
    (void)arg, (void)p, (void)n;
}

static void nothing(void *arg)
{
    (void)arg;
}

static const struct httpd_req_ops NO_OPS = {no_body, nothing, nothing, nothing};

/* ---- the connection's end ------------------------------------------------ */

static void unlink_conn(struct httpd_req *c)
{
    *c->at = c->next;
    if (c->next)
        c->next->at = c->at;
    c->server->count--;
}

/* Frees what is free to go; the memory itself stays while a callback of the
 * stream is on the C stack. */
static void destroy(struct httpd_req *c)
{
    bool busy = c->busy;
    if (c->dead)
        return; /* unpin frees it */
    c->dead = true;
    unlink_conn(c);
    loop_timer_stop(c->limit);
    loop_timer_stop(c->soon);
    http1_free(c->parser);
    buf_fini(&c->head);
    buf_fini(&c->always);
    if (!busy)
        free(c);
}

static void hang_up(struct httpd_req *c, bool flush)
{
    if (c->stream)
        stream_close(c->stream, flush);
    c->stream = NULL;
    destroy(c);
}

static void finish(struct httpd_req *c);

static void over(void *arg)
{
    struct httpd_req *c = arg;
    if (c->state == FINISHING) {
        finish(c);
        return;
    }
    size_t queued = stream_queued(c->stream);
    if (c->state == LINGERING && queued > 0 && queued != c->stalled) {
        c->stalled = queued; /* the peer is slow, not gone */
        loop_after(c->server->loop, HEAD_MS, over, c, &c->limit);
        return;
    }
    hang_up(c, false);
}

static void set_limit(struct httpd_req *c, uint64_t ms)
{
    loop_timer_stop(c->limit);
    loop_after(c->server->loop, ms, over, c, &c->limit);
}

/* Closing at once with unread input makes the kernel send a reset, and the
 * answer may be lost: end our side and read the peer's for a while. */
static void linger(struct httpd_req *c)
{
    c->state = LINGERING;
    set_limit(c, DISCARD_MS);
    stream_shutdown(c->stream);
    stream_read(c->stream, true);
}

static void aborted(struct httpd_req *c)
{
    const struct httpd_req_ops *ops = c->ops;
    void *arg = c->arg;
    enum state state = c->state;
    c->ops = &NO_OPS;
    hang_up(c, state == FINISHING);
    if (state == HANDLING)
        ops->abort(arg);
    else if (state == FINISHING)
        ops->done(arg);
}

/* ---- requests ------------------------------------------------------------ */

static void later(void *arg);

static void soon(struct httpd_req *c)
{
    if (!c->soon)
        loop_after(c->server->loop, 0, later, c, &c->soon);
}

static void await(struct httpd_req *c)
{
    c->state = WAITING;
    c->ops = &NO_OPS;
    c->in_head = c->has_body = c->body_read = false;
    c->body_ended = c->body_told = false;
    c->begun = c->head_sent = c->chunked = c->bodiless = false;
    c->until_close = false;
    c->left = -1;
    c->discarded = 0;
    buf_clear(&c->head);
    buf_clear(&c->always);
    set_limit(c, IDLE_MS);
    stream_read(c->stream, true);
}

/* The answer is queued and the body consumed: on with the next one. */
static void finish(struct httpd_req *c)
{
    const struct httpd_req_ops *ops = c->ops;
    void *arg = c->arg;
    bool close_now = c->close_after || c->until_close || c->server->closing;
    c->ops = &NO_OPS;
    if (!c->body_ended || close_now) {
        linger(c);
    } else {
        http1_next(c->parser);
        await(c);
    }
    ops->done(arg);
}

static bool wants_more(const struct httpd_req *c)
{
    return c->state == WAITING || c->state == LINGERING ||
           (c->state == FINISHING && !c->body_ended) ||
           (c->state == HANDLING && (c->body_ended || c->body_read));
}

static void dispatch(struct httpd_req *c)
{
    const struct http1_head *h = http1_head(c->parser);
    loop_timer_stop(c->limit);
    c->state = HANDLING;
    c->has_body = h->chunked || h->length > 0;
    c->close_after = !h->keep_alive;
    c->server->ops->request(c->server->arg, c);
}

static void took_body(struct httpd_req *c, const char *p, size_t n)
{
    if (c->state == FINISHING) {
        c->discarded += n;
        if (c->discarded > DISCARD_MAX)
            finish(c);
        return;
    }
    c->ops->body(c->arg, p, n);
}

static void took_end(struct httpd_req *c)
{
    c->body_ended = true;
    if (c->state == FINISHING)
        soon(c);
    else if (c->state == HANDLING && c->body_read && !c->body_told) {
        c->body_told = true;
        c->ops->body(c->arg, NULL, 0);
    }
}

static void bad_request(struct httpd_req *c, const struct err *e)
{
    if (c->state == HANDLING) {
        aborted(c);
        return;
    }
    if (c->state == FINISHING) {
        finish(c);
        return;
    }
    c->state = HANDLING;
    c->body_ended = true;
    c->close_after = true;
    httpd_error(c, http1_status(c->parser), e->msg);
}

/* Feeds the parser one event's worth; false: stop for now. */
static bool step(struct httpd_req *c)
{
    struct err e;
    size_t used = 0, nbody = 0;
    const char *body = NULL;
    if (c->state == WAITING && !c->in_head && c->ncur > 0) {
        c->in_head = true;
        set_limit(c, HEAD_MS);
    }
    enum http1_event ev =
        http1_feed(c->parser, c->cur, c->ncur, &used, &body, &nbody, &e);
    c->cur += used;
    c->ncur -= used;
    switch (ev) {
    case HTTP1_HEAD:
        dispatch(c);
        break;
    case HTTP1_BODY:
        took_body(c, body, nbody);
        break;
    case HTTP1_END:
        took_end(c);
        break;
    case HTTP1_MORE:
        return false;
    case HTTP1_ERROR:
        bad_request(c, &e);
        return false;
    }
    return !c->dead;
}

/* Whether the parser may go on: it waits for the handler to read the body, and
 * with the next request for the end of this one. */
static bool may_parse(const struct httpd_req *c)
{
    if (c->state == WAITING)
        return stream_queued(c->stream) <= STREAM_HIGH;
    if (c->state == LINGERING || c->body_ended)
        return false;
    return c->state == FINISHING || c->body_read || !c->has_body;
}

static void parse(struct httpd_req *c)
{
    while (!c->dead && may_parse(c) && step(c))
        ;
    if (c->dead || !c->stream)
        return;
    if (c->state == LINGERING) {
        c->ncur = 0;
    } else if (c->ncur > 0) {
        /* Kept for later; until then a closed peer goes unnoticed. */
        stream_unread(c->stream, c->cur, c->ncur);
        stream_read(c->stream, false);
        c->ncur = 0;
        return;
    }
    stream_read(c->stream, wants_more(c));
}

/* Between pin and unpin the connection may die, its memory stays. */
static void pin(struct httpd_req *c)
{
    c->busy = true;
}

static void unpin(struct httpd_req *c)
{
    c->busy = false;
    if (c->dead)
        free(c);
}

static void later(void *arg)
{
    struct httpd_req *c = arg;
    pin(c);
    if (c->state == FINISHING) {
        if (c->body_ended)
            finish(c);
        else if (!c->limit)
            set_limit(c, DISCARD_MS);
    }
    if (!c->dead && c->state == HANDLING && c->body_ended && c->body_read &&
        !c->body_told)
        took_end(c);
    if (!c->dead)
        parse(c);
    unpin(c);
}

static void on_read(void *arg, const char *p, long n, const struct err *e)
{
    (void)e;
    struct httpd_req *c = arg;
    pin(c);
    if (n > 0) {
        c->cur = p;
        c->ncur = (size_t)n;
        parse(c);
    } else if (c->state == HANDLING || c->state == FINISHING) {
        aborted(c);
    } else {
        hang_up(c, true);
    }
    unpin(c);
}

static void on_drain(void *arg)
{
    struct httpd_req *c = arg;
    pin(c);
    if (c->state == HANDLING)
        c->ops->drain(c->arg);
    if (!c->dead && c->state == WAITING)
        soon(c);
    unpin(c);
}

static void on_fail(void *arg, const struct err *e)
{
    (void)e;
    struct httpd_req *c = arg;
    pin(c);
    aborted(c);
    unpin(c);
}

static const struct stream_ops STREAM_OPS = {on_read, on_drain, on_fail};

/* ---- the server ---------------------------------------------------------- */

struct httpd *httpd_new(struct loop *l, const struct httpd_ops *ops, void *arg)
{
    struct httpd *s = mem_alloc(sizeof(*s));
    s->loop = l;
    s->ops = ops;
    s->arg = arg;
    return s;
}

static void on_accept(void *arg, int fd)
{
    struct listener *l = arg;
    struct httpd *s = l->server;
    if (s->ops->accept && s->ops->accept(s->arg, fd))
        return;
    struct err e;
    if (httpd_serve(s, fd, &e) < 0)
        close(fd);
}

int httpd_listen(struct httpd *s, int fd, struct err *e)
{
    struct listener *l = mem_alloc(sizeof(*l));
    l->server = s;
    l->listen = stream_listen(s->loop, fd, on_accept, l, e);
    if (!l->listen) {
        free(l);
        return -1;
    }
    l->next = s->listeners;
    s->listeners = l;
    return 0;
}

static bool is_unix(int fd)
{
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof(a);
    return getsockname(fd, (struct sockaddr *)&a, &n) == 0 &&
           a.ss_family == AF_UNIX;
}

int httpd_serve(struct httpd *s, int fd, struct err *e)
{
    struct httpd_req *c = mem_alloc(sizeof(*c));
    c->unix_peer = is_unix(fd);
    c->stream = stream_new(s->loop, fd, &STREAM_OPS, c, e);
    if (!c->stream) {
        free(c);
        return -1;
    }
    c->server = s;
    c->parser = http1_new(true);
    c->at = &s->conns;
    c->next = s->conns;
    if (c->next)
        c->next->at = &c->next;
    s->conns = c;
    s->count++;
    await(c);
    return 0;
}

unsigned httpd_connections(const struct httpd *s)
{
    return s->count;
}

void httpd_close(struct httpd *s, bool force)
{
    s->closing = true;
    while (s->listeners) {
        struct listener *l = s->listeners;
        s->listeners = l->next;
        stream_listen_close(l->listen);
        free(l);
    }
    struct httpd_req *next;
    for (struct httpd_req *c = s->conns; c; c = next) {
        next = c->next;
        if (c->state == WAITING || c->state == LINGERING)
            hang_up(c, true);
    }
    /* abort callbacks may end other requests: begin again each time */
    while (force && s->conns)
        /* The analyzer does not follow `at`, through which the freed one has
         * left the list. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
        aborted(s->conns);
}

void httpd_free(struct httpd *s)
{
    if (!s)
        return;
    httpd_close(s, true);
    free(s);
}

/* ---- the request --------------------------------------------------------- */

const struct http1_head *httpd_head(const struct httpd_req *r)
{
    return http1_head(r->parser);
}

int httpd_fd(const struct httpd_req *r)
{
    return stream_fd(r->stream);
}

struct loop *httpd_loop(const struct httpd_req *r)
{
    return r->server->loop;
}

bool httpd_is_unix(const struct httpd_req *r)
{
    return r->unix_peer;
}

void httpd_set(struct httpd_req *r, const struct httpd_req_ops *ops, void *arg)
{
    r->ops = ops;
    r->arg = arg;
}

void httpd_read(struct httpd_req *r, bool on)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct http1_head *h = (struct http1_head *)http1_head(r->parser);
    bool was_on = r->body_read;
    r->body_read = on;
    if (!on) {
        if (!r->body_ended)
            stream_read(r->stream, false);
        return;
    }
    if (h->expect_continue && !r->begun && r->has_body) {
        h->expect_continue = false;
        stream_write(r->stream, go_on, sizeof(go_on) - 1);
    }
    if (r->body_ended && !r->body_told) {
        soon(r);
    } else if (!r->body_ended) {
        stream_read(r->stream, true);
        if (!was_on) /* the parser may hold the end, with no byte to come */
            soon(r);
    }
}

/* ---- the answer ---------------------------------------------------------- */

void httpd_begin(struct httpd_req *r, int status, int64_t length)
{
    const struct http1_head *h = http1_head(r->parser);
    bool no_length = status < 200 || status == 204;
    bool is_head = h->method && strcmp(h->method, "HEAD") == 0;
    char text[24];
    r->begun = true;
    r->status = status;
    r->bodiless = no_length || status == 304 || is_head;
    r->left = r->bodiless ? 0 : length;
    buf_clear(&r->head);
    http1_put_status(&r->head, status);
    if (length >= 0 && !no_length) {
        snprintf(text, sizeof(text), "%lld", (long long)length);
        http1_put_header(&r->head, "Content-Length", text);
    } else if (!r->bodiless && h->minor >= 1) {
        r->chunked = true;
        http1_put_header(&r->head, "Transfer-Encoding", "chunked");
    } else if (!r->bodiless) {
        r->until_close = true;
    }
    if (r->always.len > 0)
        buf_append(&r->head, r->always.data, r->always.len);
    if (r->server->closing)
        r->close_after = true;
}

int httpd_always(struct httpd_req *r, const char *name, const char *value)
{
    return http1_put_header(&r->always, name, value);
}

int httpd_header(struct httpd_req *r, const char *name, const char *value)
{
    return http1_put_header(&r->head, name, value);
}

static void put_connection(struct httpd_req *r)
{
    if (r->status == 101)
        return;
    if (r->close_after || r->until_close)
        http1_put_header(&r->head, "Connection", "close");
    else if (http1_head(r->parser)->minor == 0)
        http1_put_header(&r->head, "Connection", "keep-alive");
}

static void end_head(struct httpd_req *r)
{
    if (r->head_sent)
        return;
    r->head_sent = true;
    put_connection(r);
    http1_put_end(&r->head);
}

void httpd_flush(struct httpd_req *r)
{
    end_head(r);
    if (r->head.len > 0)
        stream_write(r->stream, r->head.data, r->head.len);
    buf_clear(&r->head);
}

size_t httpd_write(struct httpd_req *r, const void *p, size_t n)
{
    if (r->bodiless || n == 0)
        return stream_queued(r->stream);
    if (r->left >= 0) {
        if (n > (size_t)r->left)
            n = (size_t)r->left;
        r->left -= (int64_t)n;
    }
    bool small = n <= SMALL_MAX;
    end_head(r);
    /* A small answer leaves in one piece with its head. */
    if (r->chunked && small) {
        http1_put_chunk(&r->head, p, n);
    } else if (small && r->head.len > 0) {
        buf_append(&r->head, p, n);
    } else {
        if (r->chunked)
            buf_printf(&r->head, "%zx\r\n", n);
        httpd_flush(r);
        stream_write(r->stream, p, n);
        if (r->chunked)
            return stream_write(r->stream, "\r\n", 2);
        return stream_queued(r->stream);
    }
    httpd_flush(r);
    return stream_queued(r->stream);
}

void httpd_end(struct httpd_req *r)
{
    if (r->left > 0) { /* fewer bytes than announced: never look complete */
        httpd_reset(r);
        return;
    }
    end_head(r);
    if (r->chunked)
        http1_put_last_chunk(&r->head);
    httpd_flush(r);
    r->state = FINISHING;
    soon(r);
}

void httpd_reply(struct httpd_req *r, int status, const char *type,
                 const void *p, size_t n)
{
    httpd_begin(r, status, (int64_t)n);
    if (type)
        httpd_header(r, "Content-Type", type);
    httpd_write(r, p, n);
    httpd_end(r);
}

void httpd_error(struct httpd_req *r, int status, const char *message)
{
    struct buf b;
    buf_init(&b);
    buf_printf(&b, "{\"code\":%d,\"message\":", status);
    json_write_string(&b, message, strlen(message));
    buf_puts(&b, "}\n");
    httpd_begin(r, status, (int64_t)b.len);
    httpd_header(r, "Content-Type", "application/json; charset=utf-8");
    httpd_header(r, "X-Content-Type-Options", "nosniff");
    httpd_write(r, b.data, b.len);
    httpd_end(r);
    buf_fini(&b);
}

void httpd_reset(struct httpd_req *r)
{
    r->ops = &NO_OPS;
    stream_reset(r->stream);
    r->stream = NULL;
    destroy(r);
}

void httpd_cut(struct httpd_req *r)
{
    /* Where the end of the connection is that of the body, only a reset shows
     * that something is missing. */
    if (r->until_close) {
        httpd_reset(r);
        return;
    }
    httpd_flush(r);
    r->ops = &NO_OPS;
    hang_up(r, true);
}

struct stream *httpd_steal(struct httpd_req *r)
{
    struct stream *s = r->stream;
    stream_read(s, false);
    if (r->ncur > 0)
        stream_unread(s, r->cur, r->ncur);
    r->ncur = 0;
    r->ops = &NO_OPS;
    r->stream = NULL;
    destroy(r);
    return s;
}

void httpd_close_after(struct httpd_req *r)
{
    r->close_after = true;
}
