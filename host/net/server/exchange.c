/* Forwarding of one request. Upstream connections are not reused: a unix or
 * loopback connect costs less than the race with a server's idle timeout. */
#include "exchange.h"

#include "answer.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "route.h"
#include "tunnel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_MS = 5000, RETRY_MS = 5, DYING_MS = 2000 };

struct exchange {
    struct exchange *next, **at; /* in the sandbox's list */
    struct exchange_list *list;
    struct exchange_to to;
    struct loop *loop;
    struct httpd_req *req; /* NULL in a tunnel */
    struct buf head;       /* the request's head as it goes on */
    bool chunked;          /* request body goes in chunks */
    bool upgrade;          /* the client asked for one */
    bool body_paused, up_failed;
    bool interim; /* the message being parsed is a 1xx */
    bool began;   /* the client's answer has begun */
    int family;
    unsigned tries;
    struct loop_timer *retry;
    struct handover_wait *wait;
    struct stream_connect *connect;
    struct stream *up;
    struct http1_parser *parser;
    struct tunnel *tunnel;
};

static void nothing(void *arg)
{
    (void)arg;
}

static void no_body(void *arg, const char *p, size_t n)
{
    (void)arg, (void)p, (void)n;
}

/* For a request whose exchange has ended before it. */
static const struct httpd_req_ops SILENT = {no_body, nothing, nothing, nothing};

static void destroy(struct exchange *x)
{
    *x->at = x->next;
    if (x->next)
        x->next->at = x->at;
    x->list->count--;
    loop_timer_stop(x->retry);
    handover_cancel(x->wait);
    stream_connect_cancel(x->connect);
    if (x->up)
        stream_close(x->up, false);
    tunnel_reset(x->tunnel);
    http1_free(x->parser);
    buf_fini(&x->head);
    free(x);
}

/* Ends the exchange and gives the request back for an answer. */
static struct httpd_req *leave(struct exchange *x)
{
    struct httpd_req *req = x->req;
    httpd_set(req, &SILENT, NULL);
    destroy(x);
    return req;
}

static void dead(void *arg)
{
    struct exchange *x = arg;
    const char *id = x->to.id;
    answer_not_found(leave(x), id);
}

/* Nothing answers behind the port. Of envd: the sandbox is dying; its last
 * process goes a moment later, then exchange_reset_all says how it ended. */
static void refuse(struct exchange *x)
{
    struct exchange_to to = x->to;
    if (to.port != ROUTE_ENVD_PORT) {
        answer_closed_port(leave(x), to.id, to.port);
        return;
    }
    handover_cancel(x->wait);
    stream_connect_cancel(x->connect);
    if (x->up)
        stream_close(x->up, false);
    x->wait = NULL;
    x->connect = NULL;
    x->up = NULL;
    x->up_failed = true;
    loop_timer_stop(x->retry);
    loop_after(x->loop, DYING_MS, dead, x, &x->retry);
}

/* The server's side broke before its answer was complete. */
static void broken(struct exchange *x)
{
    struct exchange_to to = x->to;
    if (x->began) {
        httpd_cut(leave(x));
    } else if (to.port == ROUTE_ENVD_PORT) {
        refuse(x);
    } else {
        answer_no_answer(leave(x), to.id, to.port);
    }
}

/* ---- the request goes up ------------------------------------------------- */

static void on_body(void *arg, const char *p, size_t n)
{
    struct exchange *x = arg;
    struct buf b;
    if (x->up_failed)
        return;
    if (!x->chunked) {
        if (n > 0 && stream_write(x->up, p, n) > STREAM_HIGH)
            x->body_paused = true;
    } else {
        buf_init(&b);
        if (n > 0)
            http1_put_chunk(&b, p, n);
        else
            http1_put_last_chunk(&b);
        if (stream_write(x->up, b.data, b.len) > STREAM_HIGH && n > 0)
            x->body_paused = true;
        buf_fini(&b);
    }
    if (x->body_paused)
        httpd_read(x->req, false);
}

static void on_client_drain(void *arg)
{
    struct exchange *x = arg;
    if (x->up)
        stream_read(x->up, true);
}

static void on_client_gone(void *arg)
{
    destroy(arg);
}

static const struct httpd_req_ops REQ_OPS = {on_body, on_client_drain,
                                             on_client_gone, on_client_gone};

/* ---- the answer comes down ----------------------------------------------- */

static bool is_hop(const struct http1_head *h, const char *name)
{
    static const char *const hops[] = {
        "Connection", "Keep-Alive",     "Proxy-Connection",  "TE",
        "Trailer",    "Content-Length", "Transfer-Encoding", "Upgrade",
        "Expect",
    };
    for (size_t i = 0; i < sizeof(hops) / sizeof(*hops); i++)
        if (str_ieq(name, hops[i]))
            return true;
    return http1_has_token(h, "Connection", name);
}

