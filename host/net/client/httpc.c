/* HTTP client on libcurl's multi. See httpc.h. curl's callbacks fill the
 * request's bounded buffers and call `wake`, nothing else: Lua is never below
 * curl on the C stack. */
#include "httpc_impl.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

static void wake(const struct httpc_req *r, unsigned what)
{
    if (r->o.wake)
        r->o.wake(r->o.arg, what);
}

/* ---- the end of a request ------------------------------------------------ */

static void release(struct httpc_req *r)
{
    loop_timer_stop(r->head_timer);
    loop_timer_stop(r->idle_timer);
    if (!r->easy)
        return;
    curl_multi_remove_handle(r->client->multi, r->easy);
    curl_easy_cleanup(r->easy);
    fd_close(&r->unix_dir);
    r->easy = NULL;
    r->client->active--;
    *r->at = r->next;
    if (r->next)
        r->next->at = r->at;
    if (r->client->active == 0)
        httpc_multi_idle(r->client);
}

static void ended(struct httpc_req *r, enum httpc_state state)
{
    release(r);
    buf_fini(&r->out);
    r->state = state;
    unsigned long long ms = loop_now(r->client->loop) - r->begun;
    if (state == HTTPC_FAILED)
        log_line(LOG_DEBUG, "http", "%s %s failed after %llu ms: %s", r->method,
                 r->peer, ms, r->failure.err.msg);
    else
        log_line(LOG_DEBUG, "http", "%s %s ended after %llu ms, %llu bytes",
                 r->method, r->peer, ms, (unsigned long long)r->received);
    wake(r, HTTPC_READ | HTTPC_WRITE);
}

/* Retrying helps when nothing was sent, and the answer was not a no. */
static void fail(struct httpc_req *r)
{
    const char *kind = r->failure.err.kind;
    r->failure.retryable =
        !r->sent && !r->refused &&
        (strcmp(kind, "network") == 0 || strcmp(kind, "timeout") == 0);
    ended(r, HTTPC_FAILED);
}

static void completed(struct httpc_req *r, CURLcode rc)
{
    httpc_multi_done(r->client, r->easy);
    if (rc == CURLE_OK && r->head.status >= 200) {
        r->head.done = true;
        ended(r, HTTPC_ENDED);
        return;
    }
    httpc_explain(r, rc == CURLE_OK ? CURLE_WEIRD_SERVER_REPLY : rc);
    fail(r);
}

void httpc_take_messages(struct httpc *c)
{
    CURLMsg *m;
    int left;
    while (c->multi && (m = curl_multi_info_read(c->multi, &left))) {
        CURLcode rc = m->data.result;
        struct httpc_req *r = NULL;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&r);
        completed(r, rc); /* m is gone now */
    }
}

struct httpc *httpc_new(struct loop *l, struct err *e)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        err_set(e, "internal", "libcurl cannot start");
        return NULL;
    }
    struct httpc *c = mem_alloc(sizeof(*c));
    c->loop = l;
    return c;
}

void httpc_free(struct httpc *c)
{
    if (!c)
        return;
    while (c->reqs) {
        struct httpc_req *r = c->reqs;
        release(r);
        r->state = HTTPC_FAILED;
        r->client = NULL;
        err_set(&r->failure.err, "cancelled", "the HTTP client was closed");
    }
    httpc_multi_close(c);
    free(c);
    curl_global_cleanup();
}

unsigned httpc_active(const struct httpc *c)
{
    return c->active;
}

void httpc_forget(struct httpc *c)
{
    if (c->active == 0)
        httpc_multi_close(c);
}

/* ---- deadlines ----------------------------------------------------------- */

static void head_late(void *arg)
{
    struct httpc_req *r = arg;
    err_set(&r->failure.err, "timeout", "%s %s: no answer after %.10g s",
            r->method, r->peer, (double)r->o.timeout_ms / 1000);
    r->failure.deadline = "request";
    fail(r);
}

static void check_idle(void *arg);

static void start_idle(struct httpc_req *r, uint64_t ms)
{
    loop_after(r->client->loop, ms, check_idle, r, &r->idle_timer);
}

