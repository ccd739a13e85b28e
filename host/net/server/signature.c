/* Recomputes the signature of a /files URL from a token. */
#include "signature.h"

#include "base/base64.h"
#include "base/hash.h"
#include "base/str.h"
#include "net/core/http1.h"

#include <stdlib.h>
#include <string.h>

static const char *operation(const char *method)
{
    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
        return "read";
    return strcmp(method, "POST") == 0 ? "write" : NULL;
}

static unsigned nibble(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* "v1_" and the unpadded base64 of the digest of text. */
static void sign(const struct buf *text, struct buf *out)
{
    char hex[65];
    unsigned char raw[32];
    hash_hex(text->data, text->len, hex);
    for (size_t i = 0; i < 32; i++)
        raw[i] =
            (unsigned char)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
    buf_puts(out, "v1_");
    base64_encode(out, raw, sizeof(raw));
    while (out->len && out->data[out->len - 1] == '=')
        out->data[--out->len] = '\0';
}

/* Appends the value of a query parameter (nothing when absent); -1: malformed.
 */
static int add_param(struct buf *text, const char *target, const char *name)
{
    return http1_query(target, name, text) < 0 ? -1 : 0;
}

static enum signature compare(const char *op, const char *target,
                              const char *token, const struct buf *given,
                              struct buf *text, struct buf *want, int64_t now)
{
    struct buf until;
    uint64_t end = INT64_MAX;
    buf_init(&until);
    int has_end = http1_query(target, "signature_expiration", &until);
    bool ok = has_end >= 0;
    if (has_end > 0)
        ok = str_u64(until.data ? until.data : "", until.len, INT64_MAX,
                     &end) == 0;
    ok = ok && add_param(text, target, "path") == 0;
    buf_printf(text, ":%s:", op);
    ok = ok && add_param(text, target, "username") == 0;
    buf_printf(text, ":%s", token);
    if (ok && has_end > 0)
        buf_printf(text, ":%s", until.data);
    buf_fini(&until);
    sign(text, want);
    if (!ok || !str_same_secret(given->data ? given->data : "", want->data))
        return SIGNATURE_WRONG;
    return (int64_t)end < now ? SIGNATURE_EXPIRED : SIGNATURE_GOOD;
}

enum signature signature_check(const char *method, const char *target,
                               const char *token, int64_t now)
{
    struct buf given, text, want;
    const char *op = operation(method);
    buf_init(&given);
    buf_init(&text);
    buf_init(&want);
    enum signature s = SIGNATURE_WRONG;
    int got = http1_query(target, "signature", &given);
    if (got == 0)
        s = SIGNATURE_MISSING;
    else if (got > 0 && op)
        s = compare(op, target, token, &given, &text, &want, now);
    buf_fini(&given);
    buf_fini(&text);
    buf_fini(&want);
    return s;
}

const char *signature_text(enum signature s)
{
    switch (s) {
    case SIGNATURE_MISSING:
        return "missing signature query parameter";
    case SIGNATURE_EXPIRED:
        return "signature is already expired";
    default:
        return "invalid signature";
    }
}
