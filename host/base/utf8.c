/* UTF-8 checks and repair. See utf8.h. */
#include "utf8.h"

/* Length of the well-formed sequence at p, or 0; *bad gets the length of the
 * maximal ill-formed subpart (at least 1). Unicode table 3-7. */
static size_t sequence(const unsigned char *p, size_t n, size_t *bad)
{
    unsigned char c = p[0], lo = 0x80, hi = 0xBF;
    size_t need;
    *bad = 1;
    if (c < 0x80)
        return 1;
    if (c >= 0xC2 && c <= 0xDF) {
        need = 2;
    } else if (c >= 0xE0 && c <= 0xEF) {
        need = 3;
        if (c == 0xE0)
            lo = 0xA0;
        else if (c == 0xED)
            hi = 0x9F;
    } else if (c >= 0xF0 && c <= 0xF4) {
        need = 4;
        if (c == 0xF0)
            lo = 0x90;
        else if (c == 0xF4)
            hi = 0x8F;
    } else {
        return 0;
    }
    for (size_t i = 1; i < need; i++) {
        if (i >= n || p[i] < lo || p[i] > hi) {
            *bad = i;
            return 0;
        }
        lo = 0x80;
        hi = 0xBF;
    }
    return need;
}

bool utf8_valid(const char *p, size_t n)
{
    const unsigned char *s = (const unsigned char *)p;
    size_t bad;
    for (size_t i = 0; i < n;) {
        size_t k = sequence(s + i, n - i, &bad);
        if (k == 0)
            return false;
        i += k;
    }
    return true;
}

void utf8_repair(struct buf *out, const char *p, size_t n)
{
    const unsigned char *s = (const unsigned char *)p;
    size_t from = 0, i = 0, bad;
    while (i < n) {
        size_t k = sequence(s + i, n - i, &bad);
        if (k > 0) {
            i += k;
            continue;
        }
        buf_append(out, p + from, i - from);
        buf_append(out, "\xEF\xBF\xBD", 3);
        i += bad;
        from = i;
    }
    buf_append(out, p + from, n - from);
}
