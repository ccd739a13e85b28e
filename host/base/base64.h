/* Base64, standard alphabet with padding out; in: standard or URL alphabet,
 * padded or not (proto3 JSON). */
#ifndef E2B_BASE64_H
#define E2B_BASE64_H

#include "buf.h"

void base64_encode(struct buf *out, const void *p, size_t n);
int base64_decode(struct buf *out, const char *p, size_t n); /* -1: invalid */

#endif
