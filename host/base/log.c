/* Log lines to one descriptor. See log.h. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    int fd;
    enum log_level min;
} sink = {STDERR_FILENO, LOG_WARN};

void log_open(int fd, enum log_level min)
{
    sink.fd = fd;
    sink.min = min;
}

enum log_level log_level(void)
{
    return sink.min;
}

/* Control bytes would let a value forge a second line. */
static size_t escape(char *dst, size_t cap, const char *src)
{
    size_t n = 0;
    for (; *src && n + 5 < cap; src++) {
        unsigned char c = (unsigned char)*src;
        if (c == '\n') {
            dst[n++] = '\\';
            dst[n++] = 'n';
        } else if (c < 32 || c == 127) {
            n += (size_t)snprintf(dst + n, cap - n, "\\x%02x", c);
        } else {
            dst[n++] = (char)c;
        }
    }
    dst[n] = '\0';
    return n;
}

void log_line(enum log_level l, const char *area, const char *fmt, ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if (l < sink.min || l >= LOG_NONE || sink.fd < 0)
        return;
    char text[1600], line[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);

    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof(line) - n,
                          ".%03ldZ %s %s: ", ts.tv_nsec / 1000000, names[l],
                          area);
    n += escape(line + n, sizeof(line) - n - 1, text);
    line[n++] = '\n';
    ssize_t r = write(sink.fd, line, n);
    (void)r;
}
