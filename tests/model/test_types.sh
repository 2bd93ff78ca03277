#!/bin/sh
# test_types.sh: mypy --strict and flake8 have nothing to say of the Python there is: the package, its tests, the
# benchmarks. Each folder of tests is checked by itself, since files of different folders have one name; many use what
# tests/gdb has. Asked where CI is set: each release of the two finds something else.
set -u
cd "$TM_TOP_SRCDIR" || exit 99
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
top=$PWD
number=0

check() { # check NAME COMMAND…
    number=$((number + 1))
    name=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        echo "ok $number - types: $name"
    else
        echo "not ok $number - types: $name"
        sed 's/^/# /' "$work/log" | tail -n 40
    fi
}

skip() {
    number=$((number + 1))
    echo "ok $number - types: $1 # SKIP asked where CI is set and $1 installed"
}

strict() { # strict FOLDER ARGUMENT…
    (cd "$1" && shift &&
        MYPYPATH=$top/gdb:$top/tests/support:$PWD:$top/tests/gdb mypy --strict --cache-dir "$work/cache" "$@")
}

fails() {
    ! "$@"
}

if [ -n "${CI-}" ] && command -v mypy >/dev/null; then
    check "the package" strict gdb -p tm
    for folder in tests/* bench; do
        ! ls "$folder"/*.py >/dev/null 2>&1 || check "$folder" strict "$folder" $(cd "$folder" && ls ./*.py)
    done
    printf 'def f(x):\n    return x\n' >"$work/untyped.py"
    check "what has no types is seen" fails strict "$work" untyped.py
else
    skip mypy
fi
if [ -n "${CI-}" ] && command -v flake8 >/dev/null; then
    check "style" flake8 --max-line-length 120 gdb tests bench examples
    printf 'import os\n' >"$work/unused.py"
    check "what is not used is seen" fails flake8 "$work/unused.py"
else
    skip flake8
fi
echo "1..$number"
