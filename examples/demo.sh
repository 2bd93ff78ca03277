#!/bin/sh
# demo.sh: the main job on two programs, as somebody would type it. Run from the build tree's top by
# `./bootstrap demo`; leaves its snapshots and cores in a temporary folder that it names at the end.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
build=$(pwd)
library=$build/runtime/.libs/libtracemalloc.so
work=$(mktemp -d "${TMPDIR:-/tmp}/tracemalloc-demo.XXXXXX")
cd "$work"

headline() {
    printf '\n=== %s\n\n' "$*"
}

# Runs GDB with the arguments on the commands of standard input, each shown as typed. What GDB says of the machine
# rather than of the program is left out.
session() {
    sed -e 's/.*/echo \\n(gdb) &\\n\n&/' >session.gdb
    gdb -nx -q -batch -x "$top/gdb/libtracemalloc-gdb.py" \
        -ex "set print thread-events off" -ex "set width 0" -ex "set breakpoint pending on" \
        -x session.gdb "$@" >session.log 2>&1 || true
    show session.log
    if grep -q '^Error\|Error in sourced command file' session.log; then
        echo "demo: a command failed, see above" >&2
        exit 1
    fi
}

show() {
    grep -v -e '^warning: ' -e '^\[Thread debugging using' -e '^Using host libthread_db' \
        -e '^Function "[a-z0-9_]*" not defined' -e '^\[New LWP' -e '^\[Switching to' -e '^\[Current thread is' "$1"
}

headline "A server of ours that grows. Which lines hold the memory, and which of them grow?"
session "$build/examples/server" <<EOF
set environment LD_PRELOAD $library
set environment TRACEMALLOC 25
break requests_served
run
tm-info
tm-stats lineno
tm-snapshot save a.snap
continue
tm-compare a.snap
tm-traceback last_unsent
generate-core-file server.core
tm-stats lineno
kill
EOF

headline "The same from the core alone: no process, no server running."
session "$build/examples/server" server.core <<EOF
tm-stats lineno
tm-compare a.snap lineno -limit 3
EOF

headline "A program that nobody here wrote: the system's sqlite3, preloaded, stopped amid its script."
session sqlite3 <<EOF
set environment LD_PRELOAD $library
set environment TRACEMALLOC 25
break sqlite3_finalize
ignore 1 12
run :memory: < $top/examples/rows.sql
tm-info
tm-stats lineno -limit 5
tm-stats traceback -limit 2
generate-core-file sqlite3.core
kill
EOF

headline "And from sqlite3's core."
session "$(command -v sqlite3)" sqlite3.core <<EOF
tm-stats lineno -limit 5
EOF

printf '\nSnapshots and cores are in %s\n' "$work"
