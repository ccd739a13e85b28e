/* Which layers go: a function of facts alone. */
#include "layers_gc.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 200 }; /* no chain is so long: a circle */

typedef struct layers_gc_layer layer;

struct plan {
    layer *v;
    size_t n;
    layer **parent; /* of each; NULL: none, or missing */
};

static int by_id(const void *a, const void *b)
{
    return strcmp(((const layer *)a)->id, ((const layer *)b)->id);
}

/* Least recently used first, of a chain the top first: recency was handed down
 * the chain, so a layer is never older than what stands on it. */
static int by_use(const void *a, const void *b)
{
    const layer *x = *(layer *const *)a, *y = *(layer *const *)b;
    if (x->used != y->used)
        return x->used < y->used ? -1 : 1;
    if (x->depth != y->depth)
        return x->depth > y->depth ? -1 : 1;
    return strcmp(x->id, y->id);
}

static layer *parent_of(const struct plan *p, const layer *l)
{
    return p->parent[l - p->v];
}

static void link_parents(struct plan *p)
{
    for (size_t i = 0; i < p->n; i++) {
        layer key = {.bytes = 0};
        memcpy(key.id, p->v[i].parent, sizeof(key.id));
        if (*key.id)
            p->parent[i] = bsearch(&key, p->v, p->n, sizeof(*p->v), by_id);
    }
}

/* Was it built on another content than the parent has? */
static bool is_stale(const layer *l, const layer *parent)
{
    return *l->parent_content && *parent->content &&
           strcmp(l->parent_content, parent->content) != 0;
}

/* Can it never be part of a sandbox again? Counts what is below it. */
static bool is_useless(const struct plan *p, layer *l)
{
    const layer *at = l;
    for (l->depth = 0; l->depth < DEPTH_MAX; l->depth++) {
        if (!*at->parent)
            return false;
        const layer *parent = parent_of(p, at);
        if (!parent || is_stale(at, parent))
            return true;
        at = parent;
    }
    return true;
}

/* What a layer stands on stays with it and is as recent. */
static void hand_down(const struct plan *p, const layer *l)
{
    layer *at = parent_of(p, l);
    for (int i = 0; at && i < DEPTH_MAX; i++, at = parent_of(p, at)) {
        at->leased = at->leased || l->leased;
        at->kept = at->kept || l->kept;
        if (at->used < l->used)
            at->used = l->used;
    }
}

static enum layers_gc_why first_verdict(const struct plan *p, layer *l)
{
    bool useless = is_useless(p, l);
    if (l->leased)
        return LAYERS_GC_LEASED;
    if (useless)
        return LAYERS_GC_USELESS;
    return l->kept ? LAYERS_GC_TEMPLATE : LAYERS_GC_STAYS;
}

uint64_t layers_gc_plan(struct layers_gc_layer *v, size_t n, uint64_t other,
                        uint64_t max)
{
    struct plan p = {v, n, mem_array(n + 1, sizeof(layer *))};
    layer **free_ones = mem_array(n + 1, sizeof(layer *));
    size_t count = 0;
    uint64_t total = 0;
    if (n)
        qsort(v, n, sizeof(*v), by_id);
    link_parents(&p);
    for (size_t i = 0; i < n; i++)
        hand_down(&p, &v[i]);
    for (size_t i = 0; i < n; i++) {
        v[i].why = first_verdict(&p, &v[i]);
        if (v[i].why != LAYERS_GC_USELESS)
            total += v[i].bytes;
        if (v[i].why == LAYERS_GC_STAYS)
            free_ones[count++] = &v[i];
    }
    if (count)
        qsort(free_ones, count, sizeof(layer *), by_use);
    for (size_t i = 0; i < count && (total > max || other > max - total); i++) {
        free_ones[i]->why = LAYERS_GC_OVER;
        total -= free_ones[i]->bytes;
    }
    free(free_ones);
    free(p.parent);
    return total;
}