/* Silence counts only while we listen. */
static void check_idle(void *arg)
{
    struct httpc_req *r = arg;
    uint64_t now = loop_now(r->client->loop), limit = (uint64_t)r->o.idle_ms;
    if (r->recv_paused || r->in.len > 0)
        r->last = now;
    if (now - r->last < limit) {
        start_idle(r, limit - (now - r->last));
        return;
    }
    err_set(&r->failure.err, "timeout",
            "%s %s: the response was silent for %.10g s", r->method, r->peer,
            (double)r->o.idle_ms / 1000);
    r->failure.deadline = "idle";
    fail(r);
}

/* ---- curl's callbacks ---------------------------------------------------- */

static bool is_followed(const struct httpc_req *r)
{
    int s = r->head.status;
    return r->o.follow && s >= 300 && s < 400 && s != 304 &&
           httpc_head_get(&r->head, "location");
}

/* curl sends the caller's headers and method wherever it is sent. Keys must
 * not go to other hosts, and 303 means GET. */
static void before_follow(struct httpc_req *r)
{
    const char *location = httpc_head_get(&r->head, "location");
    if (!r->stripped && !httpc_setup_same_origin(r->url, location)) {
        r->stripped = true;
        curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->harmless);
    }
    if (r->head.status == 303)
        curl_easy_setopt(r->easy, CURLOPT_CUSTOMREQUEST, NULL);
}

static void got_head(struct httpc_req *r)
{
    r->head.done = true;
    r->state = HTTPC_BODY;
    r->last = loop_now(r->client->loop);
    loop_timer_stop(r->head_timer);
    if (r->o.idle_ms > 0)
        start_idle(r, (uint64_t)r->o.idle_ms);
    log_line(LOG_DEBUG, "http", "%s %s answered %d after %llu ms", r->method,
             r->peer, r->head.status, (unsigned long long)(r->last - r->begun));
    wake(r, HTTPC_READ);
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct httpc_req *r = arg;
    n *= size;
    if (r->head.done) /* trailers */
        return n;
    int got = httpc_head_line(&r->head, p, n, &r->failure.err);
    if (got < 0)
        return 0;
    if (got == 0 || r->head.status < 200)
        return n;
    if (is_followed(r))
        before_follow(r);
    else
        got_head(r);
    return n;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct httpc_req *r = arg;
    n *= size;
    if (r->in.len >= HTTPC_BUFFER) {
        r->recv_paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    if (!r->head.done)
        got_head(r);
    buf_append(&r->in, p, n);
    r->received += n;
    r->last = loop_now(r->client->loop);
    wake(r, HTTPC_READ);
    return n;
}

static size_t on_upload(char *dst, size_t size, size_t n, void *arg)
{
    struct httpc_req *r = arg;
    n *= size;
    if (r->out.len == 0 && r->finished)
        return 0;
    if (r->out.len == 0) {
        r->send_paused = true;
        wake(r, HTTPC_WRITE);
        return CURL_READFUNC_PAUSE;
    }
    if (n > r->out.len)
        n = r->out.len;
    memcpy(dst, r->out.data, n);
    buf_consume(&r->out, n);
    wake(r, HTTPC_WRITE);
    return n;
}

static int before_send(void *arg, char *ip, char *local_ip, int port,
                       int local_port)
{
    struct httpc_req *r = arg;
    (void)ip, (void)local_ip, (void)port, (void)local_port;
    r->sent = true;
    return CURL_PREREQFUNC_OK;
}

/* curl's own words, those known to carry no URL, header or name of a user. */
static int on_debug(CURL *easy, curl_infotype type, char *p, size_t n,
                    void *arg)
{
    static const char *const known[] = {
        "Trying ",     "Connected to ", "SSL connection using ",
        "Re-using ",   "Connection #",  "Closing connection",
        "connect to ", "Uses proxy",    "Establish HTTP proxy tunnel",
        NULL};
    const struct httpc_req *r = arg;
    (void)easy;
    if (type != CURLINFO_TEXT)
        return 0;
    while (n > 0 && (*p == ' ' || p[n - 1] == '\n')) {
        if (*p == ' ')
            p++;
        n--;
    }
    for (int i = 0; known[i]; i++) {
        size_t len = strlen(known[i]);
        if (n >= len && memcmp(p, known[i], len) == 0)
            log_line(LOG_DEBUG, "http", "%s: %.*s", r->peer, (int)n, p);
    }
    return 0;
}

/* ---- preparing ----------------------------------------------------------- */

struct httpc_req *httpc_prepare(struct httpc *c, const char *method,
                                const char *url, struct err *e)
{
    if (httpc_head_check_method(method, e) < 0)
        return NULL;
    struct httpc_req *r = mem_alloc(sizeof(*r));
    r->client = c;
    r->unix_dir = -1;
    r->method = mem_strdup(method);
    r->url = mem_strdup(url);
    if (httpc_setup_peer(r, e) < 0) {
        httpc_close(r);
        return NULL;
    }
    return r;
}

int httpc_header(struct httpc_req *r, const char *name, size_t nname,
                 const char *value, size_t nvalue, struct err *e)
{
    if (httpc_head_check(name, nname, value, nvalue, e) < 0)
        return -1;
    struct buf line = {0};
    buf_puts(&line, name);
    /* curl's spelling of a header without a value */
    buf_puts(&line, nvalue > 0 ? ": " : ";");
    buf_append(&line, value, nvalue);
    int got = httpc_setup_line(&r->headers, line.data, e);
    if (got == 0 && httpc_head_harmless(line.data))
        got = httpc_setup_line(&r->harmless, line.data, e);
    r->has_type = r->has_type || str_ieq(name, "content-type");
    r->has_agent = r->has_agent || str_ieq(name, "user-agent");
    buf_fini(&line);
    return got;
}

static void set_callbacks(struct httpc_req *r)
{
    CURL *h = r->easy;
    curl_easy_setopt(h, CURLOPT_PRIVATE, r);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, r->errbuf);
    curl_easy_setopt(h, CURLOPT_URL, r->url);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, r->headers);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, r);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(h, CURLOPT_READFUNCTION, on_upload);
    curl_easy_setopt(h, CURLOPT_READDATA, r);
    curl_easy_setopt(h, CURLOPT_PREREQFUNCTION, before_send);
    curl_easy_setopt(h, CURLOPT_PREREQDATA, r);
    if (log_level() > LOG_DEBUG)
        return;
    curl_easy_setopt(h, CURLOPT_DEBUGFUNCTION, on_debug);
    curl_easy_setopt(h, CURLOPT_DEBUGDATA, r);
    curl_easy_setopt(h, CURLOPT_VERBOSE, 1L);
}

