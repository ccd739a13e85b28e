/* envd's HTTP server: access token, CORS, routing. */
#ifndef E2B_SERVER_H
#define E2B_SERVER_H

#include "envd.h"

/* Serves the listening socket (taken over on success). */
struct server *server_new(struct envd *v, int fd, struct err *e);
/* Breaks all connections. NULL is fine. */
void server_free(struct server *s);

#endif
