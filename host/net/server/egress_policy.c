/* The lists of a sandbox's network policy. See egress_policy.h. */
#include "egress_policy.h"

#include "base/mem.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct net {
    struct egress_addr a;
    int bits; /* of 128 */
};

struct nets {
    struct net *v;
    size_t n;
};

struct pin {
    char *host; /* clean name or text of the address */
    int port;
};

struct egress_policy {
    struct nets allow, deny;
    char **domains; /* "*", "*.example.com", "example.com" */
    size_t ndomains;
    struct pin *pins;
    size_t npins;
    bool deny_all;
};

/* ---- addresses ------------------------------------------------------------
 */

static const uint8_t MAPPED[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

int egress_addr_parse(const char *ip, struct egress_addr *a)
{
    memcpy(a->b, MAPPED, sizeof(MAPPED));
    if (inet_pton(AF_INET, ip, a->b + 12) == 1)
        return 0;
    return inet_pton(AF_INET6, ip, a->b) == 1 ? 0 : -1;
}

bool egress_addr_is_v4(const struct egress_addr *a)
{
    return memcmp(a->b, MAPPED, sizeof(MAPPED)) == 0;
}

void egress_addr_text(const struct egress_addr *a, char dst[EGRESS_TEXT])
{
    if (egress_addr_is_v4(a))
        inet_ntop(AF_INET, a->b + 12, dst, EGRESS_TEXT);
    else
        inet_ntop(AF_INET6, a->b, dst, EGRESS_TEXT);
}

static bool same_bits(const uint8_t *a, const uint8_t *b, int bits)
{
    int bytes = bits / 8, rest = bits % 8;
    if (memcmp(a, b, (size_t)bytes) != 0)
        return false;
    return rest == 0 || (a[bytes] ^ b[bytes]) >> (8 - rest) == 0;
}

static bool contains(const struct net *n, const struct egress_addr *a)
{
    return same_bits(n->a.b, a->b, n->bits);
}

#define V4(a, b, c, d)                                                         \
    {                                                                          \
        {                                                                      \
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d               \
        }                                                                      \
    }

/* Inner ranges before the outer ones. */
static const struct {
    struct net net;
    enum egress_class class;
} RANGES[] = {
    {{V4(10, 0, 0, 0), 96 + 8}, EGRESS_PRIVATE},
    {{V4(100, 64, 0, 0), 96 + 10}, EGRESS_PRIVATE},
    {{V4(127, 0, 0, 0), 96 + 8}, EGRESS_PRIVATE},
    {{V4(172, 16, 0, 0), 96 + 12}, EGRESS_PRIVATE},
    {{V4(192, 168, 0, 0), 96 + 16}, EGRESS_PRIVATE},
    {{V4(0, 0, 0, 0), 96 + 8}, EGRESS_NEVER},
    {{V4(169, 254, 0, 0), 96 + 16}, EGRESS_NEVER},
    {{V4(224, 0, 0, 0), 96 + 4}, EGRESS_NEVER},
    {{V4(240, 0, 0, 0), 96 + 4}, EGRESS_NEVER},
    {{{{[15] = 1}}, 128}, EGRESS_PRIVATE},
    {{{{0xfc}}, 7}, EGRESS_PRIVATE},
    {{{{0xfe, 0xc0}}, 10}, EGRESS_PRIVATE},
    {{{{0xfe, 0x80}}, 10}, EGRESS_NEVER},
    {{{{0xff}}, 8}, EGRESS_NEVER},
};

/* Addresses that stand for an IPv4 address: NAT64 and 6to4. */
static bool embedded(const struct egress_addr *a, struct egress_addr *inner)
{
    static const struct net nat64 = {{{0, 0x64, 0xff, 0x9b}}, 96},
                            six_to_four = {{{0x20, 0x02}}, 16};
    memcpy(inner->b, MAPPED, sizeof(MAPPED));
    if (contains(&nat64, a))
        memcpy(inner->b + 12, a->b + 12, 4);
    else if (contains(&six_to_four, a))
        memcpy(inner->b + 12, a->b + 2, 4);
    else
        return false;
    return true;
}

static const struct net *range_of(const struct egress_addr *a,
                                  enum egress_class *class)
{
    static const struct net compatible = {{{0}}, 96};
    for (size_t i = 0; i < sizeof(RANGES) / sizeof(*RANGES); i++)
        if (contains(&RANGES[i].net, a)) {
            *class = RANGES[i].class;
            return &RANGES[i].net;
        }
    *class = contains(&compatible, a) ? EGRESS_NEVER : EGRESS_PUBLIC;
    return *class == EGRESS_NEVER ? &compatible : NULL;
}

enum egress_class egress_addr_class(const struct egress_addr *a)
{
    struct egress_addr inner;
    enum egress_class class;
    range_of(embedded(a, &inner) ? &inner : a, &class);
    return class;
}

/* ---- names ----------------------------------------------------------------
 */

int egress_name_clean(const char *name, char dst[EGRESS_NAME_MAX + 1])
{
    size_t n = strlen(name), label = 0;
    if (n > 0 && name[n - 1] == '.')
        n--;
    if (n == 0 || n > EGRESS_NAME_MAX)
        return -1;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name[i];
        bool dot = c == '.';
        if (dot ? label == 0 : !isalnum(c) && c != '-' && c != '_')
            return -1;
        label = dot ? 0 : label + 1;
        if (label > 63 || c > 127)
            return -1;
        dst[i] = (char)tolower(c);
    }
    dst[n] = '\0';
    return label > 0 ? 0 : -1;
}

