/* The store of read-only layers that sandboxes share. In the cache folder:
 *   layers/<id>/{fs/,meta.json}   complete, never changed; synced: is on disk
 *   tmp/<name>/                   being made; locked while its maker lives
 *   leases/, roots/               who uses what: leases.h, layers_gc.h
 *   damaged/<id>.<time>/          layers that were found damaged
 * A layer appears by one rename with its meta.json inside: one without it does
 * not exist. Ids are 1 to 64 of [0-9a-z]. Owners on disk: see launcher.h. */
#ifndef E2B_LAYERS_H
#define E2B_LAYERS_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum { LAYERS_TMP_NAME = 33, LAYERS_ASIDE_NAME = 96 };

/* Makes the folders (0700). *dirfd is the caller's. */
int layers_open(const char *cache, int *dirfd, struct err *e);
/* Removes what dead makers left of layers_tmp; what others keep in tmp/ under
 * names of their own stays. Slow: call it from a job. */
void layers_sweep(int cache);
bool layers_have(int cache, const char *id);
/* Its files belong to ids that sandboxes have now: an ordinary user's may have
 * been made with another range, or with one id. */
bool layers_ours(int cache, const char *id);
/* O_PATH of fs/, the caller's. kind not_found. Takes no lease. */
int layers_fd(int cache, const char *id, struct err *e);
/* Notes that it was used now; best effort. */
void layers_touch(int cache, const char *id);
/* Appends meta.json. */
int layers_meta(int cache, const char *id, struct buf *json, struct err *e);
/* Ids of all layers, one a line. */
int layers_list(int cache, struct buf *ids, struct err *e);
/* Removes a layer, whoever uses it; missing is fine. Slow: from a job. */
int layers_remove(int cache, const char *id, struct err *e);

/* A new folder tmp/<name>, locked by the descriptor that is returned: when it
 * closes without layers_publish the next layers_sweep removes the folder. */
int layers_tmp(int cache, char name[LAYERS_TMP_NAME], struct err *e);
/* Turns tmp/<name>, which holds fs/, into the layer. meta_json (an object) gets
 * what the tree is: content (digest), size, files, top, ids, boot. If another
 * maker was first, this one is dropped and that is success. Slow: call it from
 * a job. */
int layers_publish(int cache, const char *name, const char *id,
                   const char *meta_json, struct err *e);
/* Renames the finished folder upper_parent/upper in as the fs/ of a layer, as
 * layers_publish. It must be on the cache's file system. */
int layers_seal(int cache, int upper_parent, const char *upper, const char *id,
                const char *meta_json, struct err *e);

struct layers_sum {
    char digest[65];
    uint64_t bytes; /* disk space */
    uint64_t files; /* entries of all kinds, without the root */
    int top;        /* entries of the root */
};

/* SHA-256 over the sorted tree below fs: path, type, mode, owner as a sandbox
 * sees it, size, content, link target, device, capabilities, overlay's opaque
 * mark; no times. Slow: call it from a job. (layers_measure.c) */
int layers_measure(int fs, struct layers_sum *sum, struct err *e);
/* The disk space alone, no content is read; 0 when it cannot be walked. */
uint64_t layers_bytes(int fs);

/* A quick look at what is used: meta is a JSON object and this layer's, fs/ is
 * there and its root has as many entries as when it was made; errnum is EUCLEAN
 * when not, another where it could not be looked at. 1: it was made
 * before this boot and perhaps never reached the disk: layers_verify it. */
int layers_check(int cache, const char *id, const struct buf *meta,
                 struct err *e);
/* Waits until the cache is on its disk and marks the layers as synced; for
 * those that are gone this is nothing. Slow: call it from a job. */
int layers_sync(int cache, const char *const *ids, int n, struct err *e);
/* The whole content: 0 as it was made, 1 damaged (e says how), 2 its digest was
 * not recorded or is that of files with other ids (rootless.h), -1 failed.
 * Slow: call it from a job. */
int layers_verify(int cache, const char *id, struct err *e);
/* Out of the way, for somebody to look at: name gets damaged/<id>.<time>. Where
 * it is mounted it stays. */
int layers_aside(int cache, const char *id, char name[LAYERS_ASIDE_NAME],
                 struct err *e);
/* Has it been set aside, and not been collected since? */
bool layers_was_damaged(int cache, const char *id);

#endif
