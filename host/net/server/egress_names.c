/* Names get numbers in turn and keep them until 4096 newer ones have come; so
 * an address that a program has kept for long leads nowhere rather than to
 * another name. */
#include "egress_impl.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum {
    SLOTS = 4096,
    BUCKETS = 1024,
    NUMBERS = 131070, /* of 198.18.0.0/15 */
    LOOK_UPS = 8,     /* at once */
    FOUND_MS = 30 * 1000,
    NONE_MS = 3 * 1000,
    FAILED_MS = 1000
};

struct egress_names {
    struct egress_box *box;
    struct egress *g;
    struct egress_name *slots[SLOTS];
    struct egress_name *buckets[BUCKETS];
    uint32_t last; /* number given */
    unsigned looking;
    struct egress_name *queue, **queue_end;
};

struct egress_names *egress_names_new(struct egress_box *b)
{
    struct egress_names *s = mem_alloc(sizeof(*s));
    s->box = b;
    s->g = b->g;
    s->queue_end = &s->queue;
    return s;
}

static void name_free(struct egress_name *n)
{
    while (n->waits)
        egress_wait_cancel(n->waits);
    loop_resolve_cancel(n->resolve);
    loop_timer_stop(n->later);
    free(n);
}

void egress_names_free(struct egress_names *s)
{
    if (!s)
        return;
    for (int i = 0; i < SLOTS; i++)
        if (s->slots[i])
            name_free(s->slots[i]);
    free(s);
}

/* ---- numbers and addresses ------------------------------------------------
 */

static struct egress_name **bucket(struct egress_names *s, const char *text)
{
    uint32_t h = 2166136261U;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 16777619U;
    return &s->buckets[h % BUCKETS];
}

static void forget(struct egress_names *s, struct egress_name *n)
{
    struct egress_name **at = bucket(s, n->text);
    while (*at && *at != n)
        at = &(*at)->next;
    if (*at)
        *at = n->next;
    s->slots[n->number % SLOTS] = NULL;
    name_free(n);
}

/* The next number whose slot nobody waits at. */
static uint32_t next_number(struct egress_names *s)
{
    for (;;) {
        s->last = s->last % NUMBERS + 1;
        struct egress_name *old = s->slots[s->last % SLOTS];
        if (old && (old->waits || old->known == EGRESS_LOOKING))
            continue;
        if (old)
            forget(s, old);
        return s->last;
    }
}

static struct egress_name *find(struct egress_names *s, const char *clean)
{
    struct egress_name *n = *bucket(s, clean);
    while (n && strcmp(n->text, clean) != 0)
        n = n->next;
    return n;
}

static struct egress_name *add(struct egress_names *s, uint32_t number,
                               const char *clean)
{
    struct egress_name **at = bucket(s, clean);
    size_t len = strlen(clean);
    struct egress_name *n = mem_alloc(sizeof(*n) + len + 1);
    memcpy(n->text, clean, len + 1);
    n->names = s;
    n->number = number;
    n->next = *at;
    *at = n;
    s->slots[number % SLOTS] = n;
    return n;
}

struct egress_name *egress_names_get(struct egress_names *s, const char *clean)
{
    struct egress_name *n = find(s, clean);
    if (!n) {
        n = add(s, next_number(s), clean);
        egress_named(s->box, &(struct egress_place){n->number % SLOTS,
                                                    n->number, n->text});
    }
    return n;
}

void egress_names_put(struct egress_names *s, unsigned number,
                      const char *clean)
{
    if (number < 1 || number > NUMBERS || s->slots[number % SLOTS] ||
        find(s, clean))
        return;
    add(s, number, clean);
    s->last = number;
}

void egress_names_v4(const struct egress_name *n, unsigned char dst[4])
{
    dst[0] = 198;
    dst[1] = (unsigned char)(18 + (n->number >> 16));
    dst[2] = (unsigned char)(n->number >> 8);
    dst[3] = (unsigned char)n->number;
}

static const unsigned char PREFIX6[13] = {0xfd, 0x65, 0x32, 0x62,
                                          0x6c, 0x75, 0x00, 0x62};

