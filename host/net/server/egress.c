/* The sandboxes that have a way out, what they were refused, and what all of
 * them share. */
#include "egress_impl.h"

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

#include <ifaddrs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OWN_MS = 10 * 1000, LOG_BURST = 20, LOG_EVERY_MS = 3000 };

struct host {
    struct host *next;
    struct egress_addr addr;
    char name[];
};

struct egress {
    struct loop *loop;
    bool v6;
    struct host *hosts, **hosts_end;
    struct egress_box *boxes;
    struct egress_addr *own; /* of this machine's interfaces */
    size_t nown;
    uint64_t own_until;
    void (*on_line)(void *arg, const char *id, const char *text);
    void *arg;
    egress_name_fn *on_name;
    void *name_arg;
};

/* ---- what all share -------------------------------------------------------
 */

struct egress *egress_new(struct loop *l, bool v6)
{
    struct egress *g = mem_alloc(sizeof(*g));
    g->loop = l;
    g->v6 = v6;
    g->hosts_end = &g->hosts;
    return g;
}

struct loop *egress_loop(const struct egress *g)
{
    return g->loop;
}

bool egress_v6(const struct egress *g)
{
    return g->v6;
}

int egress_host(struct egress *g, const char *name, const char *ip,
                struct err *e)
{
    char clean[EGRESS_NAME_MAX + 1];
    struct egress_addr a;
    if (egress_name_clean(name, clean) < 0 || egress_addr_parse(ip, &a) < 0)
        return err_set(e, "invalid_argument",
                       "not an address and a name: %.80s %.80s", ip, name);
    struct host *h = mem_alloc(sizeof(*h) + strlen(clean) + 1);
    memcpy(h->name, clean, strlen(clean) + 1);
    h->addr = a;
    *g->hosts_end = h;
    g->hosts_end = &h->next;
    return 0;
}

int egress_hosts(const struct egress *g, const char *clean,
                 struct egress_addr *dst, int max)
{
    int n = 0;
    for (const struct host *h = g->hosts; h && n < max; h = h->next)
        if (strcmp(h->name, clean) == 0)
            dst[n++] = h->addr;
    return n;
}

static void read_own(struct egress *g)
{
    struct ifaddrs *list = NULL;
    g->nown = 0;
    if (getifaddrs(&list) < 0)
        return;
    for (struct ifaddrs *i = list; i; i = i->ifa_next) {
        struct egress_addr a = {{[10] = 0xff, [11] = 0xff}};
        int family = i->ifa_addr ? i->ifa_addr->sa_family : AF_UNSPEC;
        const void *at = i->ifa_addr;
        if (family == AF_INET)
            memcpy(a.b + 12, &((const struct sockaddr_in *)at)->sin_addr, 4);
        else if (family == AF_INET6)
            memcpy(a.b, &((const struct sockaddr_in6 *)at)->sin6_addr, 16);
        else
            continue;
        g->own = mem_realloc(g->own, (g->nown + 1) * sizeof(*g->own));
        g->own[g->nown++] = a;
    }
    freeifaddrs(list);
}

bool egress_own(struct egress *g, const struct egress_addr *a)
{
    uint64_t now = loop_now(g->loop);
    if (now >= g->own_until) {
        read_own(g);
        g->own_until = now + OWN_MS;
    }
    for (size_t i = 0; i < g->nown; i++)
        if (memcmp(&g->own[i], a, sizeof(*a)) == 0)
            return true;
    return false;
}

/* ---- what is said ---------------------------------------------------------
 */

/* A program that tries again and again fills no disk. */
static bool may_log(struct egress_box *b)
{
    uint64_t now = loop_now(b->g->loop);
    uint64_t more = (now - b->log_at) / LOG_EVERY_MS;
    if (more > 0) {
        b->log_at += more * LOG_EVERY_MS;
        b->log_tokens = more > LOG_BURST - b->log_tokens
                            ? LOG_BURST
                            : b->log_tokens + (unsigned)more;
    }
    if (b->log_tokens == 0)
        return false;
    b->log_tokens--;
    return true;
}

void egress_log(struct egress_box *b, const char *fmt, ...)
{
    char text[EGRESS_WORDS + 128], line[sizeof(text) + 64];
    va_list ap;
    if (!b->g->on_line || !may_log(b))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    str_fmt(line, sizeof(line), "%s%s", text,
            b->log_tokens == 0 ? " (further lines are left out for a while)"
                               : "");
    b->g->on_line(b->g->arg, b->id, line);
}

void egress_refused(struct egress_box *b, const char *what)
{
    b->refused++;
    if (b->nlast == 0 || strcmp(b->last[0], what) != 0) {
        memmove(b->last[1], b->last[0], sizeof(b->last) - sizeof(b->last[0]));
        str_fmt(b->last[0], sizeof(b->last[0]), "%s", what);
        b->nlast += b->nlast < EGRESS_LAST;
    }
    egress_log(b, "connection refused by policy: %s; allow it with allow_out",
               what);
}

