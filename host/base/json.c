/* JSON by jansson, with its four gaps filled. See json.h. */
#include "json.h"
#include "mem.h"
#include "str.h"
#include "utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int hex4(const char *p, size_t n)
{
    int v = 0;
    if (n < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* Offset of the next lone surrogate escape at or after i, or n. */
static size_t next_lone(const char *p, size_t n, size_t i)
{
    while (i < n) {
        const char *b = memchr(p + i, '\\', n - i);
        if (!b)
            return n;
        i = (size_t)(b - p);
        if (i + 1 >= n || p[i + 1] != 'u') {
            i += 2;
            continue;
        }
        int v = hex4(p + i + 2, n - i - 2);
        if (v >= 0xD800 && v <= 0xDBFF && i + 12 <= n && p[i + 6] == '\\' &&
            p[i + 7] == 'u') {
            int w = hex4(p + i + 8, 4);
            if (w >= 0xDC00 && w <= 0xDFFF) {
                i += 12;
                continue;
            }
        }
        if (v >= 0xD800 && v <= 0xDFFF)
            return i;
        i += 6;
    }
    return n;
}

/* Makes text that jansson takes: valid UTF-8, no lone surrogates. */
static void prepare(struct buf *b, const char *p, size_t n)
{
    if (utf8_valid(p, n))
        buf_append(b, p, n);
    else
        utf8_repair(b, p, n);
    for (size_t i = next_lone(b->data, b->len, 0); i < b->len;
         i = next_lone(b->data, b->len, i + 6))
        memcpy(b->data + i + 2, "FFFD", 4);
}

json_t *json_parse(const char *p, size_t n, struct err *e)
{
    json_error_t je;
    size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_t *v;
    if (utf8_valid(p, n) && next_lone(p, n, 0) >= n) {
        v = json_loadb(p, n, flags, &je);
    } else {
        struct buf b = {0};
        prepare(&b, p, n);
        v = json_loadb(b.data, b.len, flags, &je);
        buf_fini(&b);
    }
    if (!v)
        err_set(e, "protocol", "JSON: %s (line %d, column %d)", je.text,
                je.line, je.column);
    return v;
}

void json_write_real(struct buf *b, double d)
{
    char text[40];
    if (!isfinite(d)) {
        buf_puts(b, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, d);
        if (strtod(text, NULL) == d)
            break;
    }
    buf_puts(b, text);
    if (!strpbrk(text, ".eE"))
        buf_puts(b, ".0");
}

static void write_char(struct buf *b, unsigned char c)
{
    static const char names[] = "btn?fr"; /* 8, 9, 10, 12, 13 */
    if (c == '"' || c == '\\')
        buf_printf(b, "\\%c", c);
    else if (c >= 8 && c <= 13 && c != 11)
        buf_printf(b, "\\%c", names[c - 8]);
    else
        buf_printf(b, "\\u%04x", c);
}

static void write_valid(struct buf *b, const char *p, size_t n)
{
    size_t from = 0;
    buf_append(b, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c >= 32 && c != '"' && c != '\\' && c != 127)
            continue;
        buf_append(b, p + from, i - from);
        write_char(b, c);
        from = i + 1;
    }
    buf_append(b, p + from, n - from);
    buf_append(b, "\"", 1);
}

void json_write_string(struct buf *b, const char *p, size_t n)
{
    if (utf8_valid(p, n)) {
        write_valid(b, p, n);
        return;
    }
    struct buf fixed = {0};
    utf8_repair(&fixed, p, n);
    write_valid(b, fixed.data, fixed.len);
    buf_fini(&fixed);
}

json_t *json_bytes(const char *p, size_t n)
{
    if (utf8_valid(p, n))
        return json_stringn_nocheck(p, n);
    struct buf fixed = {0};
    utf8_repair(&fixed, p, n);
    json_t *v = json_stringn_nocheck(fixed.data, fixed.len);
    buf_fini(&fixed);
    return v;
}

struct style {
    bool pretty;
    int depth;
};

static void newline(struct buf *b, const struct style *s)
{
    if (!s->pretty)
        return;
    buf_append(b, "\n", 1);
    for (int i = 0; i < s->depth; i++)
        buf_append(b, "  ", 2);
}

static void write_value(struct buf *b, const json_t *v, struct style *s);

static void write_array(struct buf *b, const json_t *v, struct style *s)
{
    size_t n = json_array_size(v);
    buf_append(b, "[", 1);
    s->depth++;
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            buf_append(b, ",", 1);
        newline(b, s);
        write_value(b, json_array_get(v, i), s);
    }
    s->depth--;
    if (n > 0)
        newline(b, s);
    buf_append(b, "]", 1);
}

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static void write_member(struct buf *b, const char *key, const json_t *v,
                         struct style *s, bool first)
{
    if (!first)
        buf_append(b, ",", 1);
    newline(b, s);
    json_write_string(b, key, strlen(key));
    buf_puts(b, s->pretty ? ": " : ":");
    write_value(b, v, s);
}

static void write_object(struct buf *b, const json_t *v, struct style *s)
{
    size_t n = json_object_size(v), i = 0;
    const char **keys = mem_array(n, sizeof(*keys));
    void *it = json_object_iter((json_t *)(size_t)v);
    for (; it; it = json_object_iter_next((json_t *)(size_t)v, it))
        keys[i++] = json_object_iter_key(it);
    if (s->pretty)
        qsort(keys, n, sizeof(*keys), by_name);
    buf_append(b, "{", 1);
    s->depth++;
    for (i = 0; i < n; i++)
        write_member(b, keys[i], json_object_get(v, keys[i]), s, i == 0);
    s->depth--;
    if (n > 0)
        newline(b, s);
    buf_append(b, "}", 1);
    free(keys);
}

static void write_value(struct buf *b, const json_t *v, struct style *s)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        write_object(b, v, s);
        break;
    case JSON_ARRAY:
        write_array(b, v, s);
        break;
    case JSON_STRING:
        json_write_string(b, json_string_value(v), json_string_length(v));
        break;
    case JSON_INTEGER:
        buf_printf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        break;
    case JSON_REAL:
        json_write_real(b, json_real_value(v));
        break;
    case JSON_TRUE:
        buf_puts(b, "true");
        break;
    case JSON_FALSE:
        buf_puts(b, "false");
        break;
    case JSON_NULL:
        buf_puts(b, "null");
        break;
    }
}

void json_write(struct buf *b, const json_t *v)
{
    write_value(b, v, &(struct style){false, 0});
}

void json_write_pretty(struct buf *b, const json_t *v)
{
    write_value(b, v, &(struct style){true, 0});
}

void json_text(const json_t *object, const char *key, char *dst, size_t cap)
{
    const char *s = json_string_value(json_object_get(object, key));
    (void)str_fmt(dst, cap, "%s", s ? s : "");
}