void egress_names_v6(const struct egress_name *n, unsigned char dst[16])
{
    memcpy(dst, PREFIX6, sizeof(PREFIX6));
    dst[13] = (unsigned char)(n->number >> 16);
    dst[14] = (unsigned char)(n->number >> 8);
    dst[15] = (unsigned char)n->number;
}

bool egress_names_synthetic(const struct egress_addr *a)
{
    if (egress_addr_is_v4(a))
        return a->b[12] == 198 && (a->b[13] & 0xfe) == 18;
    return memcmp(a->b, PREFIX6, sizeof(PREFIX6)) == 0;
}

struct egress_name *egress_names_at(struct egress_names *s,
                                    const struct egress_addr *a)
{
    uint32_t high = egress_addr_is_v4(a) ? (uint32_t)(a->b[13] - 18) : a->b[13];
    uint32_t number = high << 16 | (uint32_t)a->b[14] << 8 | a->b[15];
    struct egress_name *n = s->slots[number % SLOTS];
    return egress_names_synthetic(a) && n && n->number == number ? n : NULL;
}

/* ---- look-ups -------------------------------------------------------------
 */

void egress_wait_cancel(struct egress_wait *w)
{
    if (!w->at)
        return;
    *w->at = w->next;
    if (w->next)
        w->next->at = w->at;
    w->at = NULL;
}

static void start(struct egress_name *n);

static void finish(struct egress_name *n, enum egress_known known,
                   unsigned keep_ms)
{
    struct egress_names *s = n->names;
    n->known = known;
    n->until = loop_now(egress_loop(s->g)) + keep_ms;
    n->resolve = NULL;
    s->looking--;
    struct egress_name *next = s->queue;
    if (next) {
        s->queue = next->queued;
        if (!s->queue)
            s->queue_end = &s->queue;
        start(next);
    }
    /* Callbacks make no new names, which could push this one out. */
    while (n->waits) {
        struct egress_wait *w = n->waits;
        egress_wait_cancel(w);
        w->fn(w->arg, n);
    }
}

static void on_resolved(void *arg, char **addrs, const struct err *e)
{
    struct egress_name *n = arg;
    n->naddrs = 0;
    for (; addrs && *addrs && n->naddrs < EGRESS_ADDRESSES; addrs++)
        if (egress_addr_parse(*addrs, &n->addrs[n->naddrs]) == 0)
            n->naddrs++;
    if (n->naddrs > 0)
        finish(n, EGRESS_FOUND, FOUND_MS);
    else if (e && strcmp(e->kind, "not_found") == 0)
        finish(n, EGRESS_NONE, NONE_MS);
    else
        finish(n, EGRESS_FAILED, FAILED_MS);
}

/* No thread for it: told like an answer, in a later turn. */
static void on_no_thread(void *arg)
{
    finish(arg, EGRESS_FAILED, FAILED_MS);
}

static void start(struct egress_name *n)
{
    struct loop *l = egress_loop(n->names->g);
    n->names->looking++;
    n->resolve = loop_resolve(l, n->text, on_resolved, n, NULL);
    if (!n->resolve)
        loop_after(l, 0, on_no_thread, n, &n->later);
}

bool egress_names_look(struct egress_name *n, struct egress_wait *w)
{
    struct egress_names *s = n->names;
    bool fresh =
        n->known >= EGRESS_FOUND && n->until > loop_now(egress_loop(s->g));
    if (!fresh && n->known != EGRESS_LOOKING) {
        n->naddrs = egress_hosts(s->g, n->text, n->addrs, EGRESS_ADDRESSES);
        if (n->naddrs > 0) {
            n->known = EGRESS_FOUND;
            return true;
        }
        n->known = EGRESS_LOOKING;
        if (s->looking < LOOK_UPS) {
            start(n);
        } else {
            n->queued = NULL;
            *s->queue_end = n;
            s->queue_end = &n->queued;
        }
    }
    if (fresh)
        return true;
    w->at = &n->waits;
    w->next = n->waits;
    if (w->next)
        w->next->at = &w->next;
    n->waits = w;
    return false;
}