void egress_on_line(struct egress *g,
                    void (*fn)(void *arg, const char *id, const char *text),
                    void *arg)
{
    g->on_line = fn;
    g->arg = arg;
}

void egress_on_name(struct egress *g, egress_name_fn *fn, void *arg)
{
    g->on_name = fn;
    g->name_arg = arg;
}

void egress_named(struct egress_box *b, const struct egress_place *at)
{
    if (b->g->on_name)
        b->g->on_name(b->g->name_arg, b->id, at);
}

int egress_report(const struct egress *g, const char *id,
                  struct egress_report *r)
{
    const struct egress_box *b = g->boxes;
    while (b && strcmp(b->id, id) != 0)
        b = b->next;
    if (!b)
        return -1;
    r->refused = b->refused;
    r->open = b->nconns;
    r->nlast = b->nlast;
    memcpy(r->last, b->last, sizeof(r->last));
    return 0;
}

/* ---- sandboxes ------------------------------------------------------------
 */

static void box_free(struct egress_box *b)
{
    for (int i = 0; i < 2; i++) {
        stream_listen_close(b->tcp[i]);
        loop_watch_stop(b->udp_watch[i]);
    }
    egress_conn_end_all(b);
    egress_ask_end_all(b);
    for (int i = 0; i < 2; i++)
        fd_close(&b->udp[i]);
    egress_names_free(b->names);
    egress_policy_free(b->policy);
    free(b->id);
    free(b);
}

static struct egress_box **find(struct egress *g, const char *id)
{
    struct egress_box **at = &g->boxes;
    while (*at && strcmp((*at)->id, id) != 0)
        at = &(*at)->next;
    return at;
}

void egress_remove(struct egress *g, const char *id)
{
    struct egress_box **at = find(g, id), *b = *at;
    if (!b)
        return;
    *at = b->next;
    box_free(b);
}

void egress_free(struct egress *g)
{
    if (!g)
        return;
    while (g->boxes)
        egress_remove(g, g->boxes->id);
    while (g->hosts) {
        struct host *h = g->hosts;
        g->hosts = h->next;
        free(h);
    }
    free(g->own);
    free(g);
}

void egress_set_policy(struct egress *g, const char *id,
                       struct egress_policy *p)
{
    struct egress_box *b = *find(g, id);
    egress_policy_free(b ? b->policy : p);
    if (b)
        b->policy = p;
}

void egress_name(struct egress *g, const char *id, unsigned number,
                 const char *name)
{
    char clean[EGRESS_NAME_MAX + 1];
    struct egress_box *b = *find(g, id);
    if (b && egress_name_clean(name, clean) == 0)
        egress_names_put(b->names, number, clean);
}

static void on_tcp4(void *arg, int fd)
{
    egress_conn_start(arg, fd, AF_INET);
}

static void on_tcp6(void *arg, int fd)
{
    egress_conn_start(arg, fd, AF_INET6);
}

static void on_udp4(void *arg, unsigned events)
{
    (void)events;
    egress_ask_udp(arg, 0);
}

static void on_udp6(void *arg, unsigned events)
{
    (void)events;
    egress_ask_udp(arg, 1);
}

/* Takes both descriptors. */
static int serve(struct egress_box *b, int which, int tcp, int udp,
                 struct err *e)
{
    struct loop *l = b->g->loop;
    b->udp[which] = udp;
    if (tcp >= 0) {
        b->tcp[which] = stream_listen(l, tcp, which ? on_tcp6 : on_tcp4, b, e);
        if (!b->tcp[which]) {
            fd_close(&tcp);
            return -1;
        }
    }
    if (udp < 0)
        return 0;
    b->udp_watch[which] =
        loop_watch(l, udp, LOOP_READ, which ? on_udp6 : on_udp4, b, e);
    return b->udp_watch[which] ? 0 : -1;
}

int egress_add(struct egress *g, const char *id, const int fds[EGRESS_SOCKETS],
               struct egress_policy *p, struct err *e)
{
    egress_remove(g, id);
    struct egress_box *b = mem_alloc(sizeof(*b));
    b->g = g;
    b->id = mem_strdup(id);
    b->policy = p;
    b->names = egress_names_new(b);
    b->log_tokens = LOG_BURST;
    b->log_at = loop_now(g->loop);
    int v4 = serve(b, 0, fds[EGRESS_TCP4], fds[EGRESS_UDP4], e);
    int v6 = serve(b, 1, fds[EGRESS_TCP6], fds[EGRESS_UDP6], e);
    if (v4 < 0 || v6 < 0) {
        box_free(b);
        return err_wrap(e, "network of sandbox %s", id);
    }
    b->next = g->boxes;
    g->boxes = b;
    return 0;
}
