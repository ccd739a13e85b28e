/* Connect requests: collecting messages, headers, answers, errors. */
#include "rpc.h"

#include "base/base64.h"
#include "base/mem.h"
#include "base/str.h"
#include "net/core/connect.h"
#include "process_rpc.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { KEEPALIVE_S = 90 };

struct rpc {
    struct envd *envd;
    struct httpd_req *req;
    const struct rpc_method *method; /* NULL: the file system's */
    char name[64];                   /* of the file system's method */
    enum rpc_kind kind;
    char *user;              /* NULL: not named */
    uint64_t due, keepalive; /* due: loop time, 0: never */
    struct buf body;
    struct connect_reader reader;
    bool called, begun, answered, paused;
    const struct rpc_ops *ops;
    void *arg;
};

static const char JSON[] = "application/json";
static const char STREAM[] = "application/connect+json";

struct envd *rpc_envd(const struct rpc *c)
{
    return c->envd;
}

void rpc_set(struct rpc *c, const struct rpc_ops *ops, void *arg)
{
    c->ops = ops;
    c->arg = arg;
}

void *rpc_arg(const struct rpc *c)
{
    return c->arg;
}

int rpc_user(const struct rpc *c, struct user *u, struct err *e)
{
    return users_find(c->envd, c->user, u, e);
}

uint64_t rpc_timeout(const struct rpc *c)
{
    uint64_t now = loop_now(c->envd->loop);
    if (!c->due)
        return 0;
    return c->due > now ? c->due - now : 1;
}

uint64_t rpc_keepalive(const struct rpc *c)
{
    return c->keepalive;
}

/* ---- answers ------------------------------------------------------------- */

/* Below us kinds are the project's; here they are Connect's. */
static const char *code_of(const struct err *e)
{
    static const char *const codes[] = {
        "canceled",
        "unknown",
        "invalid_argument",
        "deadline_exceeded",
        "not_found",
        "already_exists",
        "permission_denied",
        "unauthenticated",
        "resource_exhausted",
        "failed_precondition",
        "aborted",
        "out_of_range",
        "unimplemented",
        "internal",
        "unavailable",
        "data_loss",
    };
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
        if (strcmp(codes[i], e->kind) == 0)
            return codes[i];
    if (strcmp(e->kind, "protocol") == 0)
        return "invalid_argument";
    if (strcmp(e->kind, "not_enough_space") == 0)
        return "resource_exhausted";
    if (strcmp(e->kind, "timeout") == 0)
        return "deadline_exceeded";
    return "internal";
}

static void put_error(struct buf *b, const struct err *e)
{
    buf_printf(b, "{\"code\":\"%s\",\"message\":", code_of(e));
    json_write_string(b, e->msg, strlen(e->msg));
    buf_puts(b, "}");
}

/* The call is over for its method. */
static void answered(struct rpc *c)
{
    c->answered = true;
    c->ops = NULL;
}

void rpc_reply(struct rpc *c, const char *json, size_t n)
{
    answered(c);
    httpd_reply(c->req, 200, JSON, json, n);
}

static void begin(struct rpc *c)
{
    if (c->begun)
        return;
    c->begun = true;
    httpd_begin(c->req, 200, -1);
    httpd_header(c->req, "Content-Type", STREAM);
}

size_t rpc_send(struct rpc *c, const char *json, size_t n)
{
    struct buf b = {0};
    begin(c);
    connect_put(&b, 0, json, n);
    size_t queued = httpd_write(c->req, b.data, b.len);
    buf_fini(&b);
    return queued;
}

size_t rpc_queued(struct rpc *c)
{
    return httpd_write(c->req, NULL, 0);
}

void rpc_finish(struct rpc *c, const struct err *e, bool close)
{
    struct buf text = {0}, b = {0};
    buf_puts(&text, e ? "{\"error\":" : "{");
    if (e)
        put_error(&text, e);
    buf_puts(&text, "}");
    connect_put(&b, CONNECT_END, text.data, text.len);
    answered(c);
    if (close)
        httpd_close_after(c->req);
    begin(c);
    httpd_write(c->req, b.data, b.len);
    httpd_end(c->req);
    buf_fini(&b);
    buf_fini(&text);
}

void rpc_fail(struct rpc *c, const struct err *e)
{
    if (c->kind != RPC_UNARY) {
        rpc_finish(c, e, false);
        return;
    }
    struct buf b = {0};
    put_error(&b, e);
    answered(c);
    httpd_reply(c->req, connect_status(code_of(e)), JSON, b.data, b.len);
    buf_fini(&b);
}

/* ---- messages ------------------------------------------------------------ */

/* A call of the file system's; it comes back also when the client has gone. */
struct fs_wait {
    struct rpc *rpc; /* NULL: gone */
};

static void fs_drain(void *arg)
{
    (void)arg;
}

