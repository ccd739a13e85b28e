/* A question is 8 bytes: NUL "E2B", what, count, two zeros. What '4' or '6':
 * fresh sockets of that family; the answer is 'k' with that many, or 'e'
 * without. What 'n', count 0: the network's own; the answer is a byte with a
 * bit for each that comes along. */
#include "handover.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIRST_MS = 30 * 1000, MAX_CONNS = 256, MAX_SOCKETS = 8, WORD = 8 };

struct conn {
    struct conn *next, **at;
    struct handover_server *server;
    int fd;
    struct loop_watch *watch;
    struct loop_timer *limit; /* for the first byte */
    unsigned char word[WORD];
    size_t have;
};

struct handover_server {
    struct loop *loop;
    void (*serve)(void *arg, int fd);
    void *arg;
    struct conn *conns;
    unsigned count;
    const int *net;
    int nnet;
};

/* Returns the descriptor when keep, else closes it. */
static int end(struct conn *c, bool keep)
{
    int fd = c->fd;
    *c->at = c->next;
    if (c->next)
        c->next->at = c->at;
    c->server->count--;
    loop_watch_stop(c->watch);
    loop_timer_stop(c->limit);
    free(c);
    if (!keep)
        fd_close(&fd);
    return fd;
}

static int give(struct conn *c, int family, int count)
{
    int fds[MAX_SOCKETS], n = 0;
    struct err e;
    while (n < count) {
        fds[n] = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fds[n] < 0)
            break;
        n++;
    }
    ssize_t sent = fd_send(c->fd, n > 0 ? "k" : "e", 1, fds, n, &e);
    while (n > 0)
        fd_close(&fds[--n]);
    return sent == 1 ? 0 : -1;
}

static int give_net(const struct conn *c)
{
    const struct handover_server *h = c->server;
    int fds[MAX_SOCKETS], n = 0;
    unsigned char which = 0;
    struct err e;
    for (int i = 0; i < h->nnet; i++)
        if (h->net[i] >= 0) {
            fds[n++] = h->net[i];
            which |= (unsigned char)(1U << i);
        }
    return fd_send(c->fd, &which, 1, fds, n, &e) == 1 ? 0 : -1;
}

/* -1: hang up. */
static int answer(struct conn *c)
{
    static const unsigned char head[4] = {0, 'E', '2', 'B'};
    const unsigned char *w = c->word;
    int what = w[4], count = w[5];
    bool ours = memcmp(w, head, sizeof(head)) == 0 && w[6] == 0 && w[7] == 0;
    bool fresh = (what == '4' || what == '6') && count > 0;
    if (ours && what == 'n' && count == 0)
        return give_net(c);
    if (ours && fresh && count <= MAX_SOCKETS)
        return give(c, what == '4' ? AF_INET : AF_INET6, count);
    log_line(LOG_WARN, "handover", "not a question of the engine");
    return -1;
}

static void on_word(struct conn *c)
{
    ssize_t n = recv(c->fd, c->word + c->have, WORD - c->have, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        c->have += (size_t)n;
    if (n > 0 && c->have < WORD)
        return;
    c->have = 0;
    if (n <= 0 || answer(c) < 0)
        end(c, false);
}

static void ready(void *arg, unsigned events)
{
    (void)events;
    struct conn *c = arg;
    if (!c->limit) { /* known to be a hand-over */
        on_word(c);
        return;
    }
    char first;
    ssize_t n = recv(c->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        end(c, false);
    } else if (first) {
        struct handover_server *h = c->server;
        h->serve(h->arg, end(c, true));
    } else {
        loop_timer_stop(c->limit);
        on_word(c);
    }
}

static void silent(void *arg)
{
    end(arg, false);
}

void handover_server_take(struct handover_server *h, int fd)
{
    struct err e;
    if (h->count >= MAX_CONNS) {
        close(fd);
        return;
    }
    struct conn *c = mem_alloc(sizeof(*c));
    c->watch = loop_watch(h->loop, fd, LOOP_READ, ready, c, &e);
    if (!c->watch) {
        free(c);
        close(fd);
        return;
    }
    c->server = h;
    c->fd = fd;
    c->at = &h->conns;
    c->next = h->conns;
    if (c->next)
        c->next->at = &c->next;
    h->conns = c;
    h->count++;
    loop_after(h->loop, FIRST_MS, silent, c, &c->limit);
    ready(c, LOOP_READ); /* mostly it has come with the connection */
}

struct handover_server *
handover_server_new(struct loop *l, void (*serve)(void *arg, int fd), void *arg)
{
    struct handover_server *h = mem_alloc(sizeof(*h));
    h->loop = l;
    h->serve = serve;
    h->arg = arg;
    return h;
}

void handover_server_net(struct handover_server *h, const int *net, int n)
{
    h->net = net;
    h->nnet = n < MAX_SOCKETS ? n : MAX_SOCKETS;
}

void handover_server_free(struct handover_server *h)
{
    if (!h)
        return;
    struct conn *next;
    for (struct conn *c = h->conns; c; c = next) {
        next = c->next;
        end(c, false);
    }
    free(h);
}
