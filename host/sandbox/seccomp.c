/* Loads the prebuilt filter. See seccomp.h. */
#include "seccomp.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "seccomp_table.h"

static int load(const struct sock_filter *filter, size_t bytes)
{
    struct sock_fprog prog = {
        .len = (unsigned short)(bytes / sizeof(*filter)),
        .filter = (struct sock_filter *)(size_t)filter,
    };
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0);
}

int seccomp_load_table(void)
{
    return load(SECCOMP_TABLE, sizeof(SECCOMP_TABLE));
}

int seccomp_load_fakes(void)
{
    return load(SECCOMP_FAKES, sizeof(SECCOMP_FAKES));
}
