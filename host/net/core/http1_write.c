/* Writing HTTP/1.1 heads and chunks, and the percent-coding of targets. See
 * http1.h. */
#include "http1.h"

#include <stdio.h>
#include <string.h>

const char *http1_reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } table[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
        {529, "Overloaded"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (table[i].status == status)
            return table[i].text;
    return "Unknown";
}

int http1_put_status(struct buf *b, int status)
{
    if (status < 100 || status > 999)
        return -1;
    buf_printf(b, "HTTP/1.1 %d %s\r\n", status, http1_reason(status));
    return 0;
}

static int clean(const char *s, const char *refused)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '\r' || c == '\n' || (*refused && (c <= ' ' || c == 127)) ||
            (*refused && strchr(refused, c)))
            return -1;
    }
    return 0;
}

int http1_put_request(struct buf *b, const char *method, const char *target)
{
    if (!*method || !*target || clean(method, ":") < 0 ||
        clean(target, "#") < 0)
        return -1;
    buf_printf(b, "%s %s HTTP/1.1\r\n", method, target);
    return 0;
}

int http1_put_header(struct buf *b, const char *name, const char *value)
{
    if (!*name || clean(name, ":") < 0 || clean(value, "") < 0)
        return -1;
    buf_printf(b, "%s: %s\r\n", name, value);
    return 0;
}

void http1_put_end(struct buf *b)
{
    buf_puts(b, "\r\n");
}

void http1_put_chunk(struct buf *b, const void *p, size_t n)
{
    if (n == 0)
        return; /* would end the body */
    buf_printf(b, "%zx\r\n", n);
    buf_append(b, p, n);
    buf_puts(b, "\r\n");
}

void http1_put_last_chunk(struct buf *b)
{
    buf_puts(b, "0\r\n\r\n");
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int http1_unescape(struct buf *out, const char *p, size_t n, bool plus)
{
    buf_reserve(out, n);
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        if (c == '%') {
            if (i + 2 >= n || digit(p[i + 1]) < 0 || digit(p[i + 2]) < 0)
                return -1;
            c = (char)(digit(p[i + 1]) * 16 + digit(p[i + 2]));
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        buf_append(out, &c, 1);
    }
    return 0;
}

void http1_escape(struct buf *out, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            (c >= '0' && c <= '9') || (c && strchr("-._~", c)))
            buf_append(out, p + i, 1);
        else
            buf_printf(out, "%%%02X", c);
    }
}

int http1_query(const char *target, const char *name, struct buf *out)
{
    const char *p = strchr(target, '?');
    while (p && *p && *p != '#') {
        p++;
        size_t len = strcspn(p, "&#");
        const char *eq = memchr(p, '=', len);
        size_t nname = eq ? (size_t)(eq - p) : len;
        struct buf key = {0};
        int r = http1_unescape(&key, p, nname, true);
        bool same = r == 0 && strlen(name) == key.len &&
                    memcmp(key.len ? key.data : "", name, key.len) == 0;
        buf_fini(&key);
        if (r < 0)
            return -1;
        if (same) {
            buf_reserve(out, 0);
            if (eq && http1_unescape(out, eq + 1, len - nname - 1, true) < 0)
                return -1;
            return 1;
        }
        p += len;
    }
    return 0;
}
