/* Connect protocol envelopes and codes. See connect.h. */
#include "connect.h"

#include <string.h>

void connect_put(struct buf *out, unsigned flags, const void *p, size_t n)
{
    unsigned char head[5] = {(unsigned char)flags, (unsigned char)(n >> 24),
                             (unsigned char)(n >> 16), (unsigned char)(n >> 8),
                             (unsigned char)n};
    buf_append(out, head, sizeof(head));
    buf_append(out, p, n);
}

void connect_reader_init(struct connect_reader *r, size_t max)
{
    *r = (struct connect_reader){.max = max};
}

void connect_reader_fini(struct connect_reader *r)
{
    buf_fini(&r->in);
}

void connect_reader_feed(struct connect_reader *r, const void *p, size_t n)
{
    if (r->taken > 0) {
        buf_consume(&r->in, r->taken);
        r->taken = 0;
    }
    buf_append(&r->in, p, n);
}

int connect_reader_next(struct connect_reader *r, unsigned *flags,
                        const char **p, size_t *n, struct err *e)
{
    size_t left = r->in.len - r->taken;
    if (left < 5)
        return 0;
    const unsigned char *h = (const unsigned char *)r->in.data + r->taken;
    size_t len =
        (size_t)h[1] << 24 | (size_t)h[2] << 16 | (size_t)h[3] << 8 | h[4];
    if (h[0] & ~(unsigned)(CONNECT_COMPRESSED | CONNECT_END))
        return err_set(e, "protocol", "Connect: reserved flag 0x%02x", h[0]);
    if (len > r->max)
        return err_set(e, "protocol",
                       "Connect: a message of %zu bytes is over the limit of "
                       "%zu",
                       len, r->max);
    if (left < 5 + len)
        return 0;
    *flags = h[0];
    *p = (const char *)h + 5;
    *n = len;
    r->taken += 5 + len;
    return 1;
}

int connect_status(const char *code)
{
    static const struct {
        const char *code;
        int status;
    } table[] = {
        {"canceled", 499},
        {"invalid_argument", 400},
        {"deadline_exceeded", 504},
        {"not_found", 404},
        {"already_exists", 409},
        {"permission_denied", 403},
        {"resource_exhausted", 429},
        {"failed_precondition", 400},
        {"aborted", 409},
        {"out_of_range", 400},
        {"unimplemented", 501},
        {"unavailable", 503},
        {"unauthenticated", 401},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(table[i].code, code) == 0)
            return table[i].status;
    return 500; /* unknown, internal, data_loss */
}
