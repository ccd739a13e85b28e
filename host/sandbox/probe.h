/* What this machine can do for sandboxes, tried out: for doctor. Nothing stays
 * behind. */
#ifndef E2B_PROBE_H
#define E2B_PROBE_H

#include "base/err.h"

#include <stdint.h>

/* A user namespace can be made. */
int probe_userns(struct err *e);
/* The file system of dir can be mounted idmapped. Needs root. */
int probe_idmap(const char *dir, struct err *e);
/* The kernel answers nf_tables requests (in a network namespace of its own, as
 * sandboxes have). */
int probe_nf_tables(struct err *e);
/* Bytes that are free for this user on dir's file system. */
int probe_space(const char *dir, uint64_t *bytes, struct err *e);

#endif
