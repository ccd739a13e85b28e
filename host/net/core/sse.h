/* Server-sent events, read incrementally (WHATWG rules: CR, LF, CRLF, BOM,
 * several data lines joined by LF). */
#ifndef E2B_SSE_H
#define E2B_SSE_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

struct sse {
    struct buf line, data, event;
    bool started, cr;
    size_t max;
};

void sse_init(struct sse *s, size_t max);
void sse_fini(struct sse *s);
/* Calls fn for each complete event ("message" when unnamed). -1: one event is
 * over max bytes. */
int sse_feed(struct sse *s, const char *p, size_t n,
             void (*fn)(void *arg, const char *event, const char *data,
                        size_t n),
             void *arg, struct err *e);

#endif
