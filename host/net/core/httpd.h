/* HTTP/1.1 server on the loop: keep-alive, pipelining one at a time, streaming
 * both ways with back-pressure, 100-continue, Upgrade as a raw stream.
 * Deadlines: 30 s for a head, 640 s idle between requests. */
#ifndef E2B_HTTPD_H
#define E2B_HTTPD_H

#include "http1.h"
#include "stream.h"

struct httpd;
struct httpd_req;

struct httpd_ops {
    /* A new connection, before a byte is read by us. true: the hook took the
     * descriptor over (envd's hand-over of sockets). May be NULL. */
    bool (*accept)(void *arg, int fd);
    /* Head complete. Set the request's own callbacks here; the body flows after
     * httpd_req_read(r, true). */
    void (*request)(void *arg, struct httpd_req *r);
};

struct httpd_req_ops {
    /* A piece of the body; n == 0: complete. */
    void (*body)(void *arg, const char *p, size_t n);
    /* The response's queue is empty again after httpd_write said full. */
    void (*drain)(void *arg);
    /* The connection broke (or the server closes) before the response ended.
     * The request is gone after this call. Not called after httpd_end's
     * response was fully queued: then `done` is. */
    void (*abort)(void *arg);
    /* Response ended and body consumed: the request is gone after this call. */
    void (*done)(void *arg);
};

struct httpd *httpd_new(struct loop *l, const struct httpd_ops *ops, void *arg);
/* Adds a listening descriptor (takes it over). */
int httpd_listen(struct httpd *s, int fd, struct err *e);
/* Serves one accepted connection (takes fd over). local: came by the unix
 * socket. */
int httpd_serve(struct httpd *s, int fd, struct err *e);
unsigned httpd_connections(const struct httpd *s);
/* No new connections; open ones are reset when force, else end after their
 * response. Then httpd_free may be called. */
void httpd_close(struct httpd *s, bool force);
void httpd_free(struct httpd *s);

const struct http1_head *httpd_head(const struct httpd_req *r);
int httpd_fd(const struct httpd_req *r);
struct loop *httpd_loop(const struct httpd_req *r);
bool httpd_is_unix(const struct httpd_req *r); /* peer came by AF_UNIX */
void httpd_set(struct httpd_req *r, const struct httpd_req_ops *ops, void *arg);
void httpd_read(struct httpd_req *r, bool on); /* body, starts off */

/* Response: head with begin, then header calls, then body. length -1: chunked
 * (to an HTTP/1.0 client: until close). 204, 304 and HEAD carry no body. */
void httpd_begin(struct httpd_req *r, int status, int64_t length);
int httpd_header(struct httpd_req *r, const char *name, const char *value);
/* A header of whatever answer will be begun on this request (CORS). */
int httpd_always(struct httpd_req *r, const char *name, const char *value);
/* Sends the head now (else with the first body byte). */
void httpd_flush(struct httpd_req *r);
/* Returns bytes queued; stop above STREAM_HIGH until drain. */
size_t httpd_write(struct httpd_req *r, const void *p, size_t n);
/* Completes; with length -1 writes the last chunk. The unread rest of the
 * request's body is dropped (up to 1 MiB or 1 s, then the connection closes).
 */
void httpd_end(struct httpd_req *r);
/* begin + headers "content-type" + body + end in one call. */
void httpd_reply(struct httpd_req *r, int status, const char *type,
                 const void *p, size_t n);
/* {"code":status,"message":text} with the E2B form of JSON errors. */
void httpd_error(struct httpd_req *r, int status, const char *message);
/* Breaks the connection by a TCP reset; abort is not called. */
void httpd_reset(struct httpd_req *r);
/* Breaks off an answer that has begun: what was written still goes out, then
 * the connection ends before the answer is complete. abort is not called. */
void httpd_cut(struct httpd_req *r);
/* After a 101 or CONNECT answer was written by the caller through this: takes
 * the raw stream (unread bytes pushed back); the request is gone. */
struct stream *httpd_steal(struct httpd_req *r);
/* Closes the connection after this response. */
void httpd_close_after(struct httpd_req *r);

#endif