static int check_options(const struct httpc_req *r,
                         const struct httpc_options *o, struct err *e)
{
    bool head = strcmp(r->method, "HEAD") == 0;
    if (head && (o->nbody > 0 || o->upload))
        return err_set(e, "invalid_argument",
                       "a HEAD request carries no body; take it out");
    if (o->upload && o->body)
        return err_set(e, "invalid_argument",
                       "give the body or upload, not both");
    if (o->upload && o->follow)
        return err_set(e, "invalid_argument",
                       "follow needs a body that can be sent again; give it as "
                       "a string instead of upload");
    return 0;
}

static void attach(struct httpc_req *r)
{
    struct httpc *c = r->client;
    r->next = c->reqs;
    r->at = &c->reqs;
    if (r->next)
        r->next->at = &r->next;
    c->reqs = r;
    c->active++;
    r->begun = loop_now(c->loop);
    if (r->o.timeout_ms > 0)
        loop_after(c->loop, (uint64_t)r->o.timeout_ms, head_late, r,
                   &r->head_timer);
}

int httpc_start(struct httpc_req *r, const struct httpc_options *o,
                struct err *e)
{
    char shown[HTTPC_PEER];
    if (check_options(r, o, e) < 0 || httpc_setup_defaults(r, e) < 0)
        return -1;
    if (r->client->multi || httpc_multi_open(r->client) == 0)
        r->easy = curl_easy_init();
    if (!r->easy)
        return err_set(e, "internal", "libcurl has no memory");
    r->o = *o;
    if (o->unix_path && httpc_setup_unix(r, e) < 0) {
        curl_easy_cleanup(r->easy); /* nothing knows of it yet */
        r->easy = NULL;
        return -1;
    }
    r->left = o->upload ? o->length : 0;
    r->finished = !o->upload;
    if (o->unix_path)
        str_fmt(r->peer, sizeof(r->peer), "unix:%s", o->unix_path);
    set_callbacks(r);
    httpc_setup(r);
    httpc_multi_adopt(r);
    attach(r);
    httpc_head_safe_url(shown, sizeof(shown), r->url);
    log_line(LOG_DEBUG, "http", "%s %s", r->method, shown);
    CURLMcode rc = curl_multi_add_handle(r->client->multi, r->easy);
    if (rc == CURLM_OK)
        return 0;
    release(r);
    return err_set(e, "internal", "libcurl: %s", curl_multi_strerror(rc));
}