static void begin_answer(struct exchange *x, const struct http1_head *h)
{
    x->began = true;
    httpd_begin(x->req, h->status, h->chunked ? -1 : h->length);
    for (int i = 0; i < h->nheaders; i++)
        if (!is_hop(h, h->headers[i].name))
            httpd_header(x->req, h->headers[i].name, h->headers[i].value);
}

static void end_answer(struct exchange *x)
{
    httpd_end(leave(x));
}

static void on_tunnel_end(void *arg)
{
    struct exchange *x = arg;
    x->tunnel = NULL;
    destroy(x);
}

static void switch_protocols(struct exchange *x, const struct http1_head *h,
                             const char *rest, size_t n)
{
    httpd_begin(x->req, 101, 0);
    for (int i = 0; i < h->nheaders; i++) {
        const char *name = h->headers[i].name;
        if (!is_hop(h, name) || str_ieq(name, "Upgrade"))
            httpd_header(x->req, name, h->headers[i].value);
    }
    httpd_header(x->req, "Connection", "Upgrade");
    httpd_flush(x->req);
    struct stream *client = httpd_steal(x->req);
    struct stream *up = x->up;
    x->req = NULL;
    x->up = NULL;
    if (n > 0)
        stream_write(client, rest, n);
    x->tunnel = tunnel_new(x->loop, client, up, on_tunnel_end, x);
}

/* A complete head from the server; false: the exchange has ended. */
static bool take_head(struct exchange *x)
{
    const struct http1_head *h = http1_head(x->parser);
    x->interim = h->status < 200 && h->status != 101;
    if (h->status == 101 && !x->upgrade) {
        broken(x);
        return false;
    }
    if (h->status >= 200)
        begin_answer(x, h);
    return true;
}

/* A complete message from the server; true: an interim one, go on. */
static bool take_end(struct exchange *x, const char *rest, size_t n)
{
    if (x->interim) {
        http1_next(x->parser);
        return true;
    }
    const struct http1_head *h = http1_head(x->parser);
    if (h->status == 101)
        switch_protocols(x, h, rest, n);
    else
        end_answer(x);
    return false;
}

/* Parses what came; false: the exchange has ended or become a tunnel. */
static bool take_bytes(struct exchange *x, const char *p, size_t n)
{
    for (;;) {
        struct err e;
        size_t used = 0, nbody = 0;
        const char *body = NULL;
        enum http1_event ev =
            http1_feed(x->parser, p, n, &used, &body, &nbody, &e);
        p += used;
        n -= used;
        switch (ev) {
        case HTTP1_HEAD:
            if (!take_head(x))
                return false;
            break;
        case HTTP1_BODY:
            if (httpd_write(x->req, body, nbody) > STREAM_HIGH)
                stream_read(x->up, false);
            break;
        case HTTP1_END:
            if (!take_end(x, p, n))
                return false;
            break;
        case HTTP1_MORE:
            return true;
        case HTTP1_ERROR:
            broken(x);
            return false;
        }
    }
}

static void on_up_read(void *arg, const char *p, long n, const struct err *e)
{
    (void)e;
    struct exchange *x = arg;
    struct err err;
    if (n > 0) {
        bool began = x->began;
        if (take_bytes(x, p, (size_t)n) && x->began && !began)
            httpd_flush(x->req);
    } else if (n == 0 && http1_finish(x->parser, &err) == HTTP1_END) {
        end_answer(x);
    } else {
        broken(x);
    }
}

static void on_up_drain(void *arg)
{
    struct exchange *x = arg;
    if (!x->body_paused)
        return;
    x->body_paused = false;
    httpd_read(x->req, true);
}

/* The server reads no more; its answer may still come (413 and the like). */
static void on_up_fail(void *arg, const struct err *e)
{
    (void)e;
    struct exchange *x = arg;
    x->up_failed = true;
    on_up_drain(x);
}

static const struct stream_ops UP_OPS = {on_up_read, on_up_drain, on_up_fail};

/* ---- connecting ---------------------------------------------------------- */

static void connected(struct exchange *x, struct stream *s)
{
    x->up = s;
    x->parser = http1_new(false);
    if (strcmp(httpd_head(x->req)->method, "HEAD") == 0)
        http1_no_body(x->parser);
    stream_set_ops(s, &UP_OPS, x);
    stream_write(s, x->head.data, x->head.len);
    stream_read(s, true);
    httpd_read(x->req, true);
}

static void dial_envd(void *arg)
{
    struct exchange *x = arg;
    struct err e = {0};
    int fd = fd_unix_connect(x->to.dirfd, x->to.socket, &e);
    if (fd < 0 && e.errnum == EAGAIN && ++x->tries < CONNECT_MS / RETRY_MS) {
        loop_after(x->loop, RETRY_MS, dial_envd, x, &x->retry);
        return;
    }
    struct stream *s = NULL;
    if (fd >= 0) {
        s = stream_new(x->loop, fd, &UP_OPS, x, &e);
        if (!s)
            fd_close(&fd);
    }
    if (s)
        connected(x, s);
    else
        refuse(x);
}

