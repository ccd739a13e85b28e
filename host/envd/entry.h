/* EntryInfo of the Filesystem service, and what its methods share. Everything
 * here may run on a worker thread. */
#ifndef E2B_ENTRY_H
#define E2B_ENTRY_H

#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <sys/types.h>

/* Names of the last owner and group: most folders have one. Start zeroed. */
struct entry_names {
    bool has_user, has_group;
    uid_t uid;
    gid_t gid;
    char user[64], group[64];
};

/* The entry at dirfd/at, shown under the path `shown` (bytes, repaired in the
 * answer). New reference, or NULL with errno of the lstat. */
json_t *entry_info(struct entry_names *names, int dirfd, const char *at,
                   const char *shown);
/* Text of an errno as Go writes it: E2B's messages are Go's. */
const char *entry_errno(int errnum, char *dst, size_t cap);
/* As err_errno with that text. */
int entry_fail(struct err *e, const char *kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* mkdir -p with 0755; what is made belongs to uid and gid. -1: kind internal,
 * errno set. */
int entry_make_dirs(const char *path, uid_t uid, gid_t gid, struct err *e);
/* Removes a file or a tree; missing is fine. -1 with errno. */
int entry_remove(const char *path);

/* The prefix of the extended attributes that carry metadata. */
#define ENTRY_XATTR "user.e2b."

#endif
