/* Server-sent events. See sse.h. */
#include "sse.h"

#include <string.h>

void sse_init(struct sse *s, size_t max)
{
    *s = (struct sse){.max = max};
}

void sse_fini(struct sse *s)
{
    buf_fini(&s->line);
    buf_fini(&s->data);
    buf_fini(&s->event);
}

typedef void sse_fn(void *arg, const char *event, const char *data, size_t n);

static void dispatch(struct sse *s, sse_fn *fn, void *arg)
{
    if (s->data.len > 0) {
        /* Each data line left a LF; the last one is not part of it. */
        s->data.data[--s->data.len] = '\0';
        fn(arg, s->event.len ? s->event.data : "message", s->data.data,
           s->data.len);
    }
    buf_clear(&s->data);
    buf_clear(&s->event);
}

static void field(struct sse *s, const char *p, size_t n)
{
    const char *colon = memchr(p, ':', n);
    size_t name = colon ? (size_t)(colon - p) : n;
    const char *v = colon ? colon + 1 : p + n;
    size_t nv = (size_t)(p + n - v);
    if (nv > 0 && *v == ' ') {
        v++;
        nv--;
    }
    if (name == 4 && memcmp(p, "data", 4) == 0) {
        buf_append(&s->data, v, nv);
        buf_append(&s->data, "\n", 1);
    } else if (name == 5 && memcmp(p, "event", 5) == 0) {
        buf_clear(&s->event);
        buf_append(&s->event, v, nv);
    }
}

static void line(struct sse *s, sse_fn *fn, void *arg)
{
    const char *p = s->line.len ? s->line.data : "";
    size_t n = s->line.len;
    if (!s->started && n >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) {
        p += 3;
        n -= 3;
    }
    s->started = true;
    if (n == 0)
        dispatch(s, fn, arg);
    else
        field(s, p, n);
    buf_clear(&s->line);
}

int sse_feed(struct sse *s, const char *p, size_t n, sse_fn *fn, void *arg,
             struct err *e)
{
    size_t i = 0;
    while (i < n) {
        if (s->cr && p[i] == '\n') {
            i++; /* the second half of CRLF */
            s->cr = false;
            continue;
        }
        s->cr = false;
        size_t from = i;
        while (i < n && p[i] != '\n' && p[i] != '\r')
            i++;
        buf_append(&s->line, p + from, i - from);
        if (s->line.len + s->data.len > s->max)
            return err_set(e, "protocol", "an event is over %zu bytes", s->max);
        if (i < n) {
            s->cr = p[i] == '\r';
            i++;
            line(s, fn, arg);
        }
    }
    return 0;
}
