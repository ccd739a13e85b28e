/* The way out of sandboxes. Connections and DNS questions come to sockets in
 * each sandbox's network namespace; names get synthetic addresses, so that the
 * name of every connection is known; what the policy allows is connected from
 * this machine and tied together. */
#ifndef E2B_EGRESS_H
#define E2B_EGRESS_H

#include "egress_policy.h"
#include "net/core/loop.h"

struct egress;

/* v6: names get an IPv6 address too. */
struct egress *egress_new(struct loop *l, bool v6);
void egress_free(struct egress *g); /* removes all; NULL is fine */
/* The name has this address, whatever the machine's resolver says; several
 * calls give several. */
int egress_host(struct egress *g, const char *name, const char *ip,
                struct err *e);

/* Gets what is refused or fails, a line each, not too many: "connection refused
 * by policy: example.com:443; allow it with allow_out". Must not call here. */
void egress_on_line(struct egress *g,
                    void (*fn)(void *arg, const char *id, const char *text),
                    void *arg);

/* A name that a sandbox has asked for, and its synthetic address: the number;
 * the slot is free for a later number, when the name is forgotten. */
struct egress_place {
    unsigned slot, number;
    const char *name;
};
typedef void egress_name_fn(void *arg, const char *id,
                            const struct egress_place *at);
/* Gets each new name before the sandbox gets its address, to remember it for
 * the next engine. Must not call here. */
void egress_on_name(struct egress *g, egress_name_fn *fn, void *arg);
/* What an earlier engine's on_name got, oldest first; an unknown id, a number
 * that is none or taken: nothing. */
void egress_name(struct egress *g, const char *id, unsigned number,
                 const char *name);

enum { EGRESS_TCP4, EGRESS_UDP4, EGRESS_TCP6, EGRESS_UDP6, EGRESS_SOCKETS };

/* Serves a sandbox until it is removed. Takes the descriptors (-1: none) and
 * the policy over, also when it fails. */
int egress_add(struct egress *g, const char *id, const int fds[EGRESS_SOCKETS],
               struct egress_policy *p, struct err *e);
/* For new connections. Takes p over; unknown id: nothing. */
void egress_set_policy(struct egress *g, const char *id,
                       struct egress_policy *p);
/* Resets its connections; unknown id: nothing. */
void egress_remove(struct egress *g, const char *id);

enum { EGRESS_LAST = 8, EGRESS_WORDS = 384 };

struct egress_report {
    unsigned long refused; /* connections, by the policy */
    unsigned open;
    /* Of the last refused ones, the newest first: "example.com:443"; the same
     * one again is not repeated. */
    char last[EGRESS_LAST][EGRESS_WORDS];
    int nlast;
};

/* -1: unknown id. */
int egress_report(const struct egress *g, const char *id,
                  struct egress_report *r);

#endif
