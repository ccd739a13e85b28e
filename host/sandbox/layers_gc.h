/* Collection of layers. What goes, the least recently used first, until the
 * cache is within its limit; at once what can never be used again. What stays
 * whatever the limit: leased layers (leases.h), those of registered templates
 * (roots/<home hash>: the home's path, then the top layers of its templates,
 * one a line), those the caller names; and all layers below one that stays. */
#ifndef E2B_LAYERS_GC_H
#define E2B_LAYERS_GC_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum layers_gc_why {
    LAYERS_GC_STAYS, /* within the limit */
    LAYERS_GC_LEASED,
    LAYERS_GC_TEMPLATE,
    LAYERS_GC_USELESS, /* what it was built on is gone or another */
    LAYERS_GC_OVER     /* goes for the limit */
};

struct layers_gc_layer {
    char id[65], parent[65]; /* parent "": a base */
    /* Digests: its own, and that of the parent that it was built on; "": not
     * on record. */
    char content[65], parent_content[65];
    uint64_t bytes;
    int64_t used; /* last use, any unit */
    bool leased, kept;
    /* out: */
    enum layers_gc_why why;
    int depth; /* layers below it */
};

/* Decides for all and sorts them by id. other: bytes of the cache that count
 * beside them. Returns the bytes of the layers that stay. (layers_gc_plan.c) */
uint64_t layers_gc_plan(struct layers_gc_layer *v, size_t n, uint64_t other,
                        uint64_t max);

struct layers_gc_spec {
    uint64_t max; /* bytes; UINT64_MAX: no limit */
    bool dry_run, verify;
    const char *keep; /* a layer that stays, NULL: none */
};

struct layers_gc_report {
    uint64_t layers, bytes; /* what stays */
    uint64_t gone, gone_bytes;
    uint64_t leased_bytes, template_bytes; /* of what stays */
    uint64_t aside_bytes;        /* of layers that were set aside and stay */
    uint64_t tmp;                /* folders of dead builders that went */
    uint64_t aside;              /* layers set aside that went */
    uint64_t checked, unchecked; /* by verify; the latter have no digest */
    struct buf removed;          /* "id bytes why\n" each */
    struct buf damaged; /* "id\tname it has now, or -\tmessage\n" each */
};

/* Long: from a job, or the process that does nothing else. Any number at
 * once. */
int layers_gc(int cache, const struct layers_gc_spec *s,
              struct layers_gc_report *r, struct err *e);
void layers_gc_fini(struct layers_gc_report *r);

#endif
