#!/bin/sh
# test_clang_tidy.sh: clang-tidy has nothing to say of the runtime; .clang-tidy tells what it is asked.
set -u
cd "$TM_TOP_SRCDIR" || exit 99
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

command -v clang-tidy >/dev/null || {
    echo "ok 1 - clang-tidy # SKIP there is no clang-tidy here"
    echo "1..1"
    exit
}

tidy() { # tidy FILE…: what it says goes to $work/log
    clang-tidy --quiet --config-file=.clang-tidy "$@" -- -std=gnu11 -Iruntime -DLIBUNWIND_SONAME='"libunwind.so"' \
        >"$work/log" 2>&1
}

number=0
for file in runtime/*.c; do
    number=$((number + 1))
    if tidy "$file"; then
        echo "ok $number - clang-tidy: $file"
    else
        echo "not ok $number - clang-tidy: $file"
        sed 's/^/# /' "$work/log" | head -n 60
    fi
done

number=$((number + 1))
echo 'int f(int *p) { if (!p) return *p; return 0; }' >"$work/bad.c"
if tidy "$work/bad.c"; then
    echo "not ok $number - clang-tidy: what is wrong is seen"
else
    echo "ok $number - clang-tidy: what is wrong is seen"
fi
echo "1..$number"
