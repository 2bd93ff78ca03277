#!/bin/sh
# test_symbols.sh: what the library exports and what it asks of others. Exports are the version script's names
# and no more. Of others it may use only what is listed here: nothing that calls malloc, but for dlsym and
# __register_atfork, which run once before tracing starts.
set -eu

library=$TM_TOP_BUILDDIR/runtime/.libs/libtracemalloc.so
map=$TM_TOP_SRCDIR/runtime/libtracemalloc.map
allowed='__cxa_finalize __errno_location __gmon_start__ _ITM_deregisterTMCloneTable _ITM_registerTMCloneTable
__register_atfork __stack_chk_fail __tls_get_addr
_dl_find_object clock_gettime dl_iterate_phdr dlinfo dlsym memchr memcmp memcpy memmove memset mmap secure_getenv strcmp strlen
syscall write close fsync getpid open readlink getcwd strchr rename pthread_setcancelstate uname unlink
dlopen getcontext'

number=0
report() { # REPORT NAME UNEXPECTED
    number=$((number + 1))
    if [ -z "$2" ]; then
        echo "ok $number - symbols: $1"
    else
        echo "not ok $number - symbols: $1"
        echo "# $2"
    fi
}

names_only() {
    awk '{print $NF}' | sed 's/@.*//' | sort -u
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nm -D --defined-only "$library" | names_only >"$work/exported"
sed -n 's/^  \([a-z_]*\);$/\1/p' "$map" | sort -u >"$work/promised"
nm -D --undefined-only "$library" | names_only >"$work/used"
printf '%s\n' $allowed | sort -u >"$work/allowed"

echo 1..4
report "nothing unexpected is exported" "$(comm -23 "$work/exported" "$work/promised" | tr '\n' ' ')"
report "everything promised is exported" "$(comm -13 "$work/exported" "$work/promised" | tr '\n' ' ')"
report "nothing is used that might allocate" "$(comm -23 "$work/used" "$work/allowed" | tr '\n' ' ')"
report "the border is read-only after relocation" \
    "$(nm -D --defined-only "$library" | awk '$3 == "tm_layout" && $2 != "D" {print "tm_layout is in section " $2}')$(
        readelf -lW "$library" | grep -q GNU_RELRO || echo "no RELRO segment")"
