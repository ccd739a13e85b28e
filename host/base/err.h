/* One way to fail. A function that can fail takes `struct err *e` last. On
 * failure it fills *e and returns -1 or NULL; on success it leaves *e alone.
 * The struct lives at the caller and owns no memory. */
#ifndef E2B_ERR_H
#define E2B_ERR_H

#include <stddef.h>

/* kind is one of the closed list in stdlib/e2b/error.lua, a static string. */
struct err {
    const char *kind;
    int errnum;
    char msg[480];
};

/* Fills *e (e may be NULL); always returns -1. kind NULL means "internal". */
int err_set(struct err *e, const char *kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As err_set, takes errno first thing, appends ": strerror", keeps the number.
 * kind NULL: chosen from errno (ENOENT not_found, ENOSPC/EDQUOT
 * not_enough_space, ETIMEDOUT timeout, E*CONN*, EPIPE network, else
 * internal). */
int err_errno(struct err *e, const char *kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "context: " in front of the message; returns -1. */
int err_wrap(struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
