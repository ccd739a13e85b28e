/* http1: the first byte says how the rest is cut; heads, bodies and the outcome
 * must be those of feeding it in one piece. */
#include "net/core/http1.h"
#include "cut.h"

static void note_head(struct buf *out, const struct http1_head *h)
{
    if (h->method)
        buf_printf(out, "<%s|%s", h->method, h->target);
    else
        buf_printf(out, "<%d|%s", h->status, h->reason);
    buf_printf(out, "|%d|%lld|%d%d%d%d", h->minor, (long long)h->length,
               h->chunked, h->keep_alive, h->upgrade, h->expect_continue);
    for (int i = 0; i < h->nheaders; i++)
        buf_printf(out, "|%s=%s", h->headers[i].name, h->headers[i].value);
    buf_puts(out, ">");
}

/* False when the connection is over: an error or an upgrade. */
static bool feed(struct http1_parser *p, const char *data, size_t n,
                 struct buf *out)
{
    struct err e;
    for (;;) {
        size_t used = 0, nbody = 0;
        const char *body = NULL;
        enum http1_event ev = http1_feed(p, data, n, &used, &body, &nbody, &e);
        if (used > n)
            abort();
        data += used;
        n -= used;
        if (ev == HTTP1_HEAD) {
            note_head(out, http1_head(p));
        } else if (ev == HTTP1_BODY) {
            buf_append(out, body, nbody);
        } else if (ev == HTTP1_END) {
            bool upgrade = http1_head(p)->upgrade;
            buf_puts(out, "</>");
            if (upgrade)
                return false;
            http1_next(p);
        } else if (ev == HTTP1_ERROR) {
            buf_printf(out, "<!%d>", http1_status(p));
            return false;
        } else if (n == 0) {
            return true;
        } else {
            abort(); /* MORE with input left */
        }
    }
}

static void read_all(bool request, const char *p, size_t len, size_t step,
                     struct buf *out)
{
    struct err e;
    struct http1_parser *parser = http1_new(request);
    bool open = true;
    for (size_t i = 0; open && i < len; i += step)
        open = feed(parser, p + i, len - i < step ? len - i : step, out);
    if (open)
        buf_printf(out, "<.%d>", http1_finish(parser, &e));
    http1_free(parser);
}

static int read_requests(const char *p, size_t len, size_t step,
                         struct buf *out)
{
    read_all(true, p, len, step, out);
    return 0;
}

static int read_responses(const char *p, size_t len, size_t step,
                          struct buf *out)
{
    read_all(false, p, len, step, out);
    return 0;
}

/* What is escaped comes back. */
static void escapes(const char *p, size_t n)
{
    struct buf escaped, plain;
    buf_init(&escaped);
    buf_init(&plain);
    http1_escape(&escaped, p, n);
    if (http1_unescape(&plain, escaped.data, escaped.len, false) < 0 ||
        plain.len != n || memcmp(plain.data, p, n) != 0)
        abort();
    (void)http1_unescape(&plain, p, n, true);
    buf_fini(&escaped);
    buf_fini(&plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    cut_check(data, size, read_requests);
    cut_check(data, size, read_responses);
    escapes((const char *)data + 1, size - 1);
    return 0;
}
