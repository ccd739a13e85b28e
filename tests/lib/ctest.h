/* cmocka with the headers it wants, and what our C tests share. */
#ifndef E2B_CTEST_H
#define E2B_CTEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define RUN(tests)                                                             \
    int main(void)                                                             \
    {                                                                          \
        return cmocka_run_group_tests(tests, NULL, NULL);                      \
    }

#endif
