/* Which host the first bytes of a connection ask for: the SNI of a TLS
 * ClientHello or the Host of an HTTP request. */
#ifndef E2B_EGRESS_PEEK_H
#define E2B_EGRESS_PEEK_H

#include <stddef.h>

enum { EGRESS_PEEK_MAX = 32 * 1024 };

enum egress_peek {
    EGRESS_PEEK_MORE,    /* cannot be told yet */
    EGRESS_PEEK_NOTHING, /* neither, or it names no host */
    EGRESS_PEEK_HOST,    /* host holds it, as it came */
    EGRESS_PEEK_BAD      /* made to be read in two ways */
};

/* host: at least 256 bytes. */
enum egress_peek egress_peek(const char *p, size_t n, char *host);

#endif