/* "10.0.0.300" is a bad address, not a name. */
static bool looks_like_address(const char *text)
{
    const char *last = strrchr(text, '.');
    last = last ? last + 1 : text;
    return strchr(text, ':') || strchr(text, '/') ||
           (*last && last[strspn(last, "0123456789")] == '\0');
}

/* ---- the lists ------------------------------------------------------------
 */

struct egress_policy *egress_policy_new(void)
{
    return mem_alloc(sizeof(struct egress_policy));
}

void egress_policy_free(struct egress_policy *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->ndomains; i++)
        free(p->domains[i]);
    for (size_t i = 0; i < p->npins; i++)
        free(p->pins[i].host);
    free(p->allow.v);
    free(p->deny.v);
    free(p->domains);
    free(p->pins);
    free(p);
}

static void nets_add(struct nets *s, const struct net *n)
{
    s->v = mem_realloc(s->v, (s->n + 1) * sizeof(*s->v));
    s->v[s->n++] = *n;
}

/* ::/0 is IPv6 alone, though IPv4 is kept as a part of it. */
static bool covers(const struct net *n, const struct egress_addr *a)
{
    return egress_addr_is_v4(&n->a) == egress_addr_is_v4(a) && contains(n, a);
}

static bool nets_have(const struct nets *s, const struct egress_addr *a)
{
    for (size_t i = 0; i < s->n; i++)
        if (covers(&s->v[i], a))
            return true;
    return false;
}

/* Address or address/bits; an unspecified address alone means nothing. */
static int parse_net(const char *text, struct net *n)
{
    char ip[EGRESS_TEXT];
    uint64_t bits;
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    if (len >= sizeof(ip))
        return -1;
    memcpy(ip, text, len);
    ip[len] = '\0';
    if (egress_addr_parse(ip, &n->a) < 0)
        return -1;
    bool v4 = !strchr(ip, ':');
    n->bits = 128;
    if (slash) {
        if (str_u64(slash + 1, strlen(slash + 1), v4 ? 32 : 128, &bits) < 0)
            return -1;
        n->bits = (int)bits + (v4 ? 96 : 0);
        return 0;
    }
    static const struct egress_addr zero = V4(0, 0, 0, 0);
    return same_bits(n->a.b, zero.b, 128) || strcmp(ip, "::") == 0 ? -1 : 0;
}

int egress_policy_allow(struct egress_policy *p, const char *text,
                        struct err *e)
{
    struct net n;
    char clean[EGRESS_NAME_MAX + 1];
    if (parse_net(text, &n) == 0) {
        nets_add(&p->allow, &n);
        return 0;
    }
    bool wild = str_starts(text, "*.");
    if (strcmp(text, "*") != 0 &&
        (looks_like_address(text) ||
         egress_name_clean(text + (wild ? 2 : 0), clean) < 0))
        return err_set(e, "invalid_argument", "invalid allowed address %s",
                       text);
    size_t size = EGRESS_NAME_MAX + 3;
    char *domain = mem_alloc(size);
    if (strcmp(text, "*") == 0)
        str_fmt(domain, size, "*");
    else
        str_fmt(domain, size, "%s%s", wild ? "*." : "", clean);
    p->domains =
        mem_realloc(p->domains, (p->ndomains + 1) * sizeof(*p->domains));
    p->domains[p->ndomains++] = domain;
    return 0;
}

