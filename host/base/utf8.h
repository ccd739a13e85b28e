/* UTF-8 checks and repair (invalid sequences become U+FFFD, Unicode's
 * "maximal subpart" rule). */
#ifndef E2B_UTF8_H
#define E2B_UTF8_H

#include "buf.h"

#include <stdbool.h>

bool utf8_valid(const char *p, size_t n);
void utf8_repair(struct buf *out, const char *p, size_t n);

#endif
