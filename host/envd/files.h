/* What GET and POST /files share; their doors are in envd.h. */
#ifndef E2B_FILES_H
#define E2B_FILES_H

#include "base/buf.h"
#include "envd.h"

#include <stdbool.h>

struct files_query {
    struct user user;
    bool has_path;
    struct buf path; /* decoded, not resolved; a C string */
};

/* Reads username and path. On -1 the request has been answered; the query needs
 * files_query_fini either way. */
int files_query(struct envd *v, struct httpd_req *r, struct files_query *q);
void files_query_fini(struct files_query *q);

#endif
