/* What only the engine asks for: POST /init, POST /_engine/deadline. The
 * engine's proxy lets neither pass from outside. */
#ifndef E2B_CONTROL_H
#define E2B_CONTROL_H

#include "envd.h"

#include <stdint.h>

/* The dead-man deadline: grace_ms after it the loop is stopped, unless an
 * engine has spoken within the last grace_ms. first_ms: the deadline until the
 * engine sets one, 0: none. */
struct control *control_new(struct envd *v, uint64_t first_ms,
                            uint64_t grace_ms);
void control_free(struct control *c); /* NULL is fine */

/* Both take the request over. /init checks the token itself. */
void control_init(struct envd *v, struct httpd_req *r);
void control_deadline(struct envd *v, struct httpd_req *r);

#endif
