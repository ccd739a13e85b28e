/* File sets of COPY instructions: listing, hashing, and packing into a tar
 * (libarchive's door). Everything here is slow: call it from a job. */
#ifndef E2B_ARCHIVE_H
#define E2B_ARCHIVE_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Files below one folder, by relative path, in the order that counts. */
struct archive_set {
    char *context;
    char **paths;
    size_t n, cap;
    bool follow; /* what a symbolic link points to, if that exists */
};

void archive_set_add(struct archive_set *s, const char *path);
void archive_set_fini(struct archive_set *s);

/* Adds sub (relative to the context, "." is the context itself) and all below
 * it, in no order; appends a letter for each to types: d folder, f file, l
 * link, o anything else. Links are listed and not followed. Nothing there adds
 * nothing. kind template beyond a million files. */
int archive_set_list(struct archive_set *s, const char *sub, struct buf *types,
                     struct err *e);
/* SHA-256 over prefix and, for each member, path, st_mode in decimal, and what
 * is in it: of a file its size and bytes, of a link its size and target. */
int archive_set_hash(const struct archive_set *s, const char *prefix,
                     char out[65], struct err *e);
/* Packs it into a new temporary file, which is the caller's to remove: its
 * path (malloc'd) and size. Nothing is left on failure. */
int archive_set_pack(const struct archive_set *s, bool gzip, char **path,
                     uint64_t *size, struct err *e);

#endif
