/* A sandbox's writable layer with a limit, so that a full one gives ENOSPC
 * inside and fills nobody else's disk.
 *
 * Root gets an ext4 of its own in a sparse image, on a loop device that the
 * kernel gives back with the last process of the sandbox. (Project quota would
 * be cheaper, but the file system must have been made and mounted for it, which
 * hardly any is.) An ordinary user gets a tmpfs, if that fits into the memory,
 * else none, which is said. */
#ifndef E2B_DISK_H
#define E2B_DISK_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum disk_kind { DISK_NONE, DISK_LOOP, DISK_TMPFS };

enum { DISK_MIN_MB = 16 };

struct disk_facts {
    bool root;
    bool loop;        /* /dev/loop-control can be used */
    bool ext4;        /* the kernel has it */
    bool mkfs;        /* mkfs.ext4 was found */
    bool tmpfs_xattr; /* overlay can keep its marks on a tmpfs: Linux 6.6 */
    uint64_t bytes;   /* wanted */
    uint64_t memory_bytes; /* of the sandbox; 0: of the machine */
};

/* Fills all but bytes and memory_bytes. */
void disk_look(struct disk_facts *f);
/* A function of the facts; DISK_NONE: why says what is missing and what mends
 * it. */
enum disk_kind disk_choose(const struct disk_facts *f, char *why, size_t cap);
/* Makes image (a path) with a file system of at least `bytes` free and mounts
 * it: a detached mount that lives as long as somebody holds it. seeds: a folder
 * (made if missing) for empty images, one a size. -1: nothing is left. */
int disk_open(const char *seeds, const char *image, uint64_t bytes,
              struct err *e);

#endif
