/* Routing of envd's HTTP API. See server.h. */
#include "server.h"

#include "base/mem.h"
#include "base/str.h"
#include "control.h"
#include "handover.h"
#include "metrics.h"
#include "rpc.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 4096 };

struct server {
    struct envd *envd;
    struct httpd *http;
    struct handover_server *handover;
    struct metrics metrics;
};

/* ---- plain answers ------------------------------------------------------- */

static void get_health(struct envd *v, struct httpd_req *r)
{
    (void)v;
    httpd_begin(r, 204, 0);
    httpd_header(r, "Cache-Control", "no-store");
    httpd_end(r);
}

static void send_json(struct httpd_req *r, const struct buf *b)
{
    httpd_begin(r, 200, (int64_t)b->len);
    httpd_header(r, "Content-Type", "application/json; charset=utf-8");
    httpd_header(r, "Cache-Control", "no-store");
    httpd_write(r, b->data, b->len);
    httpd_end(r);
}

static void get_envs(struct envd *v, struct httpd_req *r)
{
    struct buf b = {0};
    json_write(&b, v->env);
    send_json(r, &b);
    buf_fini(&b);
}

static void get_metrics(struct envd *v, struct httpd_req *r)
{
    struct buf b = {0};
    metrics_write(&v->server->metrics, &b);
    send_json(r, &b);
    buf_fini(&b);
}

/* ---- routes -------------------------------------------------------------- */

struct route {
    const char *method, *path;
    void (*serve)(struct envd *v, struct httpd_req *r);
    bool exempt; /* from the check of the token before routing */
};

static const struct route ROUTES[] = {
    {"GET", "/health", get_health, true},
    {"GET", "/files", files_get, true},
    {"POST", "/files", files_post, true},
    {"POST", "/init", control_init, true},
    {"GET", "/envs", get_envs, false},
    {"GET", "/metrics", get_metrics, false},
    {"POST", "/_engine/deadline", control_deadline, false},
};

static bool is_path(const char *target, const char *path)
{
    size_t n = strlen(path);
    return strncmp(target, path, n) == 0 &&
           (target[n] == '\0' || target[n] == '?');
}

/* NULL: none; *allow then tells the methods that the path has, or NULL. */
static const struct route *find_route(const struct http1_head *h,
                                      const char **allow)
{
    *allow = NULL;
    for (size_t i = 0; i < sizeof(ROUTES) / sizeof(*ROUTES); i++) {
        if (!is_path(h->target, ROUTES[i].path))
            continue;
        if (strcmp(h->method, ROUTES[i].method) == 0)
            return &ROUTES[i];
        *allow = *allow ? "GET, POST" : ROUTES[i].method;
    }
    return NULL;
}

static bool has_token(const struct envd *v, const struct http1_head *h)
{
    const char *shown = http1_get(h, "X-Access-Token");
    return !v->token || (shown && str_same_secret(shown, v->token));
}

/* Signed URLs have been checked by the engine, which then adds the token. */
static bool may_use_files(const struct envd *v, struct httpd_req *r)
{
    const struct http1_head *h = httpd_head(r);
    if (has_token(v, h))
        return true;
    httpd_error(r, 401,
                http1_get(h, "X-Access-Token")
                    ? "access token present in header but does not match"
                    : "missing signature query parameter");
    return false;
}

/* What browsers want to see before they let a page use the answer. */
static bool cors(struct httpd_req *r)
{
    const struct http1_head *h = httpd_head(r);
    const char *method = http1_get(h, "Access-Control-Request-Method");
    const char *headers = http1_get(h, "Access-Control-Request-Headers");
    if (!http1_get(h, "Origin"))
        return false;
    httpd_always(r, "Access-Control-Allow-Origin", "*");
    httpd_always(r, "Vary", "Origin");
    if (strcmp(h->method, "OPTIONS") != 0 || !method) {
        httpd_always(r, "Access-Control-Expose-Headers",
                     "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin, "
                     "Location, Cache-Control, X-Content-Type-Options");
        return false;
    }
    httpd_begin(r, 204, 0);
    httpd_header(r, "Access-Control-Allow-Methods",
                 "HEAD, GET, POST, PUT, PATCH, DELETE");
    if (headers)
        httpd_header(r, "Access-Control-Allow-Headers", headers);
    httpd_header(r, "Access-Control-Max-Age", "7200");
    httpd_end(r);
    return true;
}

static void on_request(void *arg, struct httpd_req *r)
{
    struct server *s = arg;
    struct envd *v = s->envd;
    const struct http1_head *h = httpd_head(r);
    const char *allow;
    if (cors(r))
        return;
    const struct route *route = find_route(h, &allow);
    if (!(route && route->exempt) && !has_token(v, h)) {
        httpd_error(r, 401,
                    "unauthorized access, please provide a valid access token "
                    "or method signing if supported");
        return;
    }
    if (route && is_path(h->target, "/files") && !may_use_files(v, r))
        return;
    if (route) {
        route->serve(v, r);
    } else if (allow) {
        httpd_always(r, "Allow", allow);
        httpd_error(r, 405, "method not allowed");
    } else if (str_starts(h->target, "/process.Process/") ||
               str_starts(h->target, "/filesystem.Filesystem/")) {
        rpc_serve(v, r);
    } else {
        httpd_error(r, 404, "404 page not found");
    }
}

/* ---- connections --------------------------------------------------------- */

static bool on_accept(void *arg, int fd)
{
    struct server *s = arg;
    if (httpd_connections(s->http) >= MAX_CONNECTIONS)
        close(fd);
    else
        handover_server_take(s->handover, fd);
    return true;
}

static void serve_http(void *arg, int fd)
{
    struct server *s = arg;
    struct err e;
    if (httpd_serve(s->http, fd, &e) < 0)
        close(fd);
}

static const struct httpd_ops OPS = {on_accept, on_request};

struct server *server_new(struct envd *v, int fd, struct err *e)
{
    struct server *s = mem_alloc(sizeof(*s));
    s->envd = v;
    s->http = httpd_new(v->loop, &OPS, s);
    s->handover = handover_server_new(v->loop, serve_http, s);
    handover_server_net(s->handover, v->net, ENVD_NET);
    if (httpd_listen(s->http, fd, e) < 0) {
        server_free(s);
        return NULL;
    }
    return s;
}

void server_free(struct server *s)
{
    if (!s)
        return;
    httpd_free(s->http);
    handover_server_free(s->handover);
    free(s);
}
