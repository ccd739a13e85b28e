/* Was a command killed for want of memory? The kernel only counts the killed
 * processes of the whole sandbox; a count that has risen is told with the next
 * command that fails, once. */
#ifndef E2B_OOM_H
#define E2B_OOM_H

#include <stdbool.h>
#include <stdint.h>

struct oom {
    int fd;            /* of the group's count, not ours to close; -1: none */
    uint64_t limit_mb; /* 0: no limit, nothing is told */
    uint64_t told;
};

/* The count now; 0 when there is none. */
uint64_t oom_count(const struct oom *o);
/* Were processes killed since the count was before, that nobody was told of?
 * Then they are told now. */
bool oom_tell(struct oom *o, uint64_t before);

#endif
