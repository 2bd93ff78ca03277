#!/bin/sh
# test_sanitizers.sh: the unit tests and the runtime's own code, built anew under AddressSanitizer with
# UndefinedBehaviorSanitizer, and under ThreadSanitizer. A test passes if it does so there and the sanitizer is silent.
set -u
. "$TM_TOP_SRCDIR/tests/support/unit_tests.sh"

# ThreadSanitizer's own memory must not meet what the kernel places anywhere.
fixed=
! setarch -R true 2>/dev/null || fixed="setarch -R"

sanitize() { # sanitize NAME FLAGS
    if ! echo 'int main(void) { return 0; }' | $CC $2 -x c - -o "$work/probe" 2>/dev/null || ! $fixed "$work/probe"; then
        skip "$1" "the compiler has no $1, or it does not run here"
    elif ! build_unit_tests "$1" "$2" >"$work/log" 2>&1; then
        report "not ok" "$1: build" "$work/log"
    else
        for test in $UNIT_TESTS; do
            run_unit_test "$1: $test" $fixed "$work/$1/$test"
        done
    fi
}

[ -n "${TM_CUNIT_FLAGS# }" ] || {
    skip "sanitizers" "CUnit is not installed"
    finish
    exit
}
sanitize address "-fsanitize=address,undefined -fno-sanitize-recover=all"
sanitize thread "-fsanitize=thread"
finish
