/* One connection out of a sandbox: where it was meant to go, whether it may,
 * and the way there. */
#include "egress_impl.h"
#include "egress_peek.h"
#include "tunnel.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#ifndef IP6T_SO_ORIGINAL_DST
#define IP6T_SO_ORIGINAL_DST 80
#endif

enum {
    MAX_CONNS = 1024,  /* of one sandbox */
    DECIDE_MS = 60000, /* until it is tied together */
    PEEK_MS = 15000,
    DIAL_MS = 10000, /* for one address */
    DNS_PORT = 53,
    HTTP_PORT = 80,
    HTTPS_PORT = 443
};

struct egress_conn {
    struct egress_conn *next, **at;
    struct egress_box *box;
    struct stream *in;
    struct buf first;               /* what was read to see the host */
    char name[EGRESS_NAME_MAX + 1]; /* "" when it is by address */
    struct egress_addr to;          /* when it is by address */
    int port;
    enum egress_verdict verdict;
    struct egress_wait wait;
    struct loop_timer *limit;
    struct egress_addr addrs[EGRESS_ADDRESSES];
    int naddrs, tried;
    struct stream_connect *dial;
    struct tunnel *tunnel;
};

/* ---- the end --------------------------------------------------------------
 */

static void unlink_conn(struct egress_conn *c)
{
    *c->at = c->next;
    if (c->next)
        c->next->at = c->at;
    c->box->nconns--;
    egress_wait_cancel(&c->wait);
    loop_timer_stop(c->limit);
    stream_connect_cancel(c->dial);
    buf_fini(&c->first);
    free(c);
}

static void end(struct egress_conn *c)
{
    if (c->in)
        stream_reset(c->in);
    tunnel_reset(c->tunnel);
    unlink_conn(c);
}

void egress_conn_end_all(struct egress_box *b)
{
    struct egress_conn *next;
    for (struct egress_conn *c = b->conns; c; c = next) {
        next = c->next;
        end(c);
    }
}

static void over(void *arg)
{
    struct egress_conn *c = arg;
    c->tunnel = NULL;
    unlink_conn(c);
}

/* "example.com:443", "[2001:db8::1]:443" */
static void target(const struct egress_conn *c, char *dst, size_t cap)
{
    char ip[EGRESS_TEXT];
    if (c->name[0]) {
        str_fmt(dst, cap, "%s:%d", c->name, c->port);
        return;
    }
    egress_addr_text(&c->to, ip);
    str_fmt(dst, cap, strchr(ip, ':') ? "[%s]:%d" : "%s:%d", ip, c->port);
}

static void refuse(struct egress_conn *c, const char *why)
{
    char text[EGRESS_NAME_MAX + 16], all[EGRESS_WORDS];
    target(c, text, sizeof(text));
    str_fmt(all, sizeof(all), "%s%s", text, why);
    egress_refused(c->box, all);
    end(c);
}

static void fail(struct egress_conn *c, const char *why)
{
    char text[EGRESS_NAME_MAX + 16];
    target(c, text, sizeof(text));
    egress_log(c->box, "no connection to %s: %s", text, why);
    end(c);
}

static void on_limit(void *arg)
{
    fail(arg, "it took too long");
}

/* ---- the way there --------------------------------------------------------
 */

static void dial_next(struct egress_conn *c, const struct err *last);

static void keep_alive(int fd)
{
    int one = 1, idle = 60;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
}

static void on_dialed(void *arg, struct stream *out, const struct err *e)
{
    struct egress_conn *c = arg;
    c->dial = NULL;
    if (!out) {
        dial_next(c, e);
        return;
    }
    keep_alive(stream_fd(out));
    loop_timer_stop(c->limit);
    struct stream *in = c->in;
    c->in = NULL;
    stream_unread(in, c->first.data, c->first.len);
    buf_fini(&c->first);
    c->tunnel = tunnel_new(egress_loop(c->box->g), in, out, over, c);
}

static void dial_next(struct egress_conn *c, const struct err *last)
{
    char ip[EGRESS_TEXT];
    struct err e = {0};
    while (c->tried < c->naddrs) {
        egress_addr_text(&c->addrs[c->tried++], ip);
        c->dial = stream_connect_tcp(egress_loop(c->box->g), ip, c->port,
                                     DIAL_MS, on_dialed, c, &e);
        if (c->dial)
            return;
        last = &e;
    }
    fail(c, last ? last->msg : "no address");
}

/* Keeps the addresses that the policy lets through. */
static void dial(struct egress_conn *c, const struct egress_addr *a, int n)
{
    char ip[EGRESS_TEXT], why[96] = "";
    for (int i = 0; i < n; i++) {
        bool own = egress_own(c->box->g, &a[i]);
        if (egress_policy_address(c->box->policy, c->verdict, &a[i], c->port,
                                  own)) {
            c->addrs[c->naddrs++] = a[i];
            continue;
        }
        egress_addr_text(&a[i], ip);
        if (own || egress_addr_class(&a[i]) != EGRESS_PUBLIC)
            str_fmt(why, sizeof(why), " (%s is not a public address)", ip);
    }
    if (c->naddrs == 0)
        refuse(c, why);
    else
        dial_next(c, NULL);
}

static void on_looked(void *arg, const struct egress_name *n)
{
    struct egress_conn *c = arg;
    if (n->known == EGRESS_FOUND)
        dial(c, n->addrs, n->naddrs);
    else
        fail(c, n->known == EGRESS_NONE ? "there is no such name"
                                        : "its name cannot be looked up");
}

