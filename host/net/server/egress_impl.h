/* What the files of egress share. */
#ifndef E2B_EGRESS_IMPL_H
#define E2B_EGRESS_IMPL_H

#include "egress.h"
#include "net/core/stream.h"

#include <netinet/in.h>
#include <sys/socket.h>

enum { EGRESS_ADDRESSES = 16 };

/* ---- egress_names.c: names of one sandbox, their synthetic addresses and
 * what the machine's resolver says of them ----------------------------------
 */

enum egress_known {
    EGRESS_UNKNOWN,
    EGRESS_LOOKING,
    EGRESS_FOUND,
    EGRESS_NONE, /* there is no such name */
    EGRESS_FAILED
};

struct egress_name {
    struct egress_name *next; /* of its hash */
    struct egress_names *names;
    uint32_t number;
    enum egress_known known;
    uint64_t until; /* loop time; what is known is forgotten then */
    struct egress_addr addrs[EGRESS_ADDRESSES];
    int naddrs;
    struct loop_resolve *resolve;
    struct loop_timer *later; /* tells that it could not be started */
    struct egress_wait *waits;
    struct egress_name *queued; /* next that waits for its look-up */
    char text[];
};

struct egress_wait {
    struct egress_wait *next, **at; /* at NULL: not waiting */
    void (*fn)(void *arg, const struct egress_name *n);
    void *arg;
};

struct egress_names;
struct egress_box;
struct egress_names *egress_names_new(struct egress_box *b);
void egress_names_free(struct egress_names *s); /* waits end without a call */
/* Makes it when it is new; the pointer is good until the next call or wait. */
struct egress_name *egress_names_get(struct egress_names *s, const char *clean);
/* Gives the name that number; later ones get higher ones. */
void egress_names_put(struct egress_names *s, unsigned number,
                      const char *clean);
/* NULL: no such synthetic address. */
struct egress_name *egress_names_at(struct egress_names *s,
                                    const struct egress_addr *a);
bool egress_names_synthetic(const struct egress_addr *a);
void egress_names_v4(const struct egress_name *n, unsigned char dst[4]);
void egress_names_v6(const struct egress_name *n, unsigned char dst[16]);
/* true: n->known tells now; false: fn will be called (fn and arg are set). */
bool egress_names_look(struct egress_name *n, struct egress_wait *w);
void egress_wait_cancel(struct egress_wait *w); /* not waiting: nothing */

/* ---- egress.c -------------------------------------------------------------
 */

struct egress_box {
    struct egress_box *next;
    struct egress *g;
    char *id;
    struct egress_policy *policy;
    struct egress_names *names;
    struct stream_listen *tcp[2]; /* v4, v6 */
    int udp[2];
    struct loop_watch *udp_watch[2];
    struct egress_conn *conns;
    struct egress_asker *askers;
    struct egress_question *questions;
    unsigned nconns, naskers, nquestions;
    unsigned long refused;
    char last[EGRESS_LAST][EGRESS_WORDS];
    int nlast;
    unsigned log_tokens;
    uint64_t log_at;
};

struct loop *egress_loop(const struct egress *g);
bool egress_v6(const struct egress *g);
/* What egress_host was told of the name; returns the count. */
int egress_hosts(const struct egress *g, const char *clean,
                 struct egress_addr *dst, int max);
/* Is it an address of this machine? */
bool egress_own(struct egress *g, const struct egress_addr *a);
/* A name is new. */
void egress_named(struct egress_box *b, const struct egress_place *at);
/* Counts it and says a line. what: "example.com:443". */
void egress_refused(struct egress_box *b, const char *what);
/* Says a line, unless there were too many. */
void egress_log(struct egress_box *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- egress_conn.c, egress_ask.c ------------------------------------------
 */

/* A connection from inside; takes fd. */
void egress_conn_start(struct egress_box *b, int fd, int family);
void egress_conn_end_all(struct egress_box *b);
/* DNS by TCP; takes fd. */
void egress_ask_tcp(struct egress_box *b, int fd);
/* A UDP socket of the box is readable. */
void egress_ask_udp(struct egress_box *b, int which);
void egress_ask_end_all(struct egress_box *b);

#endif