int egress_policy_deny(struct egress_policy *p, const char *text, struct err *e)
{
    struct net n;
    if (parse_net(text, &n) < 0)
        return err_set(e, "invalid_argument", "invalid denied CIDR %s", text);
    if (n.bits == 96 && egress_addr_is_v4(&n.a))
        p->deny_all = true;
    nets_add(&p->deny, &n);
    return 0;
}

int egress_policy_check(const struct egress_policy *p, struct err *e)
{
    if (p->ndomains == 0 || p->deny_all)
        return 0;
    return err_set(e, "invalid_argument",
                   "When specifying allowed domains in allow out, you must "
                   "include 'ALL_TRAFFIC' in deny out to block all other "
                   "traffic.");
}

void egress_policy_pin(struct egress_policy *p, const char *host, int port)
{
    char clean[EGRESS_NAME_MAX + 1];
    struct egress_addr a;
    if (egress_addr_parse(host, &a) == 0)
        egress_addr_text(&a, clean);
    else if (egress_name_clean(host, clean) < 0)
        return;
    p->pins = mem_realloc(p->pins, (p->npins + 1) * sizeof(*p->pins));
    p->pins[p->npins++] = (struct pin){mem_strdup(clean), port};
}

bool egress_policy_names(const struct egress_policy *p)
{
    return p->ndomains > 0;
}

/* ---- verdicts -------------------------------------------------------------
 */

static bool pinned(const struct egress_policy *p, const char *host, int port)
{
    for (size_t i = 0; i < p->npins; i++)
        if (strcmp(p->pins[i].host, host) == 0 &&
            (port == 0 || port == p->pins[i].port))
            return true;
    return false;
}

static bool fits(const char *domain, const char *name)
{
    size_t n = strlen(name), tail = strlen(domain + 1);
    return strcmp(domain, "*") == 0 ||
           (domain[0] == '*' && n > tail &&
            strcmp(name + n - tail, domain + 1) == 0);
}

enum egress_verdict egress_policy_name(const struct egress_policy *p,
                                       const char *name, int port)
{
    bool pattern = false;
    if (pinned(p, name, port))
        return EGRESS_BY_NAME;
    for (size_t i = 0; i < p->ndomains; i++) {
        if (strcmp(p->domains[i], name) == 0)
            return EGRESS_BY_NAME;
        pattern = pattern || fits(p->domains[i], name);
    }
    if (pattern)
        return EGRESS_BY_PATTERN;
    return p->deny_all && p->allow.n == 0 ? EGRESS_REFUSED : EGRESS_BY_ADDRESS;
}

/* Listed by an entry that lies inside the range (itself, when own). */
static bool named_inside(const struct egress_policy *p,
                         const struct egress_addr *a, const struct net *range)
{
    int least = range ? range->bits : 128;
    for (size_t i = 0; i < p->allow.n; i++)
        if (p->allow.v[i].bits >= least && covers(&p->allow.v[i], a))
            return true;
    return false;
}

static bool public_address(const struct egress_policy *p, enum egress_verdict v,
                           const struct egress_addr *a)
{
    if (v == EGRESS_BY_NAME || v == EGRESS_BY_PATTERN ||
        nets_have(&p->allow, a))
        return true;
    return !p->deny_all && !nets_have(&p->deny, a);
}

bool egress_policy_address(const struct egress_policy *p, enum egress_verdict v,
                           const struct egress_addr *a, int port, bool own)
{
    char text[EGRESS_TEXT];
    struct egress_addr inner;
    enum egress_class class;
    egress_addr_text(a, text);
    if (v == EGRESS_REFUSED)
        return false;
    if (pinned(p, text, port))
        return true;
    const struct egress_addr *real = embedded(a, &inner) ? &inner : a;
    const struct net *range = range_of(real, &class);
    if (class == EGRESS_PUBLIC && !own)
        return public_address(p, v, a);
    if (named_inside(p, real, range))
        return true;
    return class != EGRESS_NEVER && v == EGRESS_BY_NAME;
}
