/* connect: the first byte says how the rest is cut; the messages must be those
 * of feeding it in one piece, and writing them again gives the same bytes. */
#include "net/core/connect.h"
#include "cut.h"

enum { MESSAGE_MAX = 4096 };

static int read_all(const char *p, size_t len, size_t step, struct buf *out)
{
    struct connect_reader r;
    struct err e;
    int got = 0;
    connect_reader_init(&r, MESSAGE_MAX);
    for (size_t i = 0; got == 0 && i < len; i += step) {
        unsigned flags;
        const char *message;
        size_t n;
        connect_reader_feed(&r, p + i, len - i < step ? len - i : step);
        while ((got = connect_reader_next(&r, &flags, &message, &n, &e)) > 0) {
            if (n > MESSAGE_MAX)
                abort();
            connect_put(out, flags, message, n);
        }
    }
    connect_reader_fini(&r);
    if (out->len > len || (out->len && memcmp(out->data, p, out->len) != 0))
        abort();
    return got;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1)
        cut_check(data, size, read_all);
    return 0;
}
