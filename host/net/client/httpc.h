/* HTTP/1.1 client (libcurl's only door): any number of requests on one loop,
 * a pool of kept-alive connections, streaming both ways with bounded buffers.
 * Follows the proxy variables of the environment as curl does; trusts ca_file,
 * else $SSL_CERT_FILE, else $SSL_CERT_DIR, else the system's certificates.
 * Messages name peer and reason, never headers, user names or queries. */
#ifndef E2B_HTTPC_H
#define E2B_HTTPC_H

#include "net/core/loop.h"

#include <stddef.h>

struct httpc;
struct httpc_req;

/* Room for the bytes of each direction that the other side has not taken. */
enum { HTTPC_BUFFER = 256 * 1024 };

struct httpc *httpc_new(struct loop *l, struct err *e);
/* Ends what still runs; its requests stay valid for httpc_close alone. */
void httpc_free(struct httpc *c);
unsigned httpc_active(const struct httpc *c); /* requests not ended */
/* Closes the kept connections, unless a request runs. */
void httpc_forget(struct httpc *c);

enum { HTTPC_READ = 1, HTTPC_WRITE = 2 };

struct httpc_options {
    long timeout_ms; /* until the response's head; 0: none */
    long connect_ms; /* name, connection and TLS; 0: none */
    long idle_ms;    /* between bytes of the response's body; 0: none */
    const char *unix_path, *ca_file;
    const char *proxy;           /* "" = none whatever the environment says */
    const char *accept_encoding; /* "gzip": decoded; NULL: as it comes */
    bool large;                  /* the response: read in larger pieces */
    bool follow;                 /* redirects, at most 10 */
    const char *body;            /* the caller keeps it until the end */
    size_t nbody;
    bool upload;    /* the body comes by httpc_write */
    int64_t length; /* of the upload, -1: unknown (chunked) */
    /* Something is to be read (head, body, end, failure), or there is room to
     * write. Only marks: must not call into httpc. */
    void (*wake)(void *arg, unsigned what);
    void *arg;
};

/* A request in preparation; kind invalid_argument names what is wrong. The
 * caller owns it until httpc_close. */
struct httpc_req *httpc_prepare(struct httpc *c, const char *method,
                                const char *url, struct err *e);
int httpc_header(struct httpc_req *r, const char *name, size_t nname,
                 const char *value, size_t nvalue, struct err *e);
/* Starts it; never blocks. Strings are copied, except the body. */
int httpc_start(struct httpc_req *r, const struct httpc_options *o,
                struct err *e);

enum httpc_state {
    HTTPC_WAITING, /* no head yet */
    HTTPC_BODY,    /* head there, more may come */
    HTTPC_ENDED,   /* complete; what is buffered can still be read */
    HTTPC_FAILED,  /* likewise, then httpc_failure tells why */
};

enum httpc_state httpc_state(const struct httpc_req *r);
bool httpc_has_head(const struct httpc_req *r); /* also after a failure */
int httpc_status(const struct httpc_req *r);
/* Walks the head: *pos starts at 0; lower-case name, or NULL at the end. */
const char *httpc_next(const struct httpc_req *r, size_t *pos,
                       const char **value);
/* The body bytes that are here; httpc_take drops the first n of them. */
size_t httpc_peek(const struct httpc_req *r, const char **p);
void httpc_take(struct httpc_req *r, size_t n);
/* Takes as much as there is room for; returns how much that was (0: wait for
 * HTTPC_WRITE). Bytes after the end of the response are dropped. */
size_t httpc_write(struct httpc_req *r, const char *p, size_t n);
/* The same without a copy: where at most *n bytes may be put (*n becomes the
 * room there is), NULL when they would be dropped; then how many were. */
char *httpc_space(struct httpc_req *r, size_t *n);
void httpc_filled(struct httpc_req *r, size_t n);
/* No more is written. Fewer bytes than announced fail the request. */
void httpc_finish(struct httpc_req *r);
bool httpc_finished(const struct httpc_req *r); /* or nothing to upload */
int64_t httpc_left(const struct httpc_req *r);  /* announced, -1: unknown */

struct httpc_failure {
    struct err err;
    const char *deadline; /* "request", "idle" or NULL */
    bool retryable;       /* nothing had been sent */
};
const struct httpc_failure *httpc_failure(const struct httpc_req *r);

/* Ends it if it runs, frees it. NULL is fine. */
void httpc_close(struct httpc_req *r);

#endif
