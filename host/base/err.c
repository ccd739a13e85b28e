/* Filling struct err. See err.h. */
#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 4, 0))) static void
fill(struct err *e, const char *kind, int errnum, const char *fmt, va_list ap)
{
    e->kind = kind ? kind : "internal";
    e->errnum = errnum;
    if (vsnprintf(e->msg, sizeof(e->msg), fmt, ap) < 0)
        e->msg[0] = '\0';
}

int err_set(struct err *e, const char *kind, const char *fmt, ...)
{
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        fill(e, kind, 0, fmt, ap);
        va_end(ap);
    }
    return -1;
}

static const char *kind_of_errno(int n)
{
    switch (n) {
    case ENOENT:
        return "not_found";
    case ENOSPC:
    case EDQUOT:
        return "not_enough_space";
    case ETIMEDOUT:
        return "timeout";
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENOTCONN:
    case EPIPE:
        return "network";
    default:
        return "internal";
    }
}

int err_errno(struct err *e, const char *kind, const char *fmt, ...)
{
    int saved = errno;
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        fill(e, kind ? kind : kind_of_errno(saved), saved, fmt, ap);
        va_end(ap);
        size_t n = strlen(e->msg);
        char text[96];
        const char *s = strerror_r(saved, text, sizeof(text));
        snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", s);
    }
    errno = saved;
    return -1;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    if (!e)
        return -1;
    char tail[sizeof(e->msg)];
    memcpy(tail, e->msg, sizeof(tail));
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof(e->msg))
        snprintf(e->msg + n, sizeof(e->msg) - (size_t)n, ": %s", tail);
    return -1;
}
