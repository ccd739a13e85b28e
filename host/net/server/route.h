/* Which requests belong to a sandbox and to which of its ports: pure functions
 * on the head of a request. Source: control plane reference, section 1.5. */
#ifndef E2B_ROUTE_H
#define E2B_ROUTE_H

#include "net/core/http1.h"

#define ROUTE_ENVD_PORT 49983
#define ROUTE_ID_MAX    63

enum route_kind {
    ROUTE_CONTROL, /* the control plane's */
    ROUTE_BOX,     /* id and port are set */
    ROUTE_SIGNED,  /* a /files URL that names no sandbox: its signature does */
    ROUTE_BAD,     /* 400 with text */
};

struct route {
    enum route_kind kind;
    char id[ROUTE_ID_MAX + 1];
    int port;
    const char *text; /* static */
};

/* Host beats the routing headers except for localhost, addresses and
 * "sandbox.<domain>"; "api.<domain>" is the control plane. */
void route_find(const struct http1_head *h, struct route *out);
/* 1: the target is one of envd's internal verbs (/init, /freeze, /_engine/...,
 * in any spelling); 0: it is not; -1: bad escapes. path gets its plain path. */
int route_reserved(const char *target, char *path, size_t cap);
/* Is the target's path exactly this one? */
bool route_is(const char *target, const char *path);
/* Does the client look like a browser that navigates (wants HTML)? */
bool route_browser(const struct http1_head *h);

#endif
