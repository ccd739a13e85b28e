/* Who may pass to which sandbox. The way itself is exchange.c's. */
#include "proxy.h"

#include "answer.h"
#include "base/mem.h"
#include "base/str.h"
#include "exchange.h"
#include "route.h"
#include "signature.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BOX_LIMIT = 1000, ENDED_KEPT = 64 };

struct box {
    struct box *next;
    char *id, *socket, *token, *traffic, *mask;
    struct handover *hand;
    struct exchange_list open;
};

struct ended {
    char id[80], why[160];
};

struct proxy {
    struct loop *loop;
    int run_dir;
    struct box *boxes;
    struct ended ended[ENDED_KEPT]; /* a ring */
    unsigned nended;
};

struct proxy *proxy_new(struct loop *l, int run_dir)
{
    struct proxy *p = mem_alloc(sizeof(*p));
    p->loop = l;
    p->run_dir = run_dir;
    return p;
}

static void box_free(struct box *b, const char *starved)
{
    exchange_reset_all(&b->open, starved);
    handover_free(b->hand);
    if (b->token)
        mem_wipe(b->token, strlen(b->token));
    free(b->id);
    free(b->socket);
    free(b->token);
    free(b->traffic);
    free(b->mask);
    free(b);
}

void proxy_free(struct proxy *p)
{
    if (!p)
        return;
    while (p->boxes) {
        struct box *b = p->boxes;
        p->boxes = b->next;
        box_free(b, NULL);
    }
    free(p);
}

static char *copy(const char *s)
{
    return s ? mem_strdup(s) : NULL;
}

void proxy_add(struct proxy *p, const struct proxy_box *cfg)
{
    proxy_remove(p, cfg->id);
    struct box *b = mem_alloc(sizeof(*b));
    b->id = mem_strdup(cfg->id);
    b->socket = mem_strdup(cfg->socket);
    b->token = copy(cfg->access_token);
    b->traffic = copy(cfg->traffic_token);
    b->mask = copy(cfg->mask_host);
    b->hand = handover_new(p->loop, p->run_dir, b->socket);
    b->next = p->boxes;
    p->boxes = b;
}

static void remove_box(struct proxy *p, const char *id, const char *starved)
{
    for (struct box **at = &p->boxes; *at; at = &(*at)->next)
        if (strcmp((*at)->id, id) == 0) {
            struct box *b = *at;
            *at = b->next;
            box_free(b, starved);
            return;
        }
}

void proxy_remove(struct proxy *p, const char *id)
{
    remove_box(p, id, NULL);
}

void proxy_remove_starved(struct proxy *p, const char *id, const char *why)
{
    struct ended *x = &p->ended[p->nended++ % ENDED_KEPT];
    str_fmt(x->id, sizeof(x->id), "%s", id);
    str_fmt(x->why, sizeof(x->why), "%s", why);
    remove_box(p, id, why);
}

/* Nothing is known of id. */
static void answer_unknown(const struct proxy *p, struct httpd_req *r,
                           const struct route *to)
{
    for (int i = 0; i < ENDED_KEPT; i++) {
        const struct ended *x = &p->ended[i];
        if (*x->id && strcmp(x->id, to->id) == 0) {
            answer_starved(r, to->id, to->port, x->why);
            return;
        }
    }
    answer_not_found(r, to->id);
}

unsigned proxy_open(const struct proxy *p)
{
    unsigned n = 0;
    for (const struct box *b = p->boxes; b; b = b->next)
        n += b->open.count;
    return n;
}

static struct box *find(const struct proxy *p, const char *id)
{
    struct box *b = p->boxes;
    while (b && strcmp(b->id, id) != 0)
        b = b->next;
    return b;
}

/* "${PORT}" in the mask becomes the number. */
static void mask_host(struct buf *out, const char *mask, int port)
{
    static const char name[] = "${PORT}";
    const char *at;
    while ((at = strstr(mask, name))) {
        buf_append(out, mask, (size_t)(at - mask));
        buf_printf(out, "%d", port);
        mask = at + sizeof(name) - 1;
    }
    buf_puts(out, mask);
}

