/* curl's multi on our loop, and the sockets it works with. curl does not look
 * at the connections it keeps; we do: when a peer ends one and no request runs,
 * the pool is given up, so that no dead descriptors stay behind. */
#include "httpc_impl.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KEPT_CONNECTIONS = 128 };

struct httpc_sock {
    struct httpc *client;
    int fd;
    struct loop_watch *watch;
    unsigned events; /* what curl waits for */
    bool connected;  /* to be kept when curl lets go of it */
    bool kept;       /* in curl's pool, closed by close_socket */
};

/* ---- sockets ------------------------------------------------------------- */

static struct httpc_sock *find_sock(const struct httpc *c, int fd)
{
    return (size_t)fd < c->nsocks ? c->socks[fd] : NULL;
}

static struct httpc_sock *new_sock(struct httpc *c, int fd)
{
    size_t need = (size_t)fd + 1;
    if (need > c->nsocks) {
        need = need < 64 ? 64 : need * 2;
        c->socks = mem_realloc(c->socks, need * sizeof(struct httpc_sock *));
        for (size_t i = c->nsocks; i < need; i++)
            c->socks[i] = NULL;
        c->nsocks = need;
    }
    struct httpc_sock *s = mem_alloc(sizeof(*s));
    s->client = c;
    s->fd = fd;
    c->socks[fd] = s;
    return s;
}

static void unwatch(struct httpc_sock *s)
{
    loop_watch_stop(s->watch);
    s->watch = NULL;
}

static void drop_sock(struct httpc_sock *s)
{
    unwatch(s);
    s->client->socks[s->fd] = NULL;
    free(s);
}

static void watch(struct httpc_sock *s, unsigned events,
                  void (*fn)(void *arg, unsigned events))
{
    struct err e;
    s->watch = loop_watch(s->client->loop, s->fd, events, fn, s, &e);
    if (!s->watch) /* its deadline ends the request */
        log_line(LOG_ERROR, "http", "%s", e.msg);
}

/* ---- connections that are kept ------------------------------------------- */

/* End of file or, while nothing runs, bytes that nobody asked for. A transfer
 * that is paused also has bytes. */
static void on_kept(void *arg, unsigned events)
{
    struct httpc_sock *s = arg;
    char byte;
    (void)events;
    unwatch(s);
    ssize_t n = recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (s->client->active > 0 || (n < 0 && errno == EAGAIN))
        return;
    log_line(LOG_DEBUG, "http", "a kept connection ended: all are closed");
    httpc_multi_close(s->client);
}

static void keep(struct httpc_sock *s)
{
    unwatch(s);
    s->kept = true;
    watch(s, LOOP_READ, on_kept);
    if (s->watch)
        loop_watch_ref(s->watch, false);
}

void httpc_multi_idle(struct httpc *c)
{
    bool any = false;
    for (size_t i = 0; i < c->nsocks; i++) {
        struct httpc_sock *s = c->socks[i];
        if (!s || !s->kept)
            continue;
        any = true;
        if (!s->watch)
            keep(s);
    }
    if (!any)
        httpc_multi_close(c);
}

/* Unlike curl's: close-on-exec. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose,
                                 struct curl_sockaddr *a)
{
    struct httpc_req *r = arg;
    int fd = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
    (void)purpose;
    r->socket_errno = fd < 0 ? errno : 0;
    return fd;
}

static int close_socket(void *arg, curl_socket_t fd)
{
    struct httpc_sock *s = find_sock(arg, fd);
    if (s)
        drop_sock(s);
    return close(fd);
}

/* Not earlier: attempts to connect that are given up, and curl's own pipes,
 * are closed behind our back. */
void httpc_multi_done(struct httpc *c, CURL *easy)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    CURLcode rc = curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &fd);
    if (rc != CURLE_OK || fd == CURL_SOCKET_BAD)
        return;
    struct httpc_sock *s = find_sock(c, fd);
    if (s && !s->kept) { /* curl has not let go of it, or uses it again */
        s->connected = true;
        return;
    }
    keep(s ? s : new_sock(c, fd));
}

void httpc_multi_adopt(struct httpc_req *r)
{
    CURL *easy = r->easy;
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, r);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, r->client);
}

/* ---- the multi ----------------------------------------------------------- */

static void act(struct httpc *c, curl_socket_t fd, int events)
{
    int running;
    curl_multi_socket_action(c->multi, fd, events, &running);
    httpc_take_messages(c);
}

static void on_ready(void *arg, unsigned events)
{
    struct httpc_sock *s = arg; /* gone when curl closes it meanwhile */
    int got = 0;
    if (events & LOOP_READ)
        got |= CURL_CSELECT_IN;
    if (events & LOOP_WRITE)
        got |= CURL_CSELECT_OUT;
    if (events & LOOP_ERROR) {
        got |= CURL_CSELECT_ERR;
        loop_watch_set(s->watch, s->events); /* the loop ends such a watch */
    }
    act(s->client, s->fd, got);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg,
                     void *unused)
{
    struct httpc_sock *s = find_sock(arg, fd);
    (void)easy, (void)unused;
    if (what == CURL_POLL_REMOVE) {
        if (s && s->connected)
            keep(s);
        else if (s && !s->kept)
            drop_sock(s);
        return 0;
    }
    if (!s)
        s = new_sock(arg, fd);
    s->events = (what & CURL_POLL_IN ? LOOP_READ : 0u) |
                (what & CURL_POLL_OUT ? LOOP_WRITE : 0u);
    if (s->watch && !s->kept) {
        loop_watch_set(s->watch, s->events);
        return 0;
    }
    unwatch(s);
    s->kept = false;
    watch(s, s->events, on_ready);
    return 0;
}

static void on_timer(void *arg)
{
    act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long ms, void *arg)
{
    struct httpc *c = arg;
    (void)multi;
    loop_timer_stop(c->timer);
    if (ms >= 0)
        loop_after(c->loop, (uint64_t)ms, on_timer, c, &c->timer);
    return 0;
}

int httpc_multi_open(struct httpc *c)
{
    CURLM *m = curl_multi_init();
    c->multi = m;
    if (!m)
        return -1;
    curl_multi_setopt(m, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(m, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(m, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(m, CURLMOPT_TIMERDATA, c);
    curl_multi_setopt(m, CURLMOPT_MAXCONNECTS, (long)KEPT_CONNECTIONS);
    curl_multi_setopt(m, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    return 0;
}

void httpc_multi_close(struct httpc *c)
{
    if (c->multi)
        curl_multi_cleanup(c->multi);
    c->multi = NULL;
    for (size_t i = 0; i < c->nsocks; i++)
        if (c->socks[i])
            drop_sock(c->socks[i]);
    free(c->socks);
    c->socks = NULL;
    c->nsocks = 0;
    loop_timer_stop(c->timer);
}
