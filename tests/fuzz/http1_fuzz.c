/* http1: the first byte says which kind of message and how the rest is cut;
 * heads, bodies and the outcome must be those of feeding it in one piece. */
#include "net/core/http1.h"
#include "base/buf.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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
        enum http1_event ev =
            http1_feed(p, data, n, &used, &body, &nbody, &e);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct buf whole, cut;
    buf_init(&whole);
    buf_init(&cut);
    bool request = data[0] & 1;
    const char *p = (const char *)data + 1;
    read_all(request, p, size - 1, size, &whole);
    read_all(request, p, size - 1, data[0] / 2 % 32 + 1u, &cut);
    if (whole.len != cut.len ||
        (whole.len && memcmp(whole.data, cut.data, whole.len) != 0))
        abort();
    buf_clear(&whole);
    buf_clear(&cut);
    /* What is escaped comes back. */
    http1_escape(&whole, p, size - 1);
    if (http1_unescape(&cut, whole.data, whole.len, false) < 0 ||
        cut.len != size - 1 || memcmp(cut.data, p, cut.len) != 0)
        abort();
    (void)http1_unescape(&cut, p, size - 1, true);
    buf_fini(&whole);
    buf_fini(&cut);
    return 0;
}
