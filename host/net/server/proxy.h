/* The data plane: which requests go to which port of which sandbox, and who
 * may. It knows sandboxes only as what was put in here; when one is removed,
 * its connections are reset and it answers 502. */
#ifndef E2B_PROXY_H
#define E2B_PROXY_H

#include "net/core/httpd.h"

struct proxy;

struct proxy_box {
    const char *id;
    const char *socket;        /* envd's, in the proxy's folder of sockets */
    const char *access_token;  /* envd's; NULL: open to all */
    const char *traffic_token; /* for the other ports; NULL: public */
    const char *mask_host;     /* Host for the other ports, or NULL */
};

/* run_dir: descriptor of the folder of sockets, the caller's. */
struct proxy *proxy_new(struct loop *l, int run_dir);
void proxy_free(struct proxy *p); /* removes all; NULL is fine */
/* Copies b. An id that is there already is replaced. */
void proxy_add(struct proxy *p, const struct proxy_box *b);
void proxy_remove(struct proxy *p, const char *id); /* unknown: nothing */
/* The same for one that ran out of memory; for a while what it is asked is
 * answered with why, as in "it ran out of memory". */
void proxy_remove_starved(struct proxy *p, const char *id, const char *why);
unsigned proxy_open(const struct proxy *p); /* exchanges now open */
/* false: the request is the control plane's. true: it is taken and will be
 * answered. */
bool proxy_take(struct proxy *p, struct httpd_req *r);

#endif
