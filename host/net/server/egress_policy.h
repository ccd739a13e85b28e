/* What a sandbox may connect to. Source: control plane reference, 5.3: allowed
 * names and addresses win, then the denied ones, else it is allowed. Beyond
 * that, addresses that are not public need to be named: by the very name that
 * was looked up, or by an address or network inside the range. */
#ifndef E2B_EGRESS_POLICY_H
#define E2B_EGRESS_POLICY_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { EGRESS_NAME_MAX = 253, EGRESS_TEXT = 46 };

/* IPv4 is kept as IPv4-mapped IPv6. */
struct egress_addr {
    uint8_t b[16];
};

int egress_addr_parse(const char *ip, struct egress_addr *a); /* 0 or -1 */
bool egress_addr_is_v4(const struct egress_addr *a);
void egress_addr_text(const struct egress_addr *a, char dst[EGRESS_TEXT]);

enum egress_class {
    EGRESS_PUBLIC,
    EGRESS_PRIVATE, /* private networks, CGNAT, loopback */
    EGRESS_NEVER    /* link-local (metadata services), multicast, reserved: a
                     * name never leads there */
};
enum egress_class egress_addr_class(const struct egress_addr *a);

/* Lower case, without the dot at the end; -1: not a host name. */
int egress_name_clean(const char *name, char dst[EGRESS_NAME_MAX + 1]);

struct egress_policy;

struct egress_policy *egress_policy_new(void);    /* all that is public */
void egress_policy_free(struct egress_policy *p); /* NULL is fine */
/* An address, a network or a domain: example.com, *.example.com or *. */
int egress_policy_allow(struct egress_policy *p, const char *text,
                        struct err *e);
/* An address or a network. 0.0.0.0/0 is everything, IPv6 too. */
int egress_policy_deny(struct egress_policy *p, const char *text,
                       struct err *e);
/* Domains are only allowed against a list that denies everything. */
int egress_policy_check(const struct egress_policy *p, struct err *e);
/* This host (a name or an address) and port, wherever it is: the machine's own
 * proxy or mirror. */
void egress_policy_pin(struct egress_policy *p, const char *host, int port);
/* Are there names in it, so that it matters which one is asked for? */
bool egress_policy_names(const struct egress_policy *p);

enum egress_verdict {
    EGRESS_REFUSED,    /* whatever the name's addresses are */
    EGRESS_BY_ADDRESS, /* ask egress_policy_address */
    EGRESS_BY_PATTERN, /* allowed by a wildcard: its public addresses are */
    EGRESS_BY_NAME     /* allowed by itself: its private ones too */
};
/* name is a clean one; port 0: any. */
enum egress_verdict egress_policy_name(const struct egress_policy *p,
                                       const char *name, int port);
/* v: of the name that led here; EGRESS_BY_ADDRESS without one. own: it is an
 * address of this machine, and thereby not public. */
bool egress_policy_address(const struct egress_policy *p, enum egress_verdict v,
                           const struct egress_addr *a, int port, bool own);

#endif
