/* Metadata of an upload: X-Metadata-* headers, kept as extended attributes. */
#ifndef E2B_METADATA_H
#define E2B_METADATA_H

#include "net/core/http1.h"

#include <jansson.h>

/* Object of lower-case keys to texts from the headers; first one wins. New
 * reference, or NULL: kind invalid_argument, "invalid metadata: ...". */
json_t *metadata_read(const struct http1_head *h, struct err *e);
/* Replaces the whole set on an open file. -1 with errno; a file system without
 * extended attributes is no failure. */
int metadata_store(int fd, const json_t *metadata);

#endif
