/* The store of read-only layers that sandboxes share. In the cache folder:
 *   layers/<id>/{fs/,meta.json}   complete, never changed
 *   tmp/<name>/                   being made; locked while its maker lives
 * A layer appears by one rename with its meta.json inside: one without it does
 * not exist. Ids are 1 to 64 of [0-9a-z]. Owners on disk: see launcher.h. */
#ifndef E2B_LAYERS_H
#define E2B_LAYERS_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { LAYERS_TMP_NAME = 33 };

/* Makes the folders (0700). *dirfd is the caller's. */
int layers_open(const char *cache, int *dirfd, struct err *e);
/* Removes what dead makers left of layers_tmp; what others keep in tmp/ under
 * names of their own stays. Slow: call it from a job. */
void layers_sweep(int cache);
bool layers_have(int cache, const char *id);
/* O_PATH of fs/, the caller's. kind not_found. Takes no lease. */
int layers_fd(int cache, const char *id, struct err *e);
/* A descriptor that keeps the layer from layers_remove while it is open. */
int layers_lease(int cache, const char *id, struct err *e);
/* Appends meta.json. */
int layers_meta(int cache, const char *id, struct buf *json, struct err *e);
/* Ids of all layers, one a line. */
int layers_list(int cache, struct buf *ids, struct err *e);
/* Removes a layer nobody has leased: 0; 1 when it is in use; missing is fine.
 * Slow: call it from a job. */
int layers_remove(int cache, const char *id, struct err *e);

/* A new folder tmp/<name>, locked by the descriptor that is returned: when it
 * closes without layers_publish the next layers_sweep removes the folder. */
int layers_tmp(int cache, char name[LAYERS_TMP_NAME], struct err *e);
/* Turns tmp/<name>, which holds fs/, into the layer. If another maker was
 * first, this one is dropped and that is success. Slow only then. */
int layers_publish(int cache, const char *name, const char *id,
                   const char *meta_json, struct err *e);
/* Renames the finished folder upper_parent/upper in as the fs/ of a layer, as
 * layers_publish. It must be on the cache's file system. */
int layers_seal(int cache, int upper_parent, const char *upper, const char *id,
                const char *meta_json, struct err *e);

/* SHA-256 over the sorted tree below fs: path, type, mode, owner as sandboxes
 * see it, size, link target, device, overlay's opaque mark; no contents, no
 * times. bytes (may be NULL) gets the disk space. Slow: call it from a job. */
int layers_digest(int fs, char out[65], struct err *e);
int layers_measure(int fs, char digest[65], uint64_t *bytes, struct err *e);

#endif
