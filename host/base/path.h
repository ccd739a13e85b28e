/* Paths from outside. Everything that resolves a name below a folder goes
 * through openat2 here. */
#ifndef E2B_PATH_H
#define E2B_PATH_H

#include "err.h"

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Lexical: "a//b/./c/.." -> "a/b"; "" -> "."; never above "/". 0 or -1 (too
 * long). */
int path_clean(char *dst, size_t cap, const char *src);
int path_join(char *dst, size_t cap, const char *a, const char *b);
const char *path_base(const char *p); /* behind the last '/' */
/* mkdir -p of a path below dirfd (AT_FDCWD allowed). */
int path_mkdirs(int dirfd, const char *path, mode_t mode, struct err *e);
/* openat2 with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS. */
int path_open_beneath(int dirfd, const char *path, int flags, mode_t mode,
                      struct err *e);
/* A folder to list; flags: O_NOFOLLOW or 0. NULL: errno. */
DIR *path_opendir(int dirfd, const char *name, int flags);
/* Its entries without . and ..; -1: errno. */
int path_count(int dirfd, const char *name);
/* Removes a tree, never follows links, crosses no mount; missing is fine.
 * Slow: call it from a job. */
int path_remove_tree(int dirfd, const char *name, struct err *e);
/* Writes a file by temp + rename (+ fsync when durable). */
int path_write_file(int dirfd, const char *name, const void *p, size_t n,
                    mode_t mode, struct err *e);
/* Whole file, malloc'd and NUL-terminated; fails beyond max bytes. */
char *path_read_file(int dirfd, const char *name, size_t max, size_t *n,
                     struct err *e);

#endif
