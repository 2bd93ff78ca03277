#!/bin/sh
# test_symbols.sh: what the library exports and what it asks of others. Exports are the version script's names
# and no more. Of others it may use only what is listed here: nothing that calls malloc, but for dlsym, on_exit and
# __register_atfork, which run once before tracing starts, and pthread_create, which runs where malloc was called.
set -eu

library=$TM_TOP_BUILDDIR/runtime/.libs/libtracemalloc.so
map=$TM_TOP_SRCDIR/runtime/libtracemalloc.map
allowed='__cxa_finalize __errno_location __gmon_start__ _ITM_deregisterTMCloneTable _ITM_registerTMCloneTable
__register_atfork __stack_chk_fail __tls_get_addr
__libc_single_threaded _dl_find_object clock_gettime dl_iterate_phdr dlinfo dlsym memchr memcmp memcpy memmove memset mmap secure_getenv stat strcmp strlen
syscall write close fsync getpid open readlink __memcpy_chk getcwd strchr rename pthread_setcancelstate uname unlink
dlopen getauxval getcontext
__environ environ __progname program_invocation_short_name fcntl memrchr on_exit prctl pthread_attr_destroy pthread_attr_init
pthread_attr_setdetachstate pthread_attr_setstacksize pthread_create pthread_sigmask sigaction sigfillset stpcpy strcspn
strerrordesc_np strncmp __libc_current_sigrtmax __libc_current_sigrtmin __dlclose pthread_join pthread_key_create
pthread_setspecific sigaddset sigemptyset sigismember sigpending sigtimedwait'

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
sed -n 's/^  \([a-z_]*\);$/\1/p' "$map" | sort -u >"$work/promised"
printf '%s\n' $allowed | sort -u >"$work/allowed"

exports() { # exports LIBRARY
    nm -D --defined-only "$1" | names_only
}

unexpected_exports() {
    exports "$1" | comm -23 - "$work/promised"
}

missing_exports() {
    exports "$1" | comm -13 - "$work/promised"
}

unexpected_uses() {
    nm -D --undefined-only "$1" | names_only | comm -23 - "$work/allowed"
}

# Below the hooks malloc is not ours but the program's: there a call of it has a name like any other's. nm would show
# the names of what is yet to be optimised, without libc's best known functions.
unexpected_uses_below() { # unexpected_uses_below ARCHIVE
    readelf -sW "$1" | awk '$5 != "LOCAL" && $7 != "UND" {print $8}' | sort -u >"$work/defined"
    readelf -sW "$1" | awk '$5 != "LOCAL" && $7 == "UND" {print $8}' | sort -u | comm -23 - "$work/defined" |
        comm -23 - "$work/allowed" | grep -v -x -e '' -e _GLOBAL_OFFSET_TABLE_ -e pthread_atfork || true
}

writable_border() {
    nm -D --defined-only "$1" | awk '$3 == "tm_layout" && $2 != "D" && $2 != "R" {print "tm_layout: section " $2}'
    readelf -lW "$1" | grep -q GNU_RELRO || echo "no RELRO segment"
}

# A library as ours must not be, for which each question has an answer.
cat >"$work/bad.c" <<'END'
char *strdup(const char *text);
int extra, tm_layout;
void *tm_start(void) { return strdup("now"); }
END
$CC -shared -fPIC -fno-builtin -Wl,-z,norelro "$work/bad.c" -o "$work/bad.so"
$CC -c -fno-builtin "$work/bad.c" -o "$work/bad.o"

ask() { # ask NAME QUESTION OURS BAD
    report "$1" "$($2 "$3" | tr '\n' ' ')"
    report "$1: what is wrong is seen" "$([ -n "$($2 "$4")" ] || echo "nothing found in a library that is wrong")"
}

echo 1..10
ask "nothing unexpected is exported" unexpected_exports "$library" "$work/bad.so"
ask "everything promised is exported" missing_exports "$library" "$work/bad.so"
ask "nothing is used that might allocate" unexpected_uses "$library" "$work/bad.so"
ask "nothing allocates below the hooks" unexpected_uses_below "$TM_TOP_BUILDDIR/runtime/.libs/libcore.a" "$work/bad.o"
ask "the border is read-only after relocation" writable_border "$library" "$work/bad.so"
