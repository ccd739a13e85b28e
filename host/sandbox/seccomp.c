/* Loads the prebuilt filter. See seccomp.h. */
#include "seccomp.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

#include "seccomp_table.h"

int seccomp_load_table(void)
{
    struct sock_fprog prog = {
        .len = sizeof(SECCOMP_TABLE) / sizeof(*SECCOMP_TABLE),
        .filter = (struct sock_filter *)(size_t)SECCOMP_TABLE,
    };
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0);
}
