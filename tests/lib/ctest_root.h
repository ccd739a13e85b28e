/* For test programs that need root: the machine's, or, for an ordinary user,
 * that of a user namespace, as the engine makes one. */
#ifndef E2B_CTEST_ROOT_H
#define E2B_CTEST_ROOT_H

#include "ctest.h"
#include "sandbox/rootless.h"

/* First in main. -1: said why. */
static inline int ctest_root(void)
{
    char why[160];
    struct err e = {0};
    struct rootless_ids ids;
    if (rootless_enter(why, sizeof(why), &e) < 0) {
        print_error("this test needs root: %s\n", e.msg);
        return -1;
    }
    rootless_ids(&ids);
    if (ids.grade == ROOTLESS_ONE) {
        print_error("this test needs root or a range of ids: %s\n", why);
        return -1;
    }
    return 0;
}

#endif