static void pass(struct proxy *p, struct box *b, struct httpd_req *r, int port,
                 const char *token)
{
    struct buf host;
    if (b->open.count >= BOX_LIMIT) {
        answer_too_many(r, b->id, BOX_LIMIT);
        return;
    }
    buf_init(&host);
    if (b->mask && port != ROUTE_ENVD_PORT)
        mask_host(&host, b->mask, port);
    struct exchange_to to = {
        .id = b->id,
        .port = port,
        .dirfd = p->run_dir,
        .socket = b->socket,
        .hand = b->hand,
        .token = token,
        .host = host.len ? host.data : NULL,
    };
    exchange_start(&b->open, r, &to);
    buf_fini(&host);
}

/* A /files request without a token of its own must be signed. */
static void pass_files(struct proxy *p, struct box *b, struct httpd_req *r)
{
    const struct http1_head *h = httpd_head(r);
    const char *given = http1_get(h, "X-Access-Token");
    if (!b->token || strcmp(h->method, "OPTIONS") == 0) {
        pass(p, b, r, ROUTE_ENVD_PORT, NULL);
    } else if (given) {
        if (str_same_secret(given, b->token))
            pass(p, b, r, ROUTE_ENVD_PORT, NULL);
        else
            answer_envd(r, 401,
                        "access token present in header but does not match");
    } else {
        enum signature s =
            signature_check(h->method, h->target, b->token, time(NULL));
        if (s == SIGNATURE_GOOD)
            pass(p, b, r, ROUTE_ENVD_PORT, b->token);
        else
            answer_envd(r, 401, signature_text(s));
    }
}

static void pass_envd(struct proxy *p, struct box *b, struct httpd_req *r)
{
    const char *target = httpd_head(r)->target;
    char path[2048];
    int reserved = route_reserved(target, path, sizeof(path));
    if (reserved < 0)
        answer_text(r, 400, "Invalid target");
    else if (reserved)
        answer_reserved(r, path);
    else if (route_is(target, "/files"))
        pass_files(p, b, r);
    else
        pass(p, b, r, ROUTE_ENVD_PORT, NULL);
}

static void pass_port(struct proxy *p, struct box *b, struct httpd_req *r,
                      int port)
{
    const char *given = http1_get(httpd_head(r), "e2b-traffic-access-token");
    if (b->traffic && (!given || !str_same_secret(given, b->traffic)))
        answer_traffic_token(r, b->id, !given);
    else
        pass(p, b, r, port, NULL);
}

/* A /files URL without the name of a sandbox: the signature tells whose token
 * made it; an unsigned one can only mean the one sandbox that has none. */
static void pass_signed(struct proxy *p, struct httpd_req *r)
{
    const struct http1_head *h = httpd_head(r);
    const char *method = h->method;
    enum signature why = SIGNATURE_WRONG;
    struct box *open = NULL;
    unsigned nopen = 0;
    if (strcmp(method, "OPTIONS") == 0) {
        method = http1_get(h, "Access-Control-Request-Method");
        method = method ? method : "GET";
    }
    for (struct box *b = p->boxes; b; b = b->next) {
        if (!b->token) {
            open = b;
            nopen++;
            continue;
        }
        enum signature s =
            signature_check(method, h->target, b->token, time(NULL));
        if (s == SIGNATURE_GOOD) {
            pass(p, b, r, ROUTE_ENVD_PORT, b->token);
            return;
        }
        if (s != SIGNATURE_WRONG)
            why = s;
    }
    if (nopen == 1 && (why == SIGNATURE_MISSING || !p->boxes->next))
        pass(p, open, r, ROUTE_ENVD_PORT, NULL);
    else if (nopen > 1)
        answer_envd(r, 400,
                    "several sandboxes are open without a token: name one by "
                    "the headers E2b-Sandbox-Id and E2b-Sandbox-Port");
    else
        answer_envd(r, 401, signature_text(why));
}

bool proxy_take(struct proxy *p, struct httpd_req *r)
{
    struct route to;
    route_find(httpd_head(r), &to);
    if (to.kind == ROUTE_CONTROL)
        return false;
    struct box *b = to.kind == ROUTE_BOX ? find(p, to.id) : NULL;
    if (to.kind == ROUTE_BAD)
        answer_text(r, 400, to.text);
    else if (to.kind == ROUTE_SIGNED)
        pass_signed(p, r);
    else if (!b)
        answer_unknown(p, r, &to);
    else if (to.port == ROUTE_ENVD_PORT)
        pass_envd(p, b, r);
    else
        pass_port(p, b, r, to.port);
    return true;
}
