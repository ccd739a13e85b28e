/* The head of a response, collected line by line, and the checks of what goes
 * into the head of a request. */
#ifndef E2B_HTTPC_HEAD_H
#define E2B_HTTPC_HEAD_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

struct httpc_head {
    int status;
    bool done;         /* no 1xx, no redirect that is followed: the answer */
    struct buf fields; /* name NUL value NUL ... */
};

/* Takes a line with its end: 1 after the blank line, else 0; -1 (kind
 * protocol) when the head grows over 256 KiB. A status line starts anew. */
int httpc_head_line(struct httpc_head *h, const char *p, size_t n,
                    struct err *e);
/* Lower-case name and its value; *pos starts at 0. NULL at the end. */
const char *httpc_head_next(const struct httpc_head *h, size_t *pos,
                            const char **value);
const char *httpc_head_get(const struct httpc_head *h, const char *name);

/* kind invalid_argument: not a token, line ends, fields that are ours. */
int httpc_head_check(const char *name, size_t nname, const char *value,
                     size_t nvalue, struct err *e);
int httpc_head_check_method(const char *method, struct err *e);
/* May go to another host than the one it was meant for. */
bool httpc_head_harmless(const char *line);
/* The URL without user, query and fragment, for messages. */
void httpc_head_safe_url(char *dst, size_t cap, const char *url);

#endif
