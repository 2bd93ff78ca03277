#!/bin/sh
# test_cppcheck.sh: cppcheck has nothing to say of the runtime. Asked where CI is set: each of its releases finds
# something else.
set -u
cd "$TM_TOP_SRCDIR" || exit 99
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

[ -n "${CI-}" ] && command -v cppcheck >/dev/null || {
    echo "ok 1 - cppcheck # SKIP asked where CI is set and cppcheck installed"
    echo "1..1"
    exit
}

look() { # look FILE…
    cppcheck --enable=warning,style,performance,portability --error-exitcode=1 --std=c11 --quiet -I runtime \
        -D__x86_64__ -D__LP64__ "$@" >"$work/log" 2>&1
}

if look runtime; then
    echo "ok 1 - cppcheck: the runtime"
else
    echo "not ok 1 - cppcheck: the runtime"
    sed 's/^/# /' "$work/log"
fi
echo 'int f(void) { int a[2]; a[2] = 1; return a[0]; }' >"$work/bad.c"
if look "$work/bad.c"; then
    echo "not ok 2 - cppcheck: what is wrong is seen"
else
    echo "ok 2 - cppcheck: what is wrong is seen"
fi
echo "1..2"
