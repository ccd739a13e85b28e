/* What this machine can do for sandboxes, tried out: for doctor. Nothing stays
 * behind. */
#ifndef E2B_PROBE_H
#define E2B_PROBE_H

#include "base/err.h"
#include "rootless.h"

#include <stdint.h>

/* A user namespace can be made. */
int probe_userns(struct err *e);
/* The file system of dir can be mounted idmapped. Needs root. */
int probe_idmap(const char *dir, struct err *e);
/* The kernel answers nf_tables requests (in a network namespace of its own, as
 * sandboxes have). */
int probe_nf_tables(struct err *e);
/* What an ordinary user's engine would get. */
struct probe_rootless {
    enum rootless_grade grade;
    char why[160];    /* it is ROOTLESS_ONE */
    char failed[160]; /* of what a sandbox mounts, "" when all went well */
};
/* Enters a user namespace as the engine would and mounts there what sandboxes
 * need. Fails when there is no such namespace. */
int probe_rootless(struct probe_rootless *out, struct err *e);
/* Name of the file system of dir, of those that hold sandboxes (hostfs.c has
 * the others); else its number. */
int probe_fs_type(const char *dir, char *name, size_t cap, struct err *e);
/* Bytes that are free for this user on dir's file system. */
int probe_space(const char *dir, uint64_t *bytes, struct err *e);

#endif
