/* Can a folder of this machine hold the engine's things? Facts are gathered
 * here, the decision is a function of them. */
#ifndef E2B_HOSTFS_H
#define E2B_HOSTFS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct hostfs_facts {
    uint64_t type;       /* f_type of statfs */
    bool read_only;      /* mounted so */
    uint64_t free_bytes; /* for this user */
    uint64_t free_files; /* UINT64_MAX: the file system does not count them */
    int write_errno;     /* of making a file in it; 0: fine */
    int xattr_errno;     /* of a user attribute on that file; 0: fine */
};

/* Below this nothing is begun: a record, a log and a socket must fit. */
enum { HOSTFS_MIN_MIB = 16, HOSTFS_MIN_FILES = 256 };

/* The folder must exist. Leaves nothing behind. */
int hostfs_gather(const char *path, struct hostfs_facts *f, struct err *e);
/* 0, or an error that names path, rule and remedy. variable: what the user sets
 * to move it (E2BLUA_HOME). kind unsupported (cannot be used at all),
 * invalid_argument (not for this user), not_enough_space. */
int hostfs_judge(const struct hostfs_facts *f, const char *variable,
                 const char *path, struct err *e);
/* Only whether there is room, without writing. */
int hostfs_room(const char *path, struct err *e);

#endif
