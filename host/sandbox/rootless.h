/* An ordinary user's engine: it makes itself root of a user namespace that
 * holds the user and, where newuidmap gives one, a range of further ids. What
 * follows from the ids that this process has is decided here, too. */
#ifndef E2B_ROOTLESS_H
#define E2B_ROOTLESS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    ROOTLESS_FIRST = 0x40000000, /* of the ids that root's sandboxes use */
    ROOTLESS_COUNT = 65536,
};

enum rootless_grade {
    ROOTLESS_NOT,   /* root of the machine: idmapped layers */
    ROOTLESS_RANGE, /* a range: sandboxes have users of their own */
    ROOTLESS_ONE,   /* one id only: everything in a sandbox is its root */
};

/* Ids 0..count-1 of a sandbox are first.. of this process. Without idmap files
 * on disk carry the latter. */
struct rootless_ids {
    enum rootless_grade grade;
    uint32_t first, count;
    bool idmap;
};

/* Of this process. Reads /proc/self/uid_map and gid_map. */
void rootless_ids(struct rootless_ids *out);
/* Who this process is to the machine: the effective user, outside of the
 * namespace that rootless_enter has made. */
uid_t rootless_user(void);
/* Of the texts of such files. Not the machine's own root: first is 1, since 0
 * is the user itself, who must not be root of a sandbox where there is choice.
 */
void rootless_ids_of(const char *uid_map, const char *gid_map,
                     struct rootless_ids *out);

/* The largest range of /etc/subuid's text for the user. 0, or -1 when there is
 * none of at least ROOTLESS_COUNT. */
int rootless_range_of(const char *text, const char *name, uid_t uid,
                      uint32_t *first);

/* Does nothing for effective root. Else moves this process, which must have
 * one thread, into a user namespace as its root and into a mount namespace of
 * its own. Where the range cannot be had it takes one id only and why (may be
 * "") says the reason. Waits at most some seconds. */
int rootless_enter(char *why, size_t cap, struct err *e);

/* Moves this process, which must have one thread, into the user namespace that
 * an earlier engine of this user had, by a living sandbox of it. kind not_found
 * when there is no such sandbox. */
int rootless_join(pid_t pid, uint64_t start_time, struct err *e);

/* A user namespace with a sandbox's ids, as a descriptor. */
int rootless_userns(const struct rootless_ids *ids, struct err *e);
/* Writes the map of a sandbox's ids for a process in a new user namespace. */
int rootless_map(const struct rootless_ids *ids, pid_t pid, struct err *e);

#endif
