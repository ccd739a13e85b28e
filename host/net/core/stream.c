/* Byte streams on the loop. See stream.h. */
#include "stream.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_MAX = 64 * 1024, LINGER_MS = 5000 };

struct stream {
    struct loop *loop;
    int fd;
    struct loop_watch *watch;
    const struct stream_ops *ops;
    void *arg;
    struct buf queue;         /* what the kernel has not taken */
    struct buf unread;        /* handed back by a parser, read first */
    struct loop_timer *later; /* unread bytes or a failure to report */
    struct loop_timer *linger;
    bool reading, ended, full, closing, shut, broken;
    int write_errno;
    bool *gone; /* set by close: the stream is freed under a callback */
};

static void update(struct stream *s)
{
    unsigned events = 0;
    if (s->reading && !s->ended && !s->closing && s->unread.len == 0)
        events |= LOOP_READ;
    if (s->queue.len > 0 && !s->broken)
        events |= LOOP_WRITE;
    loop_watch_set(s->watch, events);
}

static void destroy(struct stream *s)
{
    loop_watch_stop(s->watch);
    loop_timer_stop(s->later);
    loop_timer_stop(s->linger);
    fd_close(&s->fd);
    buf_fini(&s->queue);
    buf_fini(&s->unread);
    if (s->gone)
        *s->gone = true;
    free(s);
}

/* A callback on the C stack, which may close the stream. */
struct frame {
    bool gone, *outer;
};

static void enter(struct stream *s, struct frame *c)
{
    c->gone = false;
    c->outer = s->gone;
    s->gone = &c->gone;
}

/* True when the callback has closed the stream. */
static bool leave(struct stream *s, struct frame *c)
{
    if (!c->gone)
        s->gone = c->outer;
    else if (c->outer)
        *c->outer = true;
    return c->gone;
}

/* Runs a callback; returns true when it has closed the stream. */
#define CALL(s, call)                                                          \
    do {                                                                       \
        struct frame c_;                                                       \
        enter(s, &c_);                                                         \
        call;                                                                  \
        if (leave(s, &c_))                                                     \
            return true;                                                       \
    } while (0)

static bool deliver_unread(struct stream *s)
{
    struct buf b = s->unread;
    s->unread = (struct buf){0};
    struct frame c;
    enter(s, &c);
    s->ops->read(s->arg, b.data, (long)b.len, NULL);
    buf_fini(&b);
    return leave(s, &c);
}

static bool report(struct stream *s)
{
    if (s->broken && !s->closing) {
        struct err e;
        errno = s->write_errno;
        err_errno(&e, "network", "write");
        CALL(s, s->ops->fail(s->arg, &e));
    }
    return false;
}

static void later(void *arg)
{
    struct stream *s = arg;
    if (s->unread.len > 0 && s->reading && !s->closing && deliver_unread(s))
        return;
    if (report(s))
        return;
    update(s);
}

static void soon(struct stream *s)
{
    if (!s->later)
        loop_after(s->loop, 0, later, s, &s->later);
}

static bool readable(struct stream *s)
{
    char p[READ_MAX];
    ssize_t n = read(s->fd, p, sizeof(p));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n > 0) {
        CALL(s, s->ops->read(s->arg, p, n, NULL));
        return false;
    }
    s->ended = true;
    struct err e;
    if (n < 0)
        err_errno(&e, "network", "read");
    CALL(s, s->ops->read(s->arg, NULL, n < 0 ? -1 : 0, n < 0 ? &e : NULL));
    return false;
}

/* Gives the kernel what it takes of n bytes: their number, or -1 with
 * write_errno set when it is over. */
