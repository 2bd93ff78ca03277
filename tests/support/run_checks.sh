# Runs `make check` and says what came of it: each test's outcome as it comes, what went wrong whole, and a last line
# "N passed, N failed". All that make says goes into LOG.
#
# Usage: run_checks.sh LOG [ARGUMENT OF MAKE…]
set -u
log=$1
shift
rm -f test-suite.log

{
    "${MAKE:-make}" "$@" check 2>&1
    echo "make ended with status $?"
} | tee "$log" | grep --line-buffered -E '^(PASS|FAIL|SKIP|ERROR|XPASS|XFAIL):' || cat "$log"

status=$(sed -n '$s/^make ended with status //p' "$log")
[ "$status" = 0 ] || [ ! -f test-suite.log ] || cat test-suite.log
awk -v status="$status" '
    /^# PASS:/ {passed = $3}
    /^# SKIP:/ {skipped = $3}
    /^# (FAIL|ERROR|XPASS):/ {failed += $3}
    END {
        if (status != "0" && failed + 0 == 0) failed = 1
        printf "%d passed, %d failed", passed, failed
        if (skipped + 0 > 0) printf ", %d skipped", skipped
        printf "\n"
        exit failed > 0 || passed + 0 == 0
    }' "$log"
