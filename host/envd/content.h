/* HTTP's rules about the content of a file: ranges, dates, codings, types and
 * names. Pure functions. */
#ifndef E2B_CONTENT_H
#define E2B_CONTENT_H

#include "base/buf.h"
#include "net/core/http1.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum content_coding { CONTENT_IDENTITY, CONTENT_GZIP, CONTENT_NEITHER };

/* accept: the Accept-Encoding header or NULL. gzip only where it is the one
 * coding asked for, or identity is refused: HTTP libraries offer gzip without
 * being asked, and compressing for a neighbour on the machine costs both sides
 * time. */
enum content_coding content_negotiate(const char *accept);

/* A Range header against a size: 1 and one range, 0 serve the whole (absent,
 * or several ranges), -1 it is malformed or beyond the end. */
int content_range(const char *range, int64_t size, int64_t *first,
                  int64_t *last);

void content_date(time_t t, char dst[40]);
bool content_parse_date(const char *text, time_t *t);

/* What the request's conditions say of a file changed at t: 0 serve, 304, 412.
 * *use_range: If-Range does not forbid it. */
int content_conditions(const struct http1_head *h, time_t t, bool *use_range);
/* Range or a condition is asked: answered unencoded. */
bool content_conditional(const struct http1_head *h);

/* By the extension, NULL when unknown; by the first bytes. */
const char *content_type(const char *path);
const char *content_sniff(const char *p, size_t n);

/* "inline; filename=..." for any bytes in the base name of path. */
void content_disposition(struct buf *out, const char *path);

#endif