static void look(struct egress_conn *c)
{
    struct egress_name *n = egress_names_get(c->box->names, c->name);
    c->wait.fn = on_looked;
    c->wait.arg = c;
    if (egress_names_look(n, &c->wait))
        on_looked(c, n);
}

/* ---- which host is asked for ----------------------------------------------
 */

/* host NULL: none is named. */
static void asked_for(struct egress_conn *c, const char *host)
{
    char clean[EGRESS_NAME_MAX + 1], why[EGRESS_NAME_MAX + 64];
    enum egress_verdict v = EGRESS_REFUSED;
    bool good = host && egress_name_clean(host, clean) == 0;
    if (good)
        v = egress_policy_name(c->box->policy, clean, c->port);
    if (c->name[0] == '\0' && v >= EGRESS_BY_PATTERN) {
        memcpy(c->name, clean, sizeof(clean));
        c->verdict = v;
    } else if (c->name[0] == '\0') {
        refuse(c, "");
        return;
    } else if (host && v < EGRESS_BY_PATTERN) {
        str_fmt(why, sizeof(why), " (it asked for %.253s)", host);
        refuse(c, why);
        return;
    }
    look(c);
}

static void on_first(void *arg, const char *p, long n, const struct err *e)
{
    struct egress_conn *c = arg;
    char host[256];
    (void)e;
    if (n <= 0) { /* nothing was asked for */
        end(c);
        return;
    }
    buf_append(&c->first, p, (size_t)n);
    enum egress_peek got = egress_peek(c->first.data, c->first.len, host);
    if (got == EGRESS_PEEK_MORE)
        return;
    stream_read(c->in, false);
    loop_timer_stop(c->limit);
    loop_after(egress_loop(c->box->g), DECIDE_MS, on_limit, c, &c->limit);
    if (got == EGRESS_PEEK_BAD)
        refuse(c, " (what it asks for cannot be read)");
    else
        asked_for(c, got == EGRESS_PEEK_HOST ? host : NULL);
}

static void peek(struct egress_conn *c)
{
    loop_timer_stop(c->limit);
    loop_after(egress_loop(c->box->g), PEEK_MS, on_limit, c, &c->limit);
    stream_read(c->in, true);
}

static bool tells_host(const struct egress_conn *c)
{
    return egress_policy_names(c->box->policy) &&
           (c->port == HTTP_PORT || c->port == HTTPS_PORT);
}

static void decide(struct egress_conn *c)
{
    const struct egress_policy *p = c->box->policy;
    if (c->name[0]) {
        c->verdict = egress_policy_name(p, c->name, c->port);
        if (c->verdict == EGRESS_REFUSED)
            refuse(c, "");
        else if (c->verdict >= EGRESS_BY_PATTERN && tells_host(c))
            peek(c);
        else
            look(c);
        return;
    }
    c->verdict = EGRESS_BY_ADDRESS;
    bool own = egress_own(c->box->g, &c->to);
    if (tells_host(c) &&
        !egress_policy_address(p, c->verdict, &c->to, c->port, own))
        peek(c);
    else
        dial(c, &c->to, 1);
}

/* ---- the beginning --------------------------------------------------------
 */

static int meant_for(int fd, int family, struct egress_addr *a, int *port)
{
    union {
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } u;
    socklen_t len = sizeof(u);
    bool v4 = family == AF_INET;
    if (getsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6,
                   v4 ? SO_ORIGINAL_DST : IP6T_SO_ORIGINAL_DST, &u, &len) < 0)
        return -1;
    memset(a, 0, sizeof(*a));
    if (v4) {
        a->b[10] = a->b[11] = 0xff;
        memcpy(a->b + 12, &u.v4.sin_addr, 4);
    } else {
        memcpy(a->b, &u.v6.sin6_addr, 16);
    }
    *port = ntohs(v4 ? u.v4.sin_port : u.v6.sin6_port);
    return 0;
}

static void on_broken(void *arg, const struct err *e)
{
    (void)e;
    end(arg);
}

static const struct stream_ops OPS = {on_first, NULL, on_broken};

static void reset_fd(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    fd_close(&fd);
}

void egress_conn_start(struct egress_box *b, int fd, int family)
{
    struct egress_addr to;
    int port;
    if (meant_for(fd, family, &to, &port) < 0) {
        reset_fd(fd);
        return;
    }
    if (port == DNS_PORT) {
        egress_ask_tcp(b, fd);
        return;
    }
    if (b->nconns >= MAX_CONNS) {
        egress_log(b, "it has %d connections open and gets no more",
                   (int)MAX_CONNS);
        reset_fd(fd);
        return;
    }
    struct egress_conn *c = mem_alloc(sizeof(*c));
    c->in = stream_new(egress_loop(b->g), fd, &OPS, c, NULL);
    if (!c->in) {
        free(c);
        reset_fd(fd);
        return;
    }
    c->box = b;
    c->to = to;
    c->port = port;
    buf_init(&c->first);
    c->at = &b->conns;
    c->next = b->conns;
    if (c->next)
        c->next->at = &c->next;
    b->conns = c;
    b->nconns++;
    loop_after(egress_loop(b->g), DECIDE_MS, on_limit, c, &c->limit);
    if (egress_names_synthetic(&to)) {
        const struct egress_name *n = egress_names_at(b->names, &to);
        if (!n) {
            fail(c, "its name was looked up too long ago");
            return;
        }
        str_fmt(c->name, sizeof(c->name), "%s", n->text);
    }
    decide(c);
}