/* ---- using --------------------------------------------------------------- */

enum httpc_state httpc_state(const struct httpc_req *r)
{
    return r->state;
}

bool httpc_has_head(const struct httpc_req *r)
{
    return r->head.done;
}

int httpc_status(const struct httpc_req *r)
{
    return r->head.status;
}

const char *httpc_next(const struct httpc_req *r, size_t *pos,
                       const char **value)
{
    return httpc_head_next(&r->head, pos, value);
}

/* curl calls our callbacks in here: they may pause again. */
static void go_on(struct httpc_req *r)
{
    int mask = (r->recv_paused ? CURLPAUSE_RECV : 0) |
               (r->send_paused ? CURLPAUSE_SEND : 0);
    CURLcode rc = curl_easy_pause(r->easy, mask);
    if (rc != CURLE_OK)
        completed(r, rc);
}

size_t httpc_peek(const struct httpc_req *r, const char **p)
{
    *p = r->in.data;
    return r->in.len;
}

void httpc_take(struct httpc_req *r, size_t n)
{
    buf_consume(&r->in, n);
    if (!r->recv_paused || !r->easy || r->in.len > HTTPC_BUFFER / 2)
        return;
    r->recv_paused = false;
    r->last = loop_now(r->client->loop);
    go_on(r);
}

char *httpc_space(struct httpc_req *r, size_t *n)
{
    size_t room = r->out.len < HTTPC_BUFFER ? HTTPC_BUFFER - r->out.len : 0;
    if (!r->easy)
        return NULL;
    if (*n > room)
        *n = room;
    return buf_reserve(&r->out, *n);
}

void httpc_filled(struct httpc_req *r, size_t n)
{
    if (!r->easy || n == 0)
        return;
    r->out.len += n;
    if (r->left > 0)
        r->left -= (int64_t)n < r->left ? (int64_t)n : r->left;
    if (r->send_paused) {
        r->send_paused = false;
        go_on(r);
    }
}

size_t httpc_write(struct httpc_req *r, const char *p, size_t n)
{
    char *space = httpc_space(r, &n);
    if (space && n > 0) {
        memcpy(space, p, n);
        httpc_filled(r, n);
    }
    return n;
}

void httpc_finish(struct httpc_req *r)
{
    if (r->finished)
        return;
    r->finished = true;
    if (!r->easy)
        return;
    if (r->left > 0) {
        err_set(&r->failure.err, "invalid_argument",
                "the upload to %s ended %lld bytes short of its length",
                r->peer, (long long)r->left);
        fail(r);
    } else if (r->send_paused) {
        r->send_paused = false;
        go_on(r);
    }
}

bool httpc_finished(const struct httpc_req *r)
{
    return r->finished;
}

int64_t httpc_left(const struct httpc_req *r)
{
    return r->left;
}

const struct httpc_failure *httpc_failure(const struct httpc_req *r)
{
    return &r->failure;
}

void httpc_close(struct httpc_req *r)
{
    if (!r)
        return;
    if (r->easy)
        log_line(LOG_DEBUG, "http", "%s %s closed before its end", r->method,
                 r->peer);
    release(r);
    fd_close(&r->unix_dir);
    curl_slist_free_all(r->headers);
    curl_slist_free_all(r->harmless);
    buf_fini(&r->head.fields);
    buf_fini(&r->in);
    buf_fini(&r->out);
    free(r->method);
    free(r->url);
    free(r);
}
