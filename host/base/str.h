/* Small string helpers that libc lacks. No allocation. */
#ifndef E2B_STR_H
#define E2B_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
bool str_ieq(const char *a, const char *b); /* ASCII, no locale */
/* Bounded formatting: 0, or -1 when it did not fit (always terminated). */
int str_fmt(char *dst, size_t cap, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Whole string is a decimal number in [0, max]: 0 and *out, else -1. */
int str_u64(const char *s, size_t n, uint64_t max, uint64_t *out);
/* Constant time; lengths may differ. */
bool str_same_secret(const char *a, const char *b);
/* Lower-case hex of n bytes into dst[2n+1]. */
void str_hex(char *dst, const void *p, size_t n);
/* n random bytes from getrandom; aborts if the kernel has none. */
void str_random(void *p, size_t n);

#endif
