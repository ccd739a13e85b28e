/* What the tests of the layer store share: an empty cache. */
#ifndef E2B_CACHERIG_H
#define E2B_CACHERIG_H

#include "base/fd.h"
#include "base/path.h"
#include "ctest.h"
#include "sandbox/layers.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

static char dir[64];
static int cache = -1;

static inline int setup(void **state)
{
    struct err e = {0};
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/e2b-cache-XXXXXX");
    assert_non_null(mkdtemp(dir));
    if (layers_open(dir, &cache, &e))
        fail_msg("%s", e.msg);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    fd_close(&cache);
    path_remove_tree(AT_FDCWD, dir, NULL);
    return 0;
}

#endif
