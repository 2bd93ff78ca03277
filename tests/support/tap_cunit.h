/* tap_cunit.h: runs a CUnit suite and prints TAP, one line a test. */

#ifndef TAP_CUNIT_H
#define TAP_CUNIT_H

#include <CUnit/Basic.h>
#include <CUnit/TestRun.h>
#include <stdio.h>

struct tap_test {
    const char *name;
    CU_TestFunc function;
};

static int tap_number;

static void tap_report(const CU_pTest test, const CU_pSuite suite, const CU_pFailureRecord failure)
{
    printf("%s %d - %s: %s\n", failure ? "not ok" : "ok", ++tap_number, suite->pName, test->pName);
    for (CU_pFailureRecord one = failure; one && one->pTest == test; one = one->pNext)
        printf("# %s:%u: %s\n", one->strFileName, one->uiLineNumber, one->strCondition);
    fflush(stdout);
}

/* Runs TESTS, which a row without a name ends. Returns what main returns: the
   failures are in the lines. */
static inline int tap_run(const char *suite_name, const struct tap_test *tests)
{
    if (CU_initialize_registry() != CUE_SUCCESS)
        return 99;
    CU_pSuite suite = CU_add_suite(suite_name, NULL, NULL);
    int count = 0;
    for (; tests[count].name; count++)
        CU_add_test(suite, tests[count].name, tests[count].function);
    printf("1..%d\n", count);
    CU_set_test_complete_handler(tap_report);
    CU_run_all_tests();
    CU_cleanup_registry();
    return 0;
}

#endif