static void fs_gone(void *arg)
{
    struct fs_wait *w = arg;
    w->rpc = NULL;
}

static const struct rpc_ops FS = {fs_drain, fs_gone};

static void fs_done(void *arg, json_t *answer, const struct err *e)
{
    struct fs_wait *w = arg;
    struct rpc *c = w->rpc;
    struct buf b = {0};
    free(w);
    if (!c)
        return;
    if (!answer) {
        rpc_fail(c, e);
        return;
    }
    json_write(&b, answer);
    rpc_reply(c, b.data, b.len);
    buf_fini(&b);
}

static void call_fs(struct rpc *c, const json_t *msg)
{
    struct user u;
    struct err e = {0};
    if (rpc_user(c, &u, &e) < 0) {
        rpc_fail(c, &e);
        return;
    }
    struct fs_wait *w = mem_alloc(sizeof(*w));
    w->rpc = c;
    rpc_set(c, &FS, w);
    fs_call(c->envd, c->name, &u, msg, fs_done, w);
}

static void take_message(struct rpc *c, const char *p, size_t n)
{
    struct err e = {0};
    json_t *msg = n > 0 ? json_parse(p, n, &e) : json_object();
    if (msg && !json_is_object(msg)) {
        json_decref(msg);
        msg = NULL;
        err_set(&e, "invalid_argument", "the message is not a JSON object");
    }
    if (!msg) {
        err_wrap(&e, "unmarshal message");
        e.kind = "invalid_argument";
        rpc_fail(c, &e);
        return;
    }
    c->called = true;
    if (c->method)
        c->method->call(c, msg);
    else
        call_fs(c, msg);
    json_decref(msg);
}

static void too_large(struct rpc *c)
{
    struct err e;
    err_set(&e, "resource_exhausted", "a message is over the limit of %u bytes",
            CONNECT_MAX);
    rpc_fail(c, &e);
}

static void unary_body(struct rpc *c, const char *p, size_t n)
{
    if (c->called)
        return;
    if (n == 0) {
        struct buf b = c->body;
        c->body = (struct buf){0};
        take_message(c, b.data, b.len);
        buf_fini(&b);
    } else if (c->body.len + n > CONNECT_MAX) {
        too_large(c);
    } else {
        buf_append(&c->body, p, n);
    }
}

/* One message out of the stream; false: no more now. */
static bool next_message(struct rpc *c)
{
    unsigned flags;
    const char *p;
    size_t n;
    struct err e = {0};
    int r = connect_reader_next(&c->reader, &flags, &p, &n, &e);
    if (r == 0)
        return false;
    if (r < 0) {
        if (strstr(e.msg, "limit"))
            e.kind = "resource_exhausted";
        rpc_fail(c, &e);
    } else if (flags & CONNECT_COMPRESSED) {
        err_set(&e, "unimplemented",
                "compressed messages are not supported: send them plain");
        rpc_fail(c, &e);
    } else if (!(flags & CONNECT_END)) {
        take_message(c, p, n);
    }
    return !c->answered;
}

static void take_messages(struct rpc *c)
{
    bool client = c->kind == RPC_CLIENT_STREAM;
    while (!c->paused && next_message(c) && client)
        ;
    if (c->called && !client) /* the stream may live long: give it back */
        connect_reader_fini(&c->reader);
}

void rpc_read(struct rpc *c, bool on)
{
    c->paused = !on;
    if (on)
        take_messages(c);
    if (!c->answered)
        httpd_read(c->req, !c->paused);
}

static void stream_body(struct rpc *c, const char *p, size_t n)
{
    struct err e;
    if (c->called && c->kind != RPC_CLIENT_STREAM)
        return; /* what comes behind the one message is nobody's */
    if (n > 0) {
        connect_reader_feed(&c->reader, p, n);
        take_messages(c);
        return;
    }
    if (c->reader.in.len > c->reader.taken || !c->called) {
        err_set(&e, "invalid_argument",
                c->called ? "the stream ends inside a message"
                          : "the stream has no complete message");
        rpc_fail(c, &e);
    } else {
        c->method->call(c, NULL);
    }
}

static void on_body(void *arg, const char *p, size_t n)
{
    struct rpc *c = arg;
    if (c->answered)
        return;
    if (c->kind == RPC_UNARY)
        unary_body(c, p, n);
    else
        stream_body(c, p, n);
}

static void on_drain(void *arg)
{
    struct rpc *c = arg;
    if (c->ops)
        c->ops->drain(c->arg);
}

static void free_rpc(void *arg)
{
    struct rpc *c = arg;
    buf_fini(&c->body);
    connect_reader_fini(&c->reader);
    free(c->user);
    free(c);
}

static void on_abort(void *arg)
{
    struct rpc *c = arg;
    if (c->ops)
        c->ops->gone(c->arg);
    free_rpc(c);
}

