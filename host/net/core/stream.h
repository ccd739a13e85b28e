/* A byte stream (TCP, unix, pipe) on the loop with back-pressure both ways.
 * Owns its descriptor. */
#ifndef E2B_STREAM_H
#define E2B_STREAM_H

#include "loop.h"

#include <stddef.h>

struct stream;

struct stream_ops {
    /* n > 0 bytes; n == 0 end of file; n < 0 failed (e filled). After end or
     * failure nothing more is read. */
    void (*read)(void *arg, const char *p, long n, const struct err *e);
    /* Queued bytes fell to zero, after stream_write returned "full". */
    void (*drain)(void *arg);
    /* A write failed: the peer is gone. Close the stream. */
    void (*fail)(void *arg, const struct err *e);
};

/* Takes fd over on success (a connected socket or pipe, made nonblocking). */
struct stream *stream_new(struct loop *l, int fd, const struct stream_ops *ops,
                          void *arg, struct err *e);
void stream_set_ops(struct stream *s, const struct stream_ops *ops, void *arg);
int stream_fd(const struct stream *s);
void stream_read(struct stream *s, bool on); /* starts off */
/* Copies what the kernel does not take at once. Returns the bytes queued now;
 * callers stop producing above STREAM_HIGH and go on at drain. */
#define STREAM_HIGH ((size_t)256 * 1024)
size_t stream_write(struct stream *s, const void *p, size_t n);
size_t stream_queued(const struct stream *s);
void stream_shutdown(struct stream *s); /* FIN behind the queue */
/* Puts bytes back in front of what is read next (hand-over after a parser). */
void stream_unread(struct stream *s, const void *p, size_t n);
/* Closes; no callback comes any more. reset: RST instead of FIN (TCP). The
 * queue is dropped unless flush, which lingers at most 5 s. */
void stream_close(struct stream *s, bool flush);
void stream_reset(struct stream *s);

/* Nonblocking connect with a deadline; fn gets the stream or NULL and e. */
struct stream_connect;
struct stream_connect *
stream_connect_tcp(struct loop *l, const char *ip, int port, int timeout_ms,
                   void (*fn)(void *arg, struct stream *s, const struct err *e),
                   void *arg, struct err *e);
/* The same from a socket somebody else made (another netns, unix). Takes fd. */
struct stream_connect *
stream_connect_fd(struct loop *l, int fd, const void *sockaddr, unsigned len,
                  int timeout_ms,
                  void (*fn)(void *arg, struct stream *s, const struct err *e),
                  void *arg, struct err *e);
void stream_connect_cancel(struct stream_connect *c);

/* Accepts on a listening descriptor it takes over; fn owns the new fd. */
struct stream_listen;
struct stream_listen *stream_listen(struct loop *l, int fd,
                                    void (*fn)(void *arg, int fd), void *arg,
                                    struct err *e);
void stream_listen_pause(struct stream_listen *s, bool on);
void stream_listen_close(struct stream_listen *s);
/* Bound, listening, nonblocking TCP socket; port 0 picks one, *port tells. */
int stream_bind_tcp(const char *ip, int port, int *bound, struct err *e);

#endif
