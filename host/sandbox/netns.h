/* The network of a sandbox: nothing but `lo`, on which a rule set sends every
 * TCP connection and every DNS question to sockets that are the engine's. The
 * rules are made before the clone and sent by the child, which neither
 * allocates nor formats. */
#ifndef E2B_NETNS_H
#define E2B_NETNS_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Of the documentation ranges, so that nobody misses them. */
#define NETNS_SELF4  "192.0.2.10" /* what lo has beside 127.0.0.1 */
#define NETNS_DNS4   "192.0.2.53" /* for resolv.conf; any other will do too */
#define NETNS_EVENT4 "192.0.2.1"  /* E2B's events service */
#define NETNS_SELF6  "fd65:3262:6c75:61::a"

enum {
    NETNS_PORT = 64053, /* of the sockets, on 127.0.0.1 and ::1 */
    NETNS_BYTES = 12288,
    NETNS_LINKS4 = 2,
    NETNS_LINKS = 5
};
enum { NETNS_TCP4, NETNS_UDP4, NETNS_TCP6, NETNS_UDP6, NETNS_SOCKETS };

/* Listening TCP and bound UDP sockets; -1: none. errnum: why there is no
 * network (v6 alone may lack without an error). */
struct netns_sockets {
    int fd[NETNS_SOCKETS];
    int errnum;
};

struct netns_plan {
    char rules[NETNS_BYTES];
    size_t rules_len;
    uint32_t rules_last; /* sequence number of the message that is acked */
    char links[NETNS_LINKS][128]; /* address and routes, v4 then v6 */
    size_t links_len[NETNS_LINKS];
};

void netns_plan_make(struct netns_plan *p);
/* In the child, with CAP_NET_ADMIN over the namespace and lo up: rules, then
 * sockets, then the routes. -1: errno tells; the namespace stays closed. */
int netns_apply(const struct netns_plan *p, struct netns_sockets *s);
/* netns_fetch.c: the same sockets once more, from the envd that listens on
 * dirfd/name and has copies; errnum ENOTSUP: it has none for IPv4. Waits at
 * most timeout_ms. */
int netns_sockets_fetch(int dirfd, const char *name, int timeout_ms,
                        struct netns_sockets *s, struct err *e);
void netns_sockets_init(struct netns_sockets *s);
void netns_sockets_close(struct netns_sockets *s);

#endif
