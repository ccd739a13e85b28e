/* A growing byte buffer. Always NUL-terminated behind len once non-empty. */
#ifndef E2B_BUF_H
#define E2B_BUF_H

#include <stddef.h>

struct buf {
    char *data;
    size_t len, cap;
    size_t head; /* bytes before data that were dropped */
};

void buf_init(struct buf *b);
void buf_fini(struct buf *b); /* twice is legal */
/* Room for n more bytes behind len; returns where to write. */
char *buf_reserve(struct buf *b, size_t n);
void buf_append(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Drops the first n bytes, without moving the others. */
void buf_consume(struct buf *b, size_t n);
void buf_clear(struct buf *b); /* len = 0, keeps memory */
/* Gives the memory (NUL-terminated, never NULL) to the caller. */
char *buf_steal(struct buf *b, size_t *len);

#endif