static void dial_port(struct exchange *x, int family);

static void on_connect(void *arg, struct stream *s, const struct err *e)
{
    (void)e;
    struct exchange *x = arg;
    x->connect = NULL;
    if (s)
        connected(x, s);
    else if (x->family == AF_INET)
        dial_port(x, AF_INET6);
    else
        refuse(x);
}

static void on_socket(void *arg, int fd, const struct err *e)
{
    (void)e;
    struct exchange *x = arg;
    struct err err;
    struct sockaddr_in v4 = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)x->to.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
                              .sin6_port = htons((uint16_t)x->to.port),
                              .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool is4 = x->family == AF_INET;
    x->wait = NULL;
    if (fd >= 0) {
        x->connect = stream_connect_fd(
            x->loop, fd, is4 ? (void *)&v4 : (void *)&v6,
            is4 ? sizeof(v4) : sizeof(v6), CONNECT_MS, on_connect, x, &err);
        if (x->connect)
            return;
        fd_close(&fd);
    }
    if (is4 && fd >= 0)
        dial_port(x, AF_INET6);
    else
        refuse(x);
}

static void dial_port(struct exchange *x, int family)
{
    struct err e;
    x->family = family;
    int fd = handover_take(x->to.hand, family, on_socket, x, &x->wait, &e);
    if (!x->wait)
        on_socket(x, fd, NULL);
}

/* ---- start --------------------------------------------------------------- */

static void put_host(struct exchange *x, const struct http1_head *h)
{
    const char *host = http1_get(h, "Host");
    if (x->to.host) {
        http1_put_header(&x->head, "Host", x->to.host);
        http1_put_header(&x->head, "X-Forwarded-Host", host ? host : "");
    } else {
        http1_put_header(&x->head, "Host", host ? host : "");
    }
}

static void put_head(struct exchange *x, const struct http1_head *h)
{
    char length[24];
    http1_put_request(&x->head, h->method, h->target);
    put_host(x, h);
    for (int i = 0; i < h->nheaders; i++) {
        const char *name = h->headers[i].name;
        bool skip = is_hop(h, name) || str_ieq(name, "Host") ||
                    (x->to.token && str_ieq(name, "X-Access-Token")) ||
                    (x->to.host && str_ieq(name, "X-Forwarded-Host"));
        if (!skip)
            http1_put_header(&x->head, name, h->headers[i].value);
    }
    if (x->to.token)
        http1_put_header(&x->head, "X-Access-Token", x->to.token);
    if (h->chunked) {
        x->chunked = true;
        http1_put_header(&x->head, "Transfer-Encoding", "chunked");
    } else if (h->length >= 0) {
        str_fmt(length, sizeof(length), "%lld", (long long)h->length);
        http1_put_header(&x->head, "Content-Length", length);
    }
    const char *protocol = http1_get(h, "Upgrade");
    x->upgrade = h->upgrade && protocol && !str_ieq(protocol, "h2c") &&
                 x->to.port != ROUTE_ENVD_PORT;
    if (x->upgrade)
        http1_put_header(&x->head, "Upgrade", protocol);
    http1_put_header(&x->head, "Connection", x->upgrade ? "Upgrade" : "close");
    http1_put_end(&x->head);
    x->to.token = x->to.host = NULL; /* borrowed for this call only */
}

void exchange_start(struct exchange_list *list, struct httpd_req *req,
                    const struct exchange_to *to)
{
    struct exchange *x = mem_alloc(sizeof(*x));
    x->list = list;
    x->next = list->first;
    x->at = &list->first;
    if (x->next)
        x->next->at = &x->next;
    list->first = x;
    list->count++;
    x->to = *to;
    x->req = req;
    x->loop = httpd_loop(req);
    buf_init(&x->head);
    put_head(x, httpd_head(req));
    httpd_set(req, &REQ_OPS, x);
    if (to->port == ROUTE_ENVD_PORT)
        dial_envd(x);
    else
        dial_port(x, AF_INET);
}

void exchange_reset_all(struct exchange_list *list, const char *starved)
{
    while (list->first) {
        struct exchange *x = list->first;
        /* The analyzer does not follow `at`, through which the freed one has
         * left the list. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
        const char *id = x->to.id;
        int port = x->to.port;
        if (x->req && !x->began && starved)
            answer_starved(leave(x), id, port, starved);
        else if (x->req && !x->began)
            answer_not_found(leave(x), id);
        else if (x->req)
            httpd_reset(leave(x));
        else
            destroy(x); /* a tunnel: both ends are reset */
    }
}
