/* One request of the data plane on its way through a sandbox's port and back:
 * parsed on both sides, streaming both ways with back-pressure, a raw tunnel
 * after 101. */
#ifndef E2B_EXCHANGE_H
#define E2B_EXCHANGE_H

#include "handover.h"
#include "net/core/httpd.h"

/* The open exchanges of one sandbox; the owner zeroes it. */
struct exchange_list {
    struct exchange *first;
    unsigned count;
};

struct exchange_to {
    const char *id; /* the sandbox's */
    int port;
    int dirfd;          /* envd's unix socket is dirfd/socket */
    const char *socket; /* borrowed, as id and hand, while exchanges are open */
    struct handover *hand;
    const char
        *token;       /* sent as X-Access-Token instead of what came, or NULL */
    const char *host; /* sent as Host instead of what came, or NULL */
};

/* Takes the request over (its callbacks are the exchange's from now on). Every
 * failure is answered to the client. */
void exchange_start(struct exchange_list *list, struct httpd_req *req,
                    const struct exchange_to *to);
/* Ends them all, for the sandbox has ended: who waits for an answer gets 502
 * (starved not NULL: what answer_starved says), where one has begun the
 * client's connection is reset. */
void exchange_reset_all(struct exchange_list *list, const char *starved);

#endif
