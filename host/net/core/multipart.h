/* multipart/form-data, read incrementally (RFC 7578; boundaries to 70 bytes,
 * part heads to 16 KiB). */
#ifndef E2B_MULTIPART_H
#define E2B_MULTIPART_H

#include "base/err.h"

#include <stddef.h>

struct multipart;

struct multipart_ops {
    /* name and filename decoded (quoted pairs, RFC 2231 filename*), filename
     * NULL when absent. Return -1 (e filled) to stop. */
    int (*part)(void *arg, const char *name, const char *filename,
                struct err *e);
    int (*data)(void *arg, const char *p, size_t n, struct err *e);
    int (*end)(void *arg, struct err *e); /* of one part */
};

/* NULL when the content type is not multipart/form-data with a boundary. */
struct multipart *multipart_new(const char *content_type,
                                const struct multipart_ops *ops, void *arg,
                                struct err *e);
void multipart_free(struct multipart *m);
int multipart_feed(struct multipart *m, const char *p, size_t n, struct err *e);
/* The body has ended: -1 unless the closing boundary was seen. */
int multipart_finish(struct multipart *m, struct err *e);

#endif
