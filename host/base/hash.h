/* SHA-256 (OpenSSL's; the only user of it in base; not part of envd). */
#ifndef E2B_HASH_H
#define E2B_HASH_H

#include "err.h"

#include <stddef.h>

struct hash;
struct hash *hash_new(void);
void hash_free(struct hash *h);
void hash_update(struct hash *h, const void *p, size_t n);
/* Lower-case hex, 64 digits and NUL. The object can only be freed then. */
void hash_final(struct hash *h, char out[65]);
void hash_hex(const void *p, size_t n, char out[65]);
/* Contents of an open file from its current offset. Slow: from a job. */
int hash_fd(struct hash *h, int fd, struct err *e);

#endif
