/* Signed /files URLs (envd reference, section 5). */
#ifndef E2B_SIGNATURE_H
#define E2B_SIGNATURE_H

#include <stdint.h>

enum signature {
    SIGNATURE_GOOD,
    SIGNATURE_MISSING,
    SIGNATURE_WRONG,
    SIGNATURE_EXPIRED,
};

/* Checks the query of a /files target against a sandbox's token. method: GET or
 * HEAD read, POST writes, anything else is wrong. now: unix seconds. */
enum signature signature_check(const char *method, const char *target,
                               const char *token, int64_t now);
/* The text of the 401 answer. */
const char *signature_text(enum signature s);

#endif