static const struct httpd_req_ops OPS = {on_body, on_drain, on_abort, free_rpc};

/* ---- the head ------------------------------------------------------------ */

static bool is_type(const char *value, const char *type)
{
    size_t n = strlen(type);
    return value && strncasecmp(value, type, n) == 0 &&
           (value[n] == '\0' || value[n] == ';' || value[n] == ' ');
}

/* The name in "Basic base64(name:password)"; NULL when there is none. */
static char *basic_user(const char *value)
{
    struct buf b = {0};
    char *name = NULL;
    if (value && strncasecmp(value, "Basic ", 6) == 0 &&
        base64_decode(&b, value + 6, strlen(value + 6)) == 0 && b.len > 0) {
        char *colon = memchr(b.data, ':', b.len);
        if (colon)
            name = mem_strndup(b.data, (size_t)(colon - b.data));
    }
    buf_fini(&b);
    return name;
}

static int take_head(struct rpc *c, struct err *e)
{
    const struct http1_head *h = httpd_head(c->req);
    const char *timeout = http1_get(h, "Connect-Timeout-Ms");
    const char *ping = http1_get(h, "Keepalive-Ping-Interval");
    const char *coding =
        http1_get(h, c->kind == RPC_UNARY ? "Content-Encoding"
                                          : "Connect-Content-Encoding");
    uint64_t n;
    struct user u;
    c->user = basic_user(http1_get(h, "Authorization"));
    if (c->user && users_find(c->envd, c->user, &u, e) < 0)
        return -1;
    if (coding && !str_ieq(coding, "identity"))
        return err_set(e, "unimplemented",
                       "unknown compression '%.50s': supported encodings are "
                       "identity",
                       coding);
    c->keepalive = KEEPALIVE_S;
    if (ping && str_u64(ping, strlen(ping), 86400, &n) == 0 && n > 0)
        c->keepalive = n;
    if (!timeout)
        return 0;
    if (str_u64(timeout, strlen(timeout), 9999999999, &n) < 0)
        return err_set(e, "invalid_argument",
                       "Connect-Timeout-Ms '%.50s': must be an integer of at "
                       "most 10 digits",
                       timeout);
    if (n > 0)
        c->due = loop_now(c->envd->loop) + n;
    return 0;
}

static void call_watch(struct rpc *c, const json_t *msg)
{
    (void)msg;
    struct err e;
    err_set(&e, "unimplemented",
            "WatchDir: this envd does not watch: list the directory instead");
    rpc_fail(c, &e);
}

/* A stream, so it is not fs.c's to refuse. */
static const struct rpc_method WATCH = {"filesystem.Filesystem/WatchDir",
                                        RPC_SERVER_STREAM, call_watch};

static const struct rpc_method *find_method(const char *name)
{
    if (strcmp(name, WATCH.name) == 0)
        return &WATCH;
    for (const struct rpc_method *m = process_rpc_methods; m->name; m++)
        if (strcmp(m->name, name) == 0)
            return m;
    return NULL;
}

static void refuse(struct httpd_req *r, int status, const char *name,
                   const char *value)
{
    httpd_begin(r, status, 0);
    httpd_header(r, name, value);
    httpd_end(r);
}

static void open_call(struct envd *v, struct httpd_req *r, const char *name,
                      const struct rpc_method *m)
{
    struct err e = {0};
    struct rpc *c = mem_alloc(sizeof(*c));
    c->envd = v;
    c->req = r;
    c->method = m;
    c->kind = m ? m->kind : RPC_UNARY;
    connect_reader_init(&c->reader, CONNECT_MAX);
    httpd_set(r, &OPS, c);
    if (!m)
        str_fmt(c->name, sizeof(c->name), "%s", strchr(name, '/') + 1);
    if (take_head(c, &e) < 0)
        rpc_fail(c, &e);
    else
        httpd_read(r, true);
}

void rpc_serve(struct envd *v, struct httpd_req *r)
{
    const struct http1_head *h = httpd_head(r);
    const char *type = http1_get(h, "Content-Type");
    char name[96];
    size_t n = strcspn(h->target + 1, "?#");
    if (n >= sizeof(name)) {
        httpd_error(r, 404, "no such method");
        return;
    }
    memcpy(name, h->target + 1, n);
    name[n] = '\0';
    const struct rpc_method *m = find_method(name);
    if (!m && str_starts(name, "process.")) {
        httpd_error(r, 404, "no such method");
        return;
    }
    if (strcmp(h->method, "POST") != 0) {
        refuse(r, 405, "Allow", "POST");
        return;
    }
    const char *want = !m || m->kind == RPC_UNARY ? JSON : STREAM;
    if (!is_type(type, want))
        refuse(r, 415, "Accept-Post", want);
    else
        open_call(v, r, name, m);
}
