/* A growing byte buffer. See buf.h. */
#include "buf.h"
#include "mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b)
{
    *b = (struct buf){0};
}

void buf_fini(struct buf *b)
{
    if (b->data)
        free(b->data - b->head);
    *b = (struct buf){0};
}

/* What was dropped is room again. */
static void move_to_front(struct buf *b)
{
    char *all = b->data - b->head;
    memmove(all, b->data, b->len);
    b->data = all;
    b->cap += b->head;
    b->head = 0;
}

char *buf_reserve(struct buf *b, size_t n)
{
    if (n >= SIZE_MAX / 2 - b->len)
        abort();
    size_t need = b->len + n + 1;
    if (need > b->cap && b->head > 0)
        move_to_front(b);
    if (need > b->cap) {
        size_t cap = b->cap ? b->cap : 64;
        while (cap < need)
            cap *= 2;
        b->data = mem_realloc(b->data, cap);
        b->cap = cap;
    }
    b->data[b->len] = '\0';
    return b->data + b->len;
}

void buf_append(struct buf *b, const void *p, size_t n)
{
    char *dst = buf_reserve(b, n);
    if (n)
        memcpy(dst, p, n);
    b->len += n;
    b->data[b->len] = '\0';
}

void buf_puts(struct buf *b, const char *s)
{
    buf_append(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n > 0) {
        char *dst = buf_reserve(b, (size_t)n);
        vsnprintf(dst, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void buf_consume(struct buf *b, size_t n)
{
    if (n >= b->len) {
        buf_clear(b);
        return;
    }
    b->data += n;
    b->head += n;
    b->len -= n;
    b->cap -= n;
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (!b->data)
        return;
    b->data -= b->head;
    b->cap += b->head;
    b->head = 0;
    b->data[0] = '\0';
}

char *buf_steal(struct buf *b, size_t *len)
{
    buf_reserve(b, 0);
    move_to_front(b);
    char *p = b->data;
    if (len)
        *len = b->len;
    *b = (struct buf){0};
    return p;
}
