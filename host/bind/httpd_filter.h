/* A C filter in front of a Lua HTTP server: e2b_httpd.listen{filter = p} with p
 * a light userdata pointing to this struct, which outlives the server. Requests
 * it takes never enter Lua (the engine's data plane). */
#ifndef E2B_HTTPD_FILTER_H
#define E2B_HTTPD_FILTER_H

#include "net/core/httpd.h"

#include <stdbool.h>

struct httpd_filter {
    /* Called with each complete head, before anything else. true: the filter
     * has set its own callbacks and answers. */
    bool (*take)(void *arg, struct httpd_req *r);
    void *arg;
};

#endif
