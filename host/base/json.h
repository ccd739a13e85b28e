/* JSON by jansson with the four things it lacks: shortest reals, 64-bit range
 * as a typed error, lone surrogates repaired to U+FFFD, NUL allowed. */
#ifndef E2B_JSON_H
#define E2B_JSON_H

#include "buf.h"
#include "err.h"

#include <jansson.h>

/* New reference. kind "protocol"; the message names line and column. */
json_t *json_parse(const char *p, size_t n, struct err *e);
/* Appends compact JSON; object keys in insertion order. */
void json_write(struct buf *b, const json_t *v);
/* Same with sorted keys and two-space indent if indent. */
void json_write_pretty(struct buf *b, const json_t *v);
/* Appends "..." with repaired UTF-8. */
void json_write_string(struct buf *b, const char *p, size_t n);
/* json_string from bytes that may not be UTF-8 (repaired). */
json_t *json_bytes(const char *p, size_t n);
/* The text of an object's member, cut to cap; "" when there is none. */
void json_text(const json_t *object, const char *key, char *dst, size_t cap);
/* Shortest text that reads back as d, with a '.' or an 'e'. */
void json_write_real(struct buf *b, double d);

#endif
