#!/bin/sh
# test_valgrind.sh: the unit tests under valgrind's memcheck, which has nothing to say.
set -u
. "$TM_TOP_SRCDIR/tests/support/unit_tests.sh"

if ! command -v valgrind >/dev/null; then
    skip "valgrind" "there is no valgrind here"
elif [ -z "${TM_CUNIT_FLAGS# }" ]; then
    skip "valgrind" "CUnit is not installed"
elif ! build_unit_tests plain "" >"$work/log" 2>&1; then
    report "not ok" "valgrind: build" "$work/log"
else
    for test in $UNIT_TESTS; do
        run_unit_test "valgrind: $test" valgrind --quiet --error-exitcode=1 --leak-check=full \
            --errors-for-leak-kinds=definite \
            --suppressions="$TM_TOP_SRCDIR/tests/support/valgrind.supp" "$work/plain/$test"
    done
fi
finish
