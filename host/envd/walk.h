/* Walking a tree of any depth with bounded descriptors and no recursion. The
 * first WALK_FDS folders on the way down stay open; deeper ones are found again
 * through ".." and must then be the same. Never follows a link below the root.
 */
#ifndef E2B_WALK_H
#define E2B_WALK_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { WALK_FDS = 48 };

struct walk_names {
    char **v;
    size_t n, cap;
};
void walk_names_add(struct walk_names *l, const char *name);
void walk_names_sort(struct walk_names *l); /* by bytes */
void walk_names_fini(struct walk_names *l);

/* One folder on the way down. names and next are the caller's. */
struct walk_folder {
    int fd; /* -1: closed, comes back by ".." */
    dev_t dev;
    ino_t ino;
    struct walk_names names;
    size_t next;
    size_t mark; /* the caller's, a length of a path for instance */
};

struct walk {
    struct walk_folder *f;
    size_t depth, cap;
};

/* Takes fd over, also on failure. errno is set on -1. */
int walk_open(struct walk *w, int fd);
void walk_close(struct walk *w); /* twice is fine */
struct walk_folder *walk_top(struct walk *w);
/* Goes into a folder of the top. -1 with errno (ENOTDIR, ELOOP, ENOENT ...). */
int walk_down(struct walk *w, const char *name);
/* Leaves the top folder; -1 with ESTALE when the folder above it is not the one
 * that was left: somebody moved things meanwhile. At the root it only closes.
 */
int walk_up(struct walk *w);
/* Calls fn for each name of the top except . and ..; stops when fn says false.
 * -1 with errno. */
int walk_read(struct walk *w, bool (*fn)(void *arg, const char *name, int type),
              void *arg);

#endif
