/* HTTP's rules about the content of a file. See content.h. */
#include "content.h"
#include "base/path.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Accept-Encoding ----------------------------------------------------- */

struct accepted {
    double gzip, identity, star; /* -1: not named */
    bool others;
};

static double quality(const char *p, size_t n)
{
    char text[16];
    const char *q = memchr(p, ';', n);
    if (!q)
        return 1;
    q++;
    while (q < p + n && (*q == ' ' || *q == '\t'))
        q++;
    size_t left = (size_t)(p + n - q);
    if (left < 2 || (q[0] | 0x20) != 'q' || q[1] != '=')
        return 1;
    if (left - 2 >= sizeof(text))
        return 0;
    memcpy(text, q + 2, left - 2);
    text[left - 2] = '\0';
    double v = strtod(text, NULL);
    return v > 1 ? 1 : v >= 0 ? v : 0;
}

static bool is_coding(const char *p, size_t n, const char *name)
{
    size_t len = strcspn(p, "; \t,");
    char text[16];
    if (len > n || len >= sizeof(text))
        return false;
    memcpy(text, p, len);
    text[len] = '\0';
    return str_ieq(text, name);
}

static void one_coding(struct accepted *a, const char *p, size_t n)
{
    double q = quality(p, n);
    if (is_coding(p, n, "gzip") || is_coding(p, n, "x-gzip"))
        a->gzip = q;
    else if (is_coding(p, n, "identity"))
        a->identity = q;
    else if (*p == '*')
        a->star = q;
    else if (q > 0)
        a->others = true;
}

enum content_coding content_negotiate(const char *accept)
{
    struct accepted a = {-1, -1, -1, false};
    for (const char *p = accept ? accept : ""; *p;) {
        p += strspn(p, " \t,");
        size_t n = strcspn(p, ",");
        if (n > 0)
            one_coding(&a, p, n);
        p += n;
    }
    bool identity = a.identity > 0 || (a.identity < 0 && a.star != 0);
    if (!identity)
        return a.gzip > 0 ? CONTENT_GZIP : CONTENT_NEITHER;
    return a.gzip > 0 && a.gzip >= a.identity && !a.others ? CONTENT_GZIP
                                                           : CONTENT_IDENTITY;
}

/* ---- Range --------------------------------------------------------------- */

/* Digits at *p; false when there are none or too many. */
static bool number(const char **p, int64_t *v)
{
    size_t n = strspn(*p, "0123456789");
    uint64_t u;
    if (n == 0 || str_u64(*p, n, INT64_MAX, &u) < 0)
        return false;
    *v = (int64_t)u;
    *p += n;
    return true;
}

int content_range(const char *range, int64_t size, int64_t *first,
                  int64_t *last)
{
    if (!range)
        return 0;
    if (strncmp(range, "bytes=", 6) != 0)
        return -1;
    const char *p = range + 6 + strspn(range + 6, " \t");
    if (strchr(p, ','))
        return 0;
    bool suffix = *p == '-';
    int64_t n = 0;
    *last = size - 1;
    if (suffix) {
        p++;
        if (!number(&p, &n))
            return -1;
        *first = n < size ? size - n : 0;
        if (n == 0 && size > 0)
            return -1;
    } else {
        if (!number(&p, first) || *p++ != '-')
            return -1;
        if (*p >= '0' && *p <= '9') {
            if (!number(&p, &n) || n < *first)
                return -1;
            if (n < *last)
                *last = n;
        }
    }
    p += strspn(p, " \t");
    if (*p)
        return -1;
    if (size == 0)
        return 0; /* nothing to cut: the whole empty file */
    return *first < size ? 1 : -1;
}

/* ---- dates and conditions ------------------------------------------------ */

