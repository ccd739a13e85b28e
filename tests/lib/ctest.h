/* cmocka with the headers it wants, and what our C tests share. */
#ifndef E2B_CTEST_H
#define E2B_CTEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* A root without any cgroup mounted, as bwrap's: limits cannot be tried there.
 * Asked of the kernel, not of our own code. */
static inline int ctest_has_cgroups(void)
{
    char line[4096];
    int found = 0;
    FILE *f = fopen("/proc/self/mountinfo", "re");
    while (f && !found && fgets(line, sizeof(line), f))
        found = strstr(line, " - cgroup") != NULL;
    if (f)
        fclose(f);
    return found;
}

#define RUN(tests)                                                             \
    int main(void)                                                             \
    {                                                                          \
        return cmocka_run_group_tests(tests, NULL, NULL);                      \
    }

#endif
