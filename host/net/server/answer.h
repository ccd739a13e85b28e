/* The data plane's own answers. Their statuses and texts are part of the
 * protocol: clients branch on them (control plane reference 1.5 and 2.4). */
#ifndef E2B_ANSWER_H
#define E2B_ANSWER_H

#include "net/core/httpd.h"

void answer_not_found(struct httpd_req *r, const char *id);
/* It ran out of memory; why goes on with "it ". Clients take 502 for a timeout,
 * but on /health for "not running": envd's other calls get 500. */
void answer_starved(struct httpd_req *r, const char *id, int port,
                    const char *why);
void answer_closed_port(struct httpd_req *r, const char *id, int port);
/* The server took the connection and ended it without an answer. */
void answer_no_answer(struct httpd_req *r, const char *id, int port);
void answer_traffic_token(struct httpd_req *r, const char *id, bool missing);
void answer_too_many(struct httpd_req *r, const char *id, unsigned limit);
void answer_reserved(struct httpd_req *r, const char *path);
void answer_text(struct httpd_req *r, int status, const char *text);
/* In the form of envd's own errors. */
void answer_envd(struct httpd_req *r, int status, const char *text);

#endif
