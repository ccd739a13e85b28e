/* HTTP/1.1 messages: llhttp's door. See http1.h. */
#include "http1.h"
#include "base/mem.h"
#include "base/str.h"

#include <llhttp.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_MAX = 64 * 1024, HEADERS_MAX = 128 };

struct http1_parser {
    llhttp_t p;
    llhttp_settings_t settings;
    struct buf text; /* target, reason, names, values, NUL after each */
    size_t target, reason;
    size_t name[HEADERS_MAX], value[HEADERS_MAX];
    int count;
    size_t head_bytes;
    bool in_head, no_body, fold_ready, failed;
    int status; /* what to answer to a bad message */
    enum http1_event event;
    const char *body;
    size_t nbody;
    struct http1_header headers[HEADERS_MAX];
    struct http1_head head;
};

static struct http1_parser *self(llhttp_t *p)
{
    return p->data;
}

static int refuse(struct http1_parser *h, int status, const char *reason)
{
    h->status = status;
    llhttp_set_error_reason(&h->p, reason);
    return HPE_USER;
}

static int on_text(llhttp_t *p, const char *at, size_t n)
{
    buf_append(&self(p)->text, at, n);
    return 0;
}

static int end_text(llhttp_t *p)
{
    buf_append(&self(p)->text, "", 1);
    return 0;
}

static int on_begin(llhttp_t *p)
{
    self(p)->target = self(p)->text.len;
    return 0;
}

static int on_line_end(llhttp_t *p)
{
    end_text(p);
    return 0;
}

static int on_name(llhttp_t *p, const char *at, size_t n)
{
    struct http1_parser *h = self(p);
    if (h->count >= HEADERS_MAX)
        return refuse(h, 431, "over 128 headers");
    if (h->name[h->count] == 0) {
        /* An empty reason never got its NUL: text never starts at 0 here. */
        if (h->text.len == 0)
            buf_append(&h->text, "", 1);
        h->name[h->count] = h->text.len;
    }
    return on_text(p, at, n);
}

static int on_name_end(llhttp_t *p)
{
    struct http1_parser *h = self(p);
    end_text(p);
    h->value[h->count] = h->text.len;
    return 0;
}

static int on_value_end(llhttp_t *p)
{
    struct http1_parser *h = self(p);
    char *v = h->text.data + h->value[h->count];
    size_t n = h->text.len - h->value[h->count];
    while (n > 0 && (v[n - 1] == ' ' || v[n - 1] == '\t'))
        n--;
    h->text.len = h->value[h->count] + n;
    end_text(p);
    h->count++;
    if (h->count < HEADERS_MAX)
        h->name[h->count] = 0;
    return 0;
}

static bool asks_upgrade(const struct http1_head *d)
{
    return d->status == 101 || (http1_has_token(d, "connection", "upgrade") &&
                                http1_get(d, "upgrade") != NULL);
}

static void fill_head(struct http1_parser *h, bool request)
{
    struct http1_head *d = &h->head;
    *d = (struct http1_head){.headers = h->headers, .nheaders = h->count};
    for (int i = 0; i < h->count; i++) {
        h->headers[i].name = h->text.data + h->name[i];
        h->headers[i].value = h->text.data + h->value[i];
    }
    d->minor = h->p.http_minor;
    d->length =
        h->p.flags & F_CONTENT_LENGTH ? (int64_t)h->p.content_length : -1;
    d->chunked = (h->p.flags & F_CHUNKED) != 0;
    d->keep_alive = llhttp_should_keep_alive(&h->p) != 0;
    if (request) {
        d->method = llhttp_method_name((llhttp_method_t)h->p.method);
        d->target = h->text.data + h->target;
    } else {
        d->status = h->p.status_code;
        d->reason = h->text.data + h->target;
    }
    d->upgrade = asks_upgrade(d);
    const char *expect = http1_get(d, "expect");
    d->expect_continue = expect && str_ieq(expect, "100-continue");
}

static int on_headers(llhttp_t *p)
{
    struct http1_parser *h = self(p);
    bool request = p->type == HTTP_REQUEST;
    if (h->text.len == 0)
        buf_append(&h->text, "", 1);
    fill_head(h, request);
    if (request && p->http_major == 1 && p->http_minor >= 1 &&
        http1_count(&h->head, "host") != 1)
        return refuse(h, 400, "exactly one Host header is required");
    if (p->http_major != 1)
        return refuse(h, 505, "only HTTP/1.x is spoken here");
    if (h->no_body)
        p->flags |= F_SKIPBODY;
    /* Whoever tunnels takes the bytes behind END; everybody else goes on with
     * the next message, which llhttp would refuse after an upgrade. */
    if (request && p->method != HTTP_CONNECT)
        p->upgrade = 0;
    h->in_head = false;
    h->event = HTTP1_HEAD;
    return HPE_PAUSED;
}

static int on_body(llhttp_t *p, const char *at, size_t n)
{
    struct http1_parser *h = self(p);
    if (n == 0)
        return 0; /* fed nothing in mid-body: no event, or nobody ever stops */
    h->body = at;
    h->nbody = n;
    h->event = HTTP1_BODY;
    return HPE_PAUSED;
}

static int on_end(llhttp_t *p)
{
    self(p)->event = HTTP1_END;
    return HPE_PAUSED;
}