static ssize_t give(struct stream *s, const char *p, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t got = send(s->fd, p + done, n - done, MSG_NOSIGNAL);
        if (got < 0 && errno == ENOTSOCK)
            got = write(s->fd, p + done, n - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            break;
        if (got < 0) {
            s->write_errno = errno;
            s->broken = true;
            buf_clear(&s->queue);
            return -1;
        }
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static int push(struct stream *s)
{
    ssize_t n = give(s, s->queue.data, s->queue.len);
    if (n < 0)
        return -1;
    buf_consume(&s->queue, (size_t)n);
    if (s->queue.len > 0)
        return 0;
    if (s->shut)
        shutdown(s->fd, SHUT_WR);
    return 0;
}

static bool writable(struct stream *s)
{
    if (push(s) < 0) {
        if (s->closing) {
            destroy(s);
            return true;
        }
        return report(s);
    }
    if (s->queue.len > 0)
        return false;
    if (s->closing) {
        destroy(s);
        return true;
    }
    if (s->full) {
        s->full = false;
        if (s->ops->drain)
            CALL(s, s->ops->drain(s->arg));
    }
    return false;
}

static void ready(void *arg, unsigned events)
{
    struct stream *s = arg;
    bool error = (events & LOOP_ERROR) != 0;
    /* An error on the descriptor shows in whichever call is due. */
    if ((events & LOOP_WRITE || error) && s->queue.len > 0 && writable(s))
        return;
    if ((events & LOOP_READ || error) && s->reading && !s->ended &&
        !s->closing && s->unread.len == 0 && readable(s))
        return;
    update(s);
}

struct stream *stream_new(struct loop *l, int fd, const struct stream_ops *ops,
                          void *arg, struct err *e)
{
    if (fd_nonblock(fd, true, e) < 0)
        return NULL;
    struct stream *s = mem_alloc(sizeof(*s));
    s->watch = loop_watch(l, fd, 0, ready, s, e);
    if (!s->watch) {
        free(s);
        return NULL;
    }
    s->loop = l;
    s->fd = fd;
    s->ops = ops;
    s->arg = arg;
    return s;
}

void stream_set_ops(struct stream *s, const struct stream_ops *ops, void *arg)
{
    s->ops = ops;
    s->arg = arg;
}

int stream_fd(const struct stream *s)
{
    return s->fd;
}

void stream_read(struct stream *s, bool on)
{
    s->reading = on;
    if (on && s->unread.len > 0)
        soon(s);
    update(s);
}

size_t stream_write(struct stream *s, const void *p, size_t n)
{
    if (s->broken || s->closing || n == 0)
        return s->queue.len;
    /* Past an empty queue most of it needs no copy. */
    ssize_t done = s->queue.len == 0 ? give(s, p, n) : 0;
    if (done < 0)
        soon(s);
    else
        buf_append(&s->queue, (const char *)p + done, n - (size_t)done);
    if (s->queue.len > STREAM_HIGH)
        s->full = true;
    update(s);
    return s->queue.len;
}

size_t stream_queued(const struct stream *s)
{
    return s->queue.len;
}

void stream_shutdown(struct stream *s)
{
    s->shut = true;
    if (s->queue.len == 0)
        shutdown(s->fd, SHUT_WR);
}

void stream_unread(struct stream *s, const void *p, size_t n)
{
    struct buf b = {0};
    if (n == 0)
        return;
    buf_append(&b, p, n);
    buf_append(&b, s->unread.data, s->unread.len);
    buf_fini(&s->unread);
    s->unread = b;
    if (s->reading)
        soon(s);
    update(s);
}

static void linger_over(void *arg)
{
    destroy(arg);
}

void stream_close(struct stream *s, bool flush)
{
    if (!flush || s->queue.len == 0 || s->broken) {
        destroy(s);
        return;
    }
    if (s->gone) {
        *s->gone = true; /* to the callback it is as good as freed */
        s->gone = NULL;
    }
    s->closing = true;
    loop_timer_stop(s->later);
    loop_after(s->loop, LINGER_MS, linger_over, s, &s->linger);
    update(s);
}

void stream_reset(struct stream *s)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    destroy(s);
}
