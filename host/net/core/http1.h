/* HTTP/1.1 messages (llhttp's door): an incremental parser for requests and
 * responses that keeps the head and hands out the body in pieces, and writers.
 * Refuses beside llhttp's strict rules: obs-fold, missing or double Host in
 * HTTP/1.1 requests, heads over 64 KiB, over 128 headers. */
#ifndef E2B_HTTP1_H
#define E2B_HTTP1_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct http1_header {
    const char *name, *value; /* as sent; value trimmed */
};

struct http1_head {
    /* request */
    const char *method, *target; /* target as on the wire */
    /* response */
    int status;
    const char *reason;
    int minor; /* HTTP/1.minor */
    struct http1_header *headers;
    int nheaders;
    int64_t length; /* Content-Length, -1: none */
    bool chunked, keep_alive;
    bool upgrade; /* Connection: upgrade with an Upgrade header, or 101 */
    bool expect_continue;
};

/* First value of the header (case-insensitive), or NULL. */
const char *http1_get(const struct http1_head *h, const char *name);
int http1_count(const struct http1_head *h, const char *name);
/* Comma-separated token present in any header of that name. */
bool http1_has_token(const struct http1_head *h, const char *name,
                     const char *token);

struct http1_parser;

enum http1_event {
    HTTP1_MORE,  /* all input used, feed more */
    HTTP1_HEAD,  /* head complete: http1_head() valid until http1_next() */
    HTTP1_BODY,  /* *body, *nbody point into the input */
    HTTP1_END,   /* message complete; rest of the input is the next one's, or
                    raw bytes after an upgrade */
    HTTP1_ERROR, /* e filled, http1_status() says what to answer */
};

struct http1_parser *http1_new(bool request);
void http1_free(struct http1_parser *p);
/* Parses up to the next event; *used says how far. n == 0 is allowed (llhttp
 * reports the end of a message only when called again). */
enum http1_event http1_feed(struct http1_parser *p, const char *data, size_t n,
                            size_t *used, const char **body, size_t *nbody,
                            struct err *e);
/* End of input: END for a read-until-close body, ERROR in mid-message, MORE
 * between messages. */
enum http1_event http1_finish(struct http1_parser *p, struct err *e);
const struct http1_head *http1_head(const struct http1_parser *p);
int http1_status(const struct http1_parser *p); /* 400, 413, 431, 505 ... */
/* A response parser must know when no body can follow (HEAD, CONNECT). */
void http1_no_body(struct http1_parser *p);
/* After END: ready for the next message on the connection. */
void http1_next(struct http1_parser *p);

/* Writers. Names and values are checked for CR, LF, NUL: -1 when refused. */
const char *http1_reason(int status); /* standard phrase or "Unknown" */
int http1_put_status(struct buf *b, int status);
int http1_put_request(struct buf *b, const char *method, const char *target);
int http1_put_header(struct buf *b, const char *name, const char *value);
void http1_put_end(struct buf *b); /* the blank line */
void http1_put_chunk(struct buf *b, const void *p,
                     size_t n); /* n==0: nothing */
void http1_put_last_chunk(struct buf *b);

/* Percent-decoding; plus: '+' is a space. Appends; -1 on bad escapes. */
int http1_unescape(struct buf *out, const char *p, size_t n, bool plus);
void http1_escape(struct buf *out, const char *p, size_t n); /* RFC 3986 */
/* Value of a query parameter of a target, decoded ('+' = space): 1 found, 0
 * absent, -1 bad. First one wins. */
int http1_query(const char *target, const char *name, struct buf *out);

#endif
