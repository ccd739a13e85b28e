/* The engine's end of envd's socket hand-over: 8 bytes "\0E2B", family '4' or
 * '6', count, two zeros go there; 'k' comes back with that many sockets, or 'e'
 * without. The connection stays open for more. */
#include "handover.h"

#include "base/fd.h"
#include "base/mem.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { STOCK = 4, DEADLINE_MS = 5000 };

struct handover_wait {
    struct handover_wait *next;
    struct handover *owner;
    int family;
    void (*fn)(void *arg, int fd, const struct err *e);
    void *arg;
};

struct stock {
    int fds[STOCK];
    int n;
};

struct handover {
    struct loop *loop;
    int dirfd;
    char *name;
    int sock;
    struct loop_watch *watch;
    struct loop_timer *timer; /* set while a question is open */
    int asked;                /* its family, 0: none */
    struct stock v4, v6;
    struct handover_wait *waits;
};

static struct stock *stock_of(struct handover *h, int family)
{
    return family == AF_INET ? &h->v4 : &h->v6;
}

struct handover *handover_new(struct loop *l, int dirfd, const char *name)
{
    struct handover *h = mem_alloc(sizeof(*h));
    h->loop = l;
    h->dirfd = dirfd;
    h->name = mem_strdup(name);
    h->sock = -1;
    return h;
}

static void hang_up(struct handover *h)
{
    loop_watch_stop(h->watch);
    h->watch = NULL;
    loop_timer_stop(h->timer);
    h->asked = 0;
    fd_close(&h->sock);
}

static void drop_stock(struct stock *s)
{
    while (s->n > 0)
        fd_close(&s->fds[--s->n]);
}

void handover_free(struct handover *h)
{
    if (!h)
        return;
    hang_up(h);
    drop_stock(&h->v4);
    drop_stock(&h->v6);
    while (h->waits) {
        struct handover_wait *w = h->waits;
        h->waits = w->next;
        free(w);
    }
    free(h->name);
    free(h);
}

void handover_cancel(struct handover_wait *w)
{
    if (!w)
        return;
    struct handover_wait **at = &w->owner->waits;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    free(w);
}

/* Takes the first wait of that family (0: any) off the list. */
static struct handover_wait *next_wait(struct handover *h, int family)
{
    struct handover_wait **at = &h->waits;
    while (*at && family && (*at)->family != family)
        at = &(*at)->next;
    struct handover_wait *w = *at;
    if (w)
        *at = w->next;
    return w;
}

/* Ends all waits. A callback may take again, so only those that are there now
 * are ended. */
static void fail_all(struct handover *h, const struct err *e)
{
    hang_up(h);
    struct handover_wait *w = h->waits;
    h->waits = NULL;
    while (w) {
        struct handover_wait *next = w->next;
        w->fn(w->arg, -1, e);
        free(w);
        w = next;
    }
}

/* What comes from a sandbox is looked at before it is used: a fresh TCP socket
 * of the family asked for, nonblocking. */
static int check_socket(int fd, int family)
{
    int domain = 0, type = 0, listening = 1;
    struct sockaddr_storage peer;
    socklen_t n = sizeof(int), np = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n))
        return -1;
    if (domain != family || type != SOCK_STREAM || listening)
        return -1;
    if (getpeername(fd, (struct sockaddr *)&peer, &np) == 0 ||
        errno != ENOTCONN)
        return -1;
    return fd_nonblock(fd, true, NULL);
}

static int ask(struct handover *h, struct err *e);

static void on_timeout(void *arg)
{
    struct err e = {0};
    err_set(&e, "timeout", "envd handed over no socket within %d ms",
            DEADLINE_MS);
    fail_all(arg, &e);
}

/* Reads the answer into the stock; -1: hang up. */
static int take_answer(struct handover *h, struct err *e)
{
    int fds[STOCK], nfds = 0;
    char word = 0;
    ssize_t n = fd_recv(h->sock, &word, 1, fds, STOCK, &nfds, e);
    if (n < 0 && e->errnum == EAGAIN)
        return 0;
    struct stock *s = stock_of(h, h->asked ? h->asked : AF_INET);
    for (int i = 0; i < nfds; i++)
        if (n == 1 && h->asked && s->n < STOCK &&
            check_socket(fds[i], h->asked) == 0)
            s->fds[s->n++] = fds[i];
        else
            fd_close(&fds[i]);
    if (n < 0)
        return -1;
    if (n == 0)
        return err_set(e, "network", "envd has closed its API socket");
    if (!h->asked || word != 'k' || s->n == 0)
        return err_set(e, "network", "envd has no IPv%d socket to give",
                       h->asked == AF_INET6 ? 6 : 4);
    return 1;
}

static void on_ready(void *arg, unsigned events)
{
    (void)events;
    struct handover *h = arg;
    struct err e = {0};
    int got = take_answer(h, &e);
    if (got < 0) {
        fail_all(h, &e);
        return;
    }
    if (got == 0)
        return;
    int family = h->asked;
    struct stock *s = stock_of(h, family);
    loop_timer_stop(h->timer);
    h->asked = 0;
    struct handover_wait *w;
    while (s->n > 0 && (w = next_wait(h, family))) {
        w->fn(w->arg, s->fds[--s->n], NULL);
        free(w);
    }
    if (h->waits && !h->asked && ask(h, &e))
        fail_all(h, &e);
}

static int dial(struct handover *h, struct err *e)
{
    h->sock = fd_unix_connect(h->dirfd, h->name, e);
    if (h->sock < 0)
        return -1;
    h->watch = loop_watch(h->loop, h->sock, LOOP_READ, on_ready, h, e);
    if (!h->watch) {
        fd_close(&h->sock);
        return -1;
    }
    return 0;
}

/* Asks for sockets of the first wait's family. */
static int ask(struct handover *h, struct err *e)
{
    int family = h->waits->family;
    char word[8] = {'\0', 'E', '2', 'B', family == AF_INET ? '4' : '6', STOCK};
    if (h->sock < 0 && dial(h, e))
        return -1;
    if (fd_send(h->sock, word, sizeof(word), NULL, 0, e) != sizeof(word))
        return -1;
    h->asked = family;
    loop_after(h->loop, DEADLINE_MS, on_timeout, h, &h->timer);
    return 0;
}

int handover_take(struct handover *h, int family,
                  void (*fn)(void *arg, int fd, const struct err *e), void *arg,
                  struct handover_wait **w, struct err *e)
{
    struct stock *s = stock_of(h, family);
    *w = NULL;
    if (s->n > 0)
        return s->fds[--s->n];
    struct handover_wait *mine = mem_alloc(sizeof(*mine));
    mine->owner = h;
    mine->family = family;
    mine->fn = fn;
    mine->arg = arg;
    struct handover_wait **at = &h->waits;
    while (*at)
        at = &(*at)->next;
    *at = mine;
    if (!h->asked && ask(h, e)) {
        hang_up(h);
        handover_cancel(mine);
        return -1;
    }
    *w = mine;
    return -1;
}
