/* Unpacking an archive that came out of a sandbox. Slow: call it from a job. */
#ifndef E2B_UNPACK_H
#define E2B_UNPACK_H

#include "base/err.h"

#include <stdint.h>

/* Unpacks the tar (gzip or plain) at path below dir, which is made. Owners are
 * the caller's, set-id bits are dropped. kind protocol for a damaged archive
 * and for a member that would be written outside dir (absolute, "..", through a
 * symbolic link), and for devices; what came before it stays. *files counts
 * what was made. */
int unpack_tar(const char *path, const char *dir, uint64_t *files,
               struct err *e);

#endif
