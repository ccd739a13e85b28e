/* Connect protocol pieces: envelopes (1 byte flags, 4 bytes big-endian length,
 * payload), codes. Source: reference of envd, section 6. */
#ifndef E2B_CONNECT_H
#define E2B_CONNECT_H

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

enum { CONNECT_COMPRESSED = 1, CONNECT_END = 2 };
#define CONNECT_MAX (64u << 20) /* largest message accepted */

void connect_put(struct buf *out, unsigned flags, const void *p, size_t n);

/* Incremental reader: feed bytes, take messages. */
struct connect_reader {
    struct buf in;
    size_t max, taken;
};
void connect_reader_init(struct connect_reader *r, size_t max);
void connect_reader_fini(struct connect_reader *r);
void connect_reader_feed(struct connect_reader *r, const void *p, size_t n);
/* 1: *p, *n, *flags set (valid until the next call); 0: needs more; -1: over
 * max or reserved flag. */
int connect_reader_next(struct connect_reader *r, unsigned *flags,
                        const char **p, size_t *n, struct err *e);

/* HTTP status of a code name ("not_found" -> 404; unknown -> 500). */
int connect_status(const char *code);

#endif
