/* Listening and connecting on the loop. See stream.h. */
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ACCEPT_BATCH = 64, ACCEPT_PAUSE_MS = 100, BACKLOG = 512 };

static socklen_t make_address(struct sockaddr_storage *a, const char *ip,
                              int port)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)a;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)a;
    memset(a, 0, sizeof(*a));
    if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        return sizeof(*v4);
    }
    if (inet_pton(AF_INET6, ip, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        return sizeof(*v6);
    }
    return 0;
}

static int open_socket(const char *ip, int port, struct sockaddr_storage *a,
                       socklen_t *len, struct err *e)
{
    *len = make_address(a, ip, port);
    if (*len == 0 || port < 0 || port > 65535)
        return err_set(e, "invalid_argument", "not an address: %s port %d", ip,
                       port);
    int fd =
        socket(a->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, NULL, "socket");
    return fd;
}

/* ---- listening ---- */

struct stream_listen {
    struct loop *loop;
    int fd;
    struct loop_watch *watch;
    struct loop_timer *pause;
    bool paused, accepting, closed; /* closed in fn: freed behind it */
    void (*fn)(void *arg, int fd);
    void *arg;
};

/* Small pieces go at once: waiting for an acknowledgement costs an event
 * stream 40 ms. Not for unix sockets, where it fails. */
static void no_delay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void resume(void *arg)
{
    struct stream_listen *s = arg;
    if (!s->paused)
        loop_watch_set(s->watch, LOOP_READ);
}

static void incoming(void *arg, unsigned events)
{
    struct stream_listen *s = arg;
    (void)events;
    s->accepting = true;
    for (int i = 0; i < ACCEPT_BATCH && !s->closed && !s->paused; i++) {
        int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            no_delay(fd);
            s->fn(s->arg, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
            errno == ENOMEM) {
            /* The connection stays in the backlog; asking again at once would
             * only spin. */
            log_line(LOG_WARN, "net", "accept: %s; pausing", strerror(errno));
            loop_watch_set(s->watch, 0);
            loop_after(s->loop, ACCEPT_PAUSE_MS, resume, s, &s->pause);
            break;
        }
        if (errno != EINTR && errno != ECONNABORTED)
            break;
    }
    s->accepting = false;
    if (s->closed)
        free(s);
}

struct stream_listen *stream_listen(struct loop *l, int fd,
                                    void (*fn)(void *arg, int fd), void *arg,
                                    struct err *e)
{
    struct stream_listen *s = mem_alloc(sizeof(*s));
    s->watch = loop_watch(l, fd, LOOP_READ, incoming, s, e);
    if (!s->watch) {
        free(s);
        return NULL;
    }
    s->loop = l;
    s->fd = fd;
    s->fn = fn;
    s->arg = arg;
    return s;
}

void stream_listen_pause(struct stream_listen *s, bool on)
{
    s->paused = on;
    loop_watch_set(s->watch, on || s->pause ? 0 : LOOP_READ);
}

void stream_listen_close(struct stream_listen *s)
{
    if (!s)
        return;
    loop_watch_stop(s->watch);
    loop_timer_stop(s->pause);
    fd_close(&s->fd);
    if (s->accepting)
        s->closed = true;
    else
        free(s);
}

int stream_bind_tcp(const char *ip, int port, int *bound, struct err *e)
{
    struct sockaddr_storage a;
    socklen_t len;
    int one = 1;
    FD_AUTO int fd = open_socket(ip, port, &a, &len, e);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (a.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&a, len) < 0 || listen(fd, BACKLOG) < 0)
        return err_errno(e, "network", "listen on %s port %d", ip, port);
    if (getsockname(fd, (struct sockaddr *)&a, &len) < 0)
        return err_errno(e, NULL, "getsockname");
    if (bound)
        *bound = ntohs(a.ss_family == AF_INET
                           ? ((struct sockaddr_in *)&a)->sin_port
                           : ((struct sockaddr_in6 *)&a)->sin6_port);
    return fd_take(&fd);
}

/* ---- connecting ---- */

struct stream_connect {
    struct loop *loop;
    int fd, timeout_ms;
    struct loop_watch *watch;
    struct loop_timer *timer;
    int errnum; /* a connect that failed at once, told in a later turn */
    void (*fn)(void *arg, struct stream *s, const struct err *e);
    void *arg;
};

void stream_connect_cancel(struct stream_connect *c)
{
    if (!c)
        return;
    loop_watch_stop(c->watch);
    loop_timer_stop(c->timer);
    fd_close(&c->fd);
    free(c);
}

static void finish(struct stream_connect *c, const struct err *failed)
{
    struct err e;
    struct stream *s = NULL;
    void (*fn)(void *, struct stream *, const struct err *) = c->fn;
    void *arg = c->arg;
    if (!failed) {
        no_delay(c->fd);
        loop_watch_stop(c->watch);
        c->watch = NULL;
        s = stream_new(c->loop, c->fd, NULL, NULL, &e);
        if (s)
            c->fd = -1;
        else
            failed = &e;
    }
    stream_connect_cancel(c);
    fn(arg, s, failed);
}

static void connected(void *arg, unsigned events)
{
    struct stream_connect *c = arg;
    int errnum = 0;
    socklen_t len = sizeof(errnum);
    struct err e;
    (void)events;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &errnum, &len);
    errno = errnum;
    if (errnum)
        err_errno(&e, "network", "connect");
    finish(c, errnum ? &e : NULL);
}

static void timed_out(void *arg)
{
    struct stream_connect *c = arg;
    struct err e;
    errno = c->errnum;
    if (c->errnum)
        err_errno(&e, "network", "connect");
    else
        err_set(&e, "timeout", "connect: no answer within %d ms",
                c->timeout_ms);
    finish(c, &e);
}

struct stream_connect *
stream_connect_fd(struct loop *l, int fd, const void *sockaddr, unsigned len,
                  int timeout_ms,
                  void (*fn)(void *arg, struct stream *s, const struct err *e),
                  void *arg, struct err *e)
{
    struct stream_connect *c = mem_alloc(sizeof(*c));
    *c = (struct stream_connect){.loop = l, .fd = fd, .fn = fn, .arg = arg};
    c->timeout_ms = timeout_ms;
    int r;
    do
        r = connect(fd, sockaddr, len);
    while (r < 0 && errno == EINTR);
    if (r < 0 && errno != EINPROGRESS)
        c->errnum = errno;
    if (!c->errnum) {
        c->watch = loop_watch(l, fd, LOOP_WRITE, connected, c, e);
        if (!c->watch) {
            free(c); /* fd stays the caller's */
            return NULL;
        }
    }
    loop_after(l, c->errnum ? 0 : (uint64_t)timeout_ms, timed_out, c,
               &c->timer);
    return c;
}

struct stream_connect *
stream_connect_tcp(struct loop *l, const char *ip, int port, int timeout_ms,
                   void (*fn)(void *arg, struct stream *s, const struct err *e),
                   void *arg, struct err *e)
{
    struct sockaddr_storage a;
    socklen_t len;
    int fd = open_socket(ip, port, &a, &len, e);
    if (fd < 0)
        return NULL;
    struct stream_connect *c =
        stream_connect_fd(l, fd, &a, len, timeout_ms, fn, arg, e);
    if (!c)
        fd_close(&fd);
    return c;
}
