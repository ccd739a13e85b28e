/* Streaming gzip both ways (zlib's door). */
#ifndef E2B_GZIP_H
#define E2B_GZIP_H

#include "buf.h"
#include "err.h"

#include <stdbool.h>

struct gzip;
struct gzip *gzip_new(bool compress);
void gzip_free(struct gzip *g);
/* Feeds n bytes, appends what comes out (at most out_max; the rest stays for
 * the next call with n = 0). last ends a compressed stream. *used says how many
 * input bytes were taken. Returns 1 when the stream has ended, 0, or -1. */
int gzip_run(struct gzip *g, const void *p, size_t n, size_t *used, bool last,
             size_t out_max, struct buf *out, struct err *e);

#endif