void content_date(time_t t, char dst[40])
{
    struct tm tm;
    dst[0] = '\0';
    if (gmtime_r(&t, &tm))
        strftime(dst, 40, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

bool content_parse_date(const char *text, time_t *t)
{
    static const char *const forms[] = {
        "%a, %d %b %Y %H:%M:%S GMT", /* IMF-fixdate */
        "%A, %d-%b-%y %H:%M:%S GMT", /* RFC 850 */
        "%a %b %e %H:%M:%S %Y",      /* asctime */
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct tm tm;
        memset(&tm, 0, sizeof(tm));
        const char *end = strptime(text, forms[i], &tm);
        if (end && !*end) {
            *t = timegm(&tm);
            return true;
        }
    }
    return false;
}

bool content_conditional(const struct http1_head *h)
{
    return http1_get(h, "Range") || http1_get(h, "If-Modified-Since") ||
           http1_get(h, "If-None-Match") || http1_get(h, "If-Range");
}

/* Files have no entity tag here: a list of tags matches nothing, "*" does. */
int content_conditions(const struct http1_head *h, time_t t, bool *use_range)
{
    time_t given;
    const char *v = http1_get(h, "If-Range");
    *use_range = !v || (content_parse_date(v, &given) && given == t);
    v = http1_get(h, "If-Match");
    if (v && strcmp(v, "*") != 0)
        return 412;
    if (!v && (v = http1_get(h, "If-Unmodified-Since")) &&
        content_parse_date(v, &given) && t > given)
        return 412;
    v = http1_get(h, "If-None-Match");
    if (v)
        return strcmp(v, "*") == 0 ? 304 : 0;
    v = http1_get(h, "If-Modified-Since");
    return v && content_parse_date(v, &given) && t <= given ? 304 : 0;
}

/* ---- types --------------------------------------------------------------- */

const char *content_type(const char *path)
{
    static const struct {
        const char *ext, *type;
    } table[] = {
        {".avif", "image/avif"},
        {".css", "text/css; charset=utf-8"},
        {".csv", "text/csv; charset=utf-8"},
        {".gif", "image/gif"},
        {".gz", "application/gzip"},
        {".htm", "text/html; charset=utf-8"},
        {".html", "text/html; charset=utf-8"},
        {".jpeg", "image/jpeg"},
        {".jpg", "image/jpeg"},
        {".js", "text/javascript; charset=utf-8"},
        {".json", "application/json"},
        {".mjs", "text/javascript; charset=utf-8"},
        {".pdf", "application/pdf"},
        {".png", "image/png"},
        {".svg", "image/svg+xml"},
        {".tar", "application/x-tar"},
        {".txt", "text/plain; charset=utf-8"},
        {".wasm", "application/wasm"},
        {".webp", "image/webp"},
        {".xml", "text/xml; charset=utf-8"},
        {".zip", "application/zip"},
    };
    const char *dot = strrchr(path_base(path), '.');
    for (size_t i = 0; dot && i < sizeof(table) / sizeof(table[0]); i++)
        if (str_ieq(dot, table[i].ext))
            return table[i].type;
    return NULL;
}

const char *content_sniff(const char *p, size_t n)
{
    static const struct {
        const char *magic;
        size_t n;
        const char *type;
    } table[] = {
        {"%PDF-", 5, "application/pdf"},
        {"\x89PNG\r\n\x1a\n", 8, "image/png"},
        {"\xff\xd8\xff", 3, "image/jpeg"},
        {"GIF87a", 6, "image/gif"},
        {"GIF89a", 6, "image/gif"},
        {"PK\x03\x04", 4, "application/zip"},
        {"\x1f\x8b\x08", 3, "application/x-gzip"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (n >= table[i].n && memcmp(p, table[i].magic, table[i].n) == 0)
            return table[i].type;
    for (size_t i = 0; i < n && i < 512; i++) {
        unsigned char c = (unsigned char)p[i];
        bool text = c >= 0x20 || c == '\t' || c == '\n' || c == '\r' ||
                    c == '\f' || c == 0x1b;
        if (!text)
            return "application/octet-stream";
    }
    return "text/plain; charset=utf-8";
}

/* ---- names --------------------------------------------------------------- */

void content_disposition(struct buf *out, const char *path)
{
    static const char special[] = "()<>@,;:\\\"/[]?= ";
    const char *name = path_base(path);
    bool odd = false, quote = false;
    for (const char *p = name; *p; p++) {
        odd = odd || *p < ' ' || *p > '~';
        quote = quote || strchr(special, *p);
    }
    if (odd) { /* RFC 2231 */
        buf_puts(out, "inline; filename*=utf-8''");
        http1_escape(out, name, strlen(name));
    } else if (quote) {
        buf_puts(out, "inline; filename=\"");
        for (const char *p = name; *p; p++)
            buf_printf(out, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
        buf_puts(out, "\"");
    } else {
        buf_printf(out, "inline; filename=%s", name);
    }
}