struct http1_parser *http1_new(bool request)
{
    struct http1_parser *h = mem_alloc(sizeof(*h));
    llhttp_settings_init(&h->settings);
    h->settings.on_message_begin = on_begin;
    h->settings.on_url = on_text;
    h->settings.on_url_complete = on_line_end;
    h->settings.on_status = on_text;
    h->settings.on_status_complete = on_line_end;
    h->settings.on_header_field = on_name;
    h->settings.on_header_field_complete = on_name_end;
    h->settings.on_header_value = on_text;
    h->settings.on_header_value_complete = on_value_end;
    h->settings.on_headers_complete = on_headers;
    h->settings.on_body = on_body;
    h->settings.on_message_complete = on_end;
    llhttp_init(&h->p, request ? HTTP_REQUEST : HTTP_RESPONSE, &h->settings);
    h->p.data = h;
    http1_next(h);
    return h;
}

void http1_free(struct http1_parser *p)
{
    if (!p)
        return;
    buf_fini(&p->text);
    free(p);
}

void http1_next(struct http1_parser *h)
{
    buf_clear(&h->text);
    h->target = 0;
    h->count = 0;
    h->name[0] = 0;
    h->head_bytes = 0;
    h->in_head = true;
    h->fold_ready = false;
    h->no_body = false;
    h->status = 400;
}

void http1_no_body(struct http1_parser *p)
{
    p->no_body = true;
}

const struct http1_head *http1_head(const struct http1_parser *p)
{
    return &p->head;
}

int http1_status(const struct http1_parser *p)
{
    return p->status;
}

static enum http1_event fail(struct http1_parser *h, struct err *e,
                             const char *text)
{
    h->failed = true;
    err_set(e, "protocol", "HTTP: %s", text);
    return HTTP1_ERROR;
}

/* A header line that starts with a blank continues the one before it: old, and
 * a way to smuggle. llhttp folds it; we refuse it. */
static bool has_fold(struct http1_parser *h, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (h->fold_ready && (p[i] == ' ' || p[i] == '\t'))
            return true;
        h->fold_ready = p[i] == '\n';
    }
    return false;
}

enum http1_event http1_feed(struct http1_parser *h, const char *data, size_t n,
                            size_t *used, const char **body, size_t *nbody,
                            struct err *e)
{
    bool was_head = h->in_head;
    *used = 0;
    if (h->failed)
        return fail(h, e, "already failed");
    h->event = HTTP1_MORE;
    llhttp_errno_t r = llhttp_execute(&h->p, data, n);
    size_t took = n;
    if (r != HPE_OK) {
        const char *pos = llhttp_get_error_pos(&h->p);
        took = pos ? (size_t)(pos - data) : n;
    }
    if (was_head) {
        h->head_bytes += took;
        if (has_fold(h, data, took)) {
            h->status = 400;
            return fail(h, e, "a header line continues on the next one");
        }
        if (h->head_bytes > HEAD_MAX) {
            h->status = 431;
            return fail(h, e, "head over 64 KiB");
        }
    }
    if (r == HPE_OK) {
        *used = n;
        return HTTP1_MORE;
    }
    if (r == HPE_PAUSED_UPGRADE && h->event == HTTP1_MORE)
        llhttp_resume_after_upgrade(&h->p);
    else if (r == HPE_PAUSED || r == HPE_PAUSED_UPGRADE)
        llhttp_resume(&h->p);
    else
        return fail(h, e,
                    h->p.reason && *h->p.reason ? h->p.reason
                                                : llhttp_errno_name(r));
    *used = took;
    if (h->event == HTTP1_BODY) {
        *body = h->body;
        *nbody = h->nbody;
    }
    return h->event;
}

enum http1_event http1_finish(struct http1_parser *h, struct err *e)
{
    if (h->failed)
        return fail(h, e, "already failed");
    h->event = HTTP1_MORE;
    llhttp_errno_t r = llhttp_finish(&h->p);
    if (r == HPE_OK || r == HPE_PAUSED) {
        if (r == HPE_PAUSED)
            llhttp_resume(&h->p);
        if (h->event == HTTP1_END || (h->in_head && h->head_bytes == 0))
            return h->event;
    }
    return fail(h, e, "the connection ended in the middle of a message");
}

const char *http1_get(const struct http1_head *h, const char *name)
{
    for (int i = 0; i < h->nheaders; i++)
        if (str_ieq(h->headers[i].name, name))
            return h->headers[i].value;
    return NULL;
}

int http1_count(const struct http1_head *h, const char *name)
{
    int n = 0;
    for (int i = 0; i < h->nheaders; i++)
        n += str_ieq(h->headers[i].name, name);
    return n;
}

static bool list_has(const char *list, const char *token)
{
    size_t n = strlen(token);
    while (*list) {
        list += strspn(list, " \t,");
        size_t len = strcspn(list, ",");
        size_t end = len;
        while (end > 0 && (list[end - 1] == ' ' || list[end - 1] == '\t'))
            end--;
        if (end == n) {
            char word[64];
            if (str_fmt(word, sizeof(word), "%.*s", (int)n, list) == 0 &&
                str_ieq(word, token))
                return true;
        }
        list += len;
    }
    return false;
}

bool http1_has_token(const struct http1_head *h, const char *name,
                     const char *token)
{
    for (int i = 0; i < h->nheaders; i++)
        if (str_ieq(h->headers[i].name, name) &&
            list_has(h->headers[i].value, token))
            return true;
    return false;
}
