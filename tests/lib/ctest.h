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

/* Has the file a line with the text? */
static inline int ctest_line(const char *path, const char *text)
{
    char line[4096];
    int found = 0;
    FILE *f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof(line), f))
        found = strstr(line, text) != NULL;
    if (f)
        fclose(f);
    return found;
}

/* Root of the machine, not of a user namespace. */
static inline int ctest_is_root(void)
{
    return ctest_line("/proc/self/uid_map", " 4294967295");
}

/* A root without any cgroup mounted, as bwrap's, or an ordinary user: limits
 * cannot be tried there. Asked of the kernel, not of our own code. */
static inline int ctest_has_cgroups(void)
{
    return ctest_is_root() && ctest_line("/proc/self/mountinfo", " - cgroup");
}

#define RUN(tests)                                                             \
    int main(void)                                                             \
    {                                                                          \
        return cmocka_run_group_tests(tests, NULL, NULL);                      \
    }

#endif
