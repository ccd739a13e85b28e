/* For fuzzers of readers that take their input in pieces. */
#ifndef E2B_FUZZ_CUT_H
#define E2B_FUZZ_CUT_H

#include "base/buf.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Reads p[0..len) in pieces of step bytes and notes in out what comes. */
typedef int cut_reader(const char *p, size_t len, size_t step, struct buf *out);

/* data[0] says how the rest is cut; aborts when the result is not that of one
 * piece. */
static inline void cut_check(const uint8_t *data, size_t size, cut_reader *read)
{
    struct buf whole, cut;
    buf_init(&whole);
    buf_init(&cut);
    const char *p = (const char *)data + 1;
    int a = read(p, size - 1, size, &whole);
    int b = read(p, size - 1, data[0] % 32 + 1u, &cut);
    if (a != b || whole.len != cut.len ||
        (whole.len && memcmp(whole.data, cut.data, whole.len) != 0))
        abort();
    buf_fini(&whole);
    buf_fini(&cut);
}

#endif
