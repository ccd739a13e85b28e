/* Where a script is found: the path as given, then scripts/ of the current
 * project, then the copy that the program carries. */
#ifndef E2B_FIND_H
#define E2B_FIND_H

#include "base/buf.h"
#include "embed/embed.h"

struct found {
    char path[4096];                  /* on disk, "" when carried */
    const struct embed_file *carried; /* or NULL */
};

/* 0, or -1 with the places that were looked at, a line each, in *looked. */
int find_script(const char *name, struct found *out, struct buf *looked);
/* A carried file by its path in the project, or NULL. */
const struct embed_file *find_carried(const char *path);
/* The word of the NULL-ended list nearest to word (edit distance at most 3), or
 * NULL. */
const char *find_nearest(const char *word, const char *const *list);
/* The carried script ("apps/x.lua") whose file name is nearest to name's, or
 * NULL. */
const char *find_near_script(const char *name);

#endif
