/* sse: the first byte says how the rest is cut; the events must be those of
 * feeding it in one piece. */
#include "net/core/sse.h"
#include "base/buf.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

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
    if (size < 2)
        return 0;
    struct buf whole, cut;
    buf_init(&whole);
    buf_init(&cut);
    const char *p = (const char *)data + 1;
    int a = read_all(p, size - 1, size, &whole);
    int b = read_all(p, size - 1, data[0] % 32 + 1u, &cut);
    if (a != b || whole.len != cut.len ||
        (whole.len && memcmp(whole.data, cut.data, whole.len) != 0))
        abort();
    buf_fini(&whole);
    buf_fini(&cut);
    return 0;
}
