/* Log lines to one descriptor: "2026-01-01T10:00:00.123Z level area: text".
 * The caller keeps secrets out; newlines in the text are escaped. */
#ifndef E2B_LOG_H
#define E2B_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_NONE };

/* Default: stderr (2), LOG_WARN. Not thread-safe: call at start. */
void log_open(int fd, enum log_level min);
enum log_level log_level(void);
/* One write(2) a line, at most 2 KiB; from any thread. */
void log_line(enum log_level l, const char *area, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
