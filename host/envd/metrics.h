/* GET /metrics: processor, memory and disk as the sandbox sees them. */
#ifndef E2B_METRICS_H
#define E2B_METRICS_H

#include "base/buf.h"

#include <stdint.h>

struct metrics {
    uint64_t busy, total; /* processor time at the last call */
};

/* Appends the JSON object. */
void metrics_write(struct metrics *m, struct buf *b);

#endif
