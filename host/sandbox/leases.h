/* Who uses what of a cache that several engines share. A lease is a file
 * leases/<name> that lists what must stay; it holds while somebody has it open:
 * the engine that builds, or the envd of a sandbox, which inherits the
 * descriptor, so that layers outlive the engine that mounted them. An item is a
 * layer's id or "tmp/<folder>". All may wait for a collection that is deciding,
 * at most LEASES_WAIT_MS: call them from a job. */
#ifndef E2B_LEASES_H
#define E2B_LEASES_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum { LEASES_WAIT_MS = 10 * 1000 };

/* A new lease of that name ([0-9a-z-]{1,64}); the descriptor is the caller's
 * and any copy of it keeps the lease. That a layer exists is to be looked at
 * afterwards: from here on it does not go. */
int leases_take(int cache, const char *name, const char *const *items, int n,
                struct err *e);
/* More items for a lease of ours. */
int leases_add(int cache, int lease, const char *const *items, int n,
               struct err *e);
/* Removes the file of a lease that has ended; missing is fine. */
void leases_forget(int cache, const char *name);

/* What is leased by anybody: sorted, for bsearch. */
struct leases {
    char **items;
    size_t n;
    unsigned living;
};

/* Keeps all of the above waiting until the descriptor is closed. */
int leases_lock(int cache, struct err *e);
/* Reads the living ones and removes the files of the dead. Under the lock. */
int leases_read(int cache, struct leases *l, struct err *e);
bool leases_has(const struct leases *l, const char *item);
void leases_fini(struct leases *l);

#endif
