/* ListDir: the walk behind it. Runs on a worker. */
#ifndef E2B_LIST_H
#define E2B_LIST_H

#include "base/err.h"
#include "base/json.h"

/* Entries of the folder at path to `depth` levels below it, in pre-order, by
 * name. New array, or NULL with a Connect code. At most LIST_MAX entries or
 * LIST_BYTES of paths: kind resource_exhausted beyond. */
enum { LIST_MAX = 100000, LIST_BYTES = 32 * 1024 * 1024 };
json_t *list_folder(const char *path, unsigned depth, struct err *e);

#endif
