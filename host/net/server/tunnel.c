/* Bytes of one stream go to the other; an end of file becomes a half-close. A
 * half-closed tunnel in which nothing moves for a minute is ended. */
#include "tunnel.h"

#include "base/mem.h"

#include <stdlib.h>

enum { HALF_OPEN_MS = 60000 };

struct side {
    struct tunnel *t;
    struct stream *s;
    struct side *peer;
    bool ended; /* end of file was read here */
};

struct tunnel {
    struct loop *loop;
    struct side a, b;
    struct loop_timer *timer;
    bool moved;
    void (*done)(void *arg);
    void *arg;
};

static void destroy(struct tunnel *t, bool flush)
{
    loop_timer_stop(t->timer);
    if (flush) {
        stream_close(t->a.s, true);
        stream_close(t->b.s, true);
    } else {
        stream_reset(t->a.s);
        stream_reset(t->b.s);
    }
    free(t);
}

static void finish(struct tunnel *t, bool flush)
{
    void (*done)(void *arg) = t->done;
    void *arg = t->arg;
    destroy(t, flush);
    done(arg);
}

static void on_quiet(void *arg)
{
    struct tunnel *t = arg;
    if (!t->moved) {
        finish(t, true);
        return;
    }
    t->moved = false;
    loop_after(t->loop, HALF_OPEN_MS, on_quiet, t, &t->timer);
}

static void on_read(void *arg, const char *p, long n, const struct err *e)
{
    (void)e;
    struct side *from = arg;
    struct tunnel *t = from->t;
    if (n < 0) {
        finish(t, false);
    } else if (n > 0) {
        t->moved = true;
        if (stream_write(from->peer->s, p, (size_t)n) > STREAM_HIGH)
            stream_read(from->s, false);
    } else if (from->peer->ended) {
        finish(t, true);
    } else {
        from->ended = true;
        stream_shutdown(from->peer->s);
        loop_after(t->loop, HALF_OPEN_MS, on_quiet, t, &t->timer);
    }
}

static void on_drain(void *arg)
{
    struct side *to = arg;
    if (!to->peer->ended)
        stream_read(to->peer->s, true);
}

static void on_fail(void *arg, const struct err *e)
{
    (void)e;
    finish(((struct side *)arg)->t, false);
}

static const struct stream_ops OPS = {on_read, on_drain, on_fail};

struct tunnel *tunnel_new(struct loop *l, struct stream *a, struct stream *b,
                          void (*ended)(void *arg), void *arg)
{
    struct tunnel *t = mem_alloc(sizeof(*t));
    t->loop = l;
    t->done = ended;
    t->arg = arg;
    t->a = (struct side){.t = t, .s = a, .peer = &t->b};
    t->b = (struct side){.t = t, .s = b, .peer = &t->a};
    stream_set_ops(a, &OPS, &t->a);
    stream_set_ops(b, &OPS, &t->b);
    stream_read(a, true);
    stream_read(b, true);
    return t;
}

void tunnel_reset(struct tunnel *t)
{
    if (t)
        destroy(t, false);
}
