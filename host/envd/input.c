/* The queue in front of a program's stdin. See input.h. */
#include "input.h"

#include "base/fd.h"
#include "base/mem.h"
#include "net/core/connect.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct input_write {
    struct input_write *next;
    struct buf data;
    size_t done;
    void (*fn)(void *arg, const struct err *e);
    void *arg;
};

struct input {
    int fd;
    struct loop_watch *watch;
    struct input_write *first, **last;
    size_t waiting; /* bytes */
    bool closing;
};

static void shut(struct input *in)
{
    loop_watch_stop(in->watch);
    in->watch = NULL;
    fd_close(&in->fd);
}

/* Ends the first write. */
static void finish(struct input *in, const struct err *e)
{
    struct input_write *w = in->first;
    in->first = w->next;
    if (!in->first)
        in->last = &in->first;
    in->waiting -= w->data.len;
    void (*fn)(void *, const struct err *) = w->fn;
    void *arg = w->arg;
    buf_fini(&w->data);
    free(w);
    if (fn)
        fn(arg, e);
}

static void fail_all(struct input *in, const struct err *e)
{
    in->closing = true;
    shut(in);
    while (in->first)
        finish(in, e);
}

static void push(void *arg, unsigned events)
{
    (void)events;
    struct input *in = arg;
    struct input_write *w = in->first;
    struct err e;
    if (w && w->done < w->data.len) {
        ssize_t n =
            write(in->fd, w->data.data + w->done, w->data.len - w->done);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            err_errno(&e, "internal", "error writing to stdin: write");
            fail_all(in, &e);
            return;
        }
        w->done += (size_t)n;
        if (w->done < w->data.len)
            return;
    }
    bool last = w && !w->next;
    if (last || !w)
        loop_watch_set(in->watch, 0);
    if ((last || !w) && in->closing)
        shut(in);
    if (w)
        finish(in, NULL);
}

struct input *input_new(struct loop *l, int fd, struct err *e)
{
    if (fd_nonblock(fd, true, e) < 0)
        return NULL;
    struct input *in = mem_alloc(sizeof(*in));
    in->watch = loop_watch(l, fd, 0, push, in, e);
    if (!in->watch) {
        free(in);
        return NULL;
    }
    in->fd = fd;
    in->last = &in->first;
    return in;
}

int input_write(struct input *in, struct buf *b,
                void (*fn)(void *arg, const struct err *e), void *arg,
                struct input_write **w, struct err *e)
{
    if (in->closing)
        return err_set(e, "internal",
                       "error writing to stdin: stdin not enabled or closed");
    if (in->waiting > 0 && in->waiting + b->len > CONNECT_MAX)
        return err_set(e, "resource_exhausted",
                       "error writing to stdin: %zu bytes wait already for "
                       "the process to read them",
                       in->waiting);
    struct input_write *mine = mem_alloc(sizeof(*mine));
    *mine = (struct input_write){.data = *b, .fn = fn, .arg = arg};
    *b = (struct buf){0};
    in->waiting += mine->data.len;
    *in->last = mine;
    in->last = &mine->next;
    loop_watch_set(in->watch, LOOP_WRITE);
    *w = mine;
    return 0;
}

void input_forget(struct input_write *w)
{
    if (w)
        w->fn = NULL;
}

void input_close(struct input *in)
{
    if (!in->closing && !in->first)
        shut(in);
    in->closing = true;
}

bool input_closed(const struct input *in)
{
    return in->closing;
}

void input_free(struct input *in)
{
    struct err e;
    if (!in)
        return;
    err_set(&e, "not_found", "the process has ended");
    fail_all(in, &e);
    free(in);
}
