# unit_tests.sh: builds the runtime's unit tests another way and runs them, for scripts that print TAP. To be sourced.
#
# build_unit_tests FOLDER FLAGS   builds them in $work/FOLDER with these flags; fails if the compiler cannot
# run_unit_test NAME COMMAND…     runs one and reports: it must end with 0, say ok to every test, and be silent on stderr

number=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

UNIT_TESTS="test_arena test_site test_lane test_skiplist"
case ${TM_UNIT_FLAGS-} in
*OWN_WALK*) UNIT_TESTS="$UNIT_TESTS test_past_walks" ;;
esac
[ -z "${TM_UNWIND_FLAGS-}" ] || UNIT_TESTS="$UNIT_TESTS test_capture"

report() { # report OUTCOME NAME FILE: with the file's text where it is not ok
    number=$((number + 1))
    echo "$1 $number - $2"
    case $1 in
    not*) sed 's/^/# /' "$3" | head -n 100 ;;
    esac
}

skip() { # skip NAME WHY
    number=$((number + 1))
    echo "ok $number - $1 # SKIP $2"
}

build_unit_tests() {
    to=$work/$1
    flags="-std=gnu11 -g -O1 -fno-omit-frame-pointer -fno-builtin -I$TM_TOP_SRCDIR/runtime -I$TM_TOP_SRCDIR/tests/support
        -DTEST_DIRECTORY=\"$TM_TOP_BUILDDIR/tests/runtime/.libs\" $TM_UNIT_FLAGS $2"
    mkdir "$to" || return 1
    for source in $TM_CORE_SOURCES; do
        case $source in
        *.c) printf '%s\n' "$source" ;;
        esac
    done >"$to/sources"
    # shellcheck disable=SC2086
    xargs -P 2 -I SOURCE sh -c '
        out=$1/$(basename SOURCE .c).o; shift; exec "$@" -ftls-model=initial-exec -c "$TM_TOP_SRCDIR/SOURCE" -o "$out"
        ' sh "$to" $CC $flags <"$to/sources" || return 1
    for test in $UNIT_TESTS; do
        source=$TM_TOP_SRCDIR/tests/runtime/$test.c
        wrap=
        ! grep -q kernel_limits.h "$source" || wrap=-Wl,--wrap=kernel_map,--wrap=kernel_fill
        # shellcheck disable=SC2086
        $CC $flags $wrap "$source" "$to"/*.o -o "$to/$test" $TM_CUNIT_FLAGS ${TM_UNWIND_FLAGS-} -ldl -pthread ||
            return 1
    done
}

run_unit_test() {
    name=$1
    shift
    status=0
    "$@" >"$work/out" 2>"$work/log" || status=$?
    sed "/ASan doesn't fully support makecontext/d" "$work/log" >"$work/err"
    if [ "$status" -eq 0 ] && [ ! -s "$work/err" ] && grep -q '^ok ' "$work/out" &&
        ! grep -q '^not ok ' "$work/out"; then
        report ok "$name" /dev/null
    else
        cat "$work/out" >>"$work/err"
        report "not ok" "$name" "$work/err"
    fi
}

finish() {
    echo "1..$number"
}
