/* sse: the first byte says how the rest is cut; the events must be those of
 * feeding it in one piece. */
#include "net/core/sse.h"
#include "cut.h"

enum { EVENT_MAX = 1024 };

static void on_event(void *arg, const char *event, const char *data, size_t n)
{
    if (n > EVENT_MAX)
        abort();
    buf_printf(arg, "<%s|", event);
    buf_append(arg, data, n);
    buf_puts(arg, ">");
}

static int read_all(const char *p, size_t len, size_t step, struct buf *out)
{
    struct sse s;
    struct err e;
    int r = 0;
    sse_init(&s, EVENT_MAX);
    for (size_t i = 0; r == 0 && i < len; i += step)
        r = sse_feed(&s, p + i, len - i < step ? len - i : step, on_event, out,
                     &e);
    sse_fini(&s);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1)
        cut_check(data, size, read_all);
    return 0;
}
