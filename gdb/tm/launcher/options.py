"""options.py: the command line taken apart: one parser for each command, errors in one line."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn, Sequence

from ..export import FORMATS
from ..model import KEY_TYPES
from .failure import USAGE, Failure

STATUSES = """\
exit status:
  0    done
  1    done, but there is nothing to show: no block is left, nothing changed
  2    the command line is wrong
  3    what was named cannot be read: it is missing or damaged, may not be
       looked at, has no tracemalloc runtime in it, or is not tracing
  4    GDB, which processes and cores need, is missing or failed
  130  interrupted by Ctrl-C
  run: the program's own; 125 if it cannot be traced, 126 if it cannot be
       executed, 127 if there is none of that name"""

OVERVIEW = f"""\
usage: tracemalloc COMMAND [ARGUMENT]...

Who holds the memory of a C program? Runs programs with the tracing library
preloaded, and asks processes, cores and saved snapshots.

commands:
  run       run a program traced
  stats     who holds the memory, grouped by where it was allocated
  compare   what grew and what shrank between two moments
  traces    the live blocks one by one
  info      what the tracer, or a snapshot, says of itself
  snapshot  keep the live blocks of a process or a core in a file
  export    write the live blocks for other tools
  gdb       GDB with the tm- commands loaded

  tracemalloc COMMAND --help   explains a command, with examples
  tracemalloc --version        tells the version

{STATUSES}
"""

_TARGET = "PID, CORE or SNAP: a process's number, a core file, or a snapshot file"

_VIEW_NOTE = """\
-limit, -cumulative, -all-frames and -domain may be written with one dash as in
GDB. By line, file and function a block counts for the innermost frame that is
no wrapper of malloc.
"""


class Parser(argparse.ArgumentParser):
    """An error is one line and no usage."""

    def error(self, message: str) -> NoReturn:
        raise Failure(f"{message.replace('argument ', '', 1)}; see {self.prog} --help", USAGE)


def parser(command: str, summary: str, *examples: str, more: str = "") -> Parser:
    shown = "examples:\n" + "".join(f"  {example}\n" for example in examples)
    return Parser(prog=f"tracemalloc {command}", description=summary, epilog=f"{more}\n{shown}".strip() + "\n",
                  formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)


def _count(text: str) -> int:
    """A number of rows; 0 for all."""
    if text == "unlimited":
        return 0
    return number(text)


def number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text} is no number")
    return int(text)


def _frames(text: str) -> int:
    if not 1 <= number(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} frames: give 1 to 65535")
    return int(text)


def add_tools(to: Parser) -> None:
    """How processes and cores are looked at."""
    group = to.add_argument_group("for processes and cores")
    group.add_argument("--program", metavar="FILE", default="",
                       help="the program's file, where it is not the one that the core or the process names")
    group.add_argument("--sysroot", metavar="DIR", default="",
                       help="where the files of the machine lie that the core is from")
    group.add_argument("--gdb", metavar="GDB", default="gdb", help="the GDB to use (%(default)s)")


def add_view(to: Parser, has_limit: bool = True) -> None:
    """Which blocks, and how many rows."""
    group = to.add_argument_group("what is shown")
    if has_limit:
        group.add_argument("--limit", metavar="N", type=_count,
                           help="print N rows; 0 or unlimited for all. 10, and all with --json, unless given")
    group.add_argument("--include", metavar="PATTERN[:LINE]", action="append", default=[],
                       help="only blocks from such files, as server.c, net/*.c or server.c:59; may be given again")
    group.add_argument("--exclude", metavar="PATTERN[:LINE]", action="append", default=[],
                       help="no blocks from such files; may be given again")
    group.add_argument("--all-frames", action="store_true",
                       help="patterns match any frame of a traceback, not only the innermost")
    group.add_argument("--domain", metavar="D", help="only blocks of that domain, by its number or name")
    group.add_argument("--wrappers", metavar="PATTERNS",
                       help="functions, files and modules that allocate for callers, as 'default pool_get'; "
                            "none for none at all; only the default ones unless given")
    if has_limit:
        group.add_argument("--json", action="store_true", help="print JSON, sizes in bytes")


def add_grouping(to: Parser) -> None:
    to.add_argument("grouping", metavar="GROUPING", nargs="?", choices=KEY_TYPES, default="lineno",
                    help=f"one of {', '.join(KEY_TYPES)} (lineno)")
    to.add_argument("--cumulative", action="store_true",
                    help="count a block at every frame of its traceback, not only where it was allocated")


def run_parser() -> Parser:
    made = parser(
        "run", "Run a program traced: its process, its streams and its exit status are the program's own.",
        "tracemalloc run ./server --port 8080",
        "tracemalloc run -o held.snap ./server; tracemalloc stats held.snap",
        "tracemalloc run -o '/var/tmp/%e.%p.snap' --interval 60 -- make -j4",
        "tracemalloc run -o /var/tmp/server.snap --signal USR2 ./server",
        more="""\
Snapshots are named by a pattern: %p is the process, %e the program's name, %t
the time in seconds since 1970, %n the number of the snapshot in its process
from 1, %% a percent sign. A file of that name is replaced, whole or not at
all. Without %p only the process that was started writes; its children, and a
server that goes into the background is one, write only with %p. (In their
environment %{PID} is added to the pattern: that process alone writes.)

At exit what is still held is written, after the program's and its libraries'
destructors. A program that ends by a signal (abort, a crash, kill), or by
_exit as some shells do, writes nothing then; a core of it has the blocks.
A signal is taken only if the program has no use for it. A signal or an
interval needs one thread in the program, which writes; it takes no signals.

Programs that the program executes are traced, too; --no-children keeps them
out, and what it becomes by exec. Copies of itself by fork go on tracing.
Programs that are setuid cannot be traced, nor those that are linked
statically, but with the library in them (pkg-config --static).

In the environment, for programs that are started otherwise:
  LD_PRELOAD=.../libtracemalloc.so  the library (tracemalloc run sets it)
  TRACEMALLOC=25                    frames of each traceback; starts tracing
  TRACEMALLOC_SNAPSHOT=PATTERN      as -o; a relative one is meant from the
                                    directory where the program starts
  TRACEMALLOC_SIGNAL=USR2           as --signal
  TRACEMALLOC_INTERVAL=60           as --interval
  TRACEMALLOC_CHILDREN=0            as --no-children

exit status: the program's own; 125 if it cannot be traced, 126 if it cannot
be executed, 127 if there is none of that name
""")
    made.usage = "tracemalloc run [OPTION]... [--] PROGRAM [ARGUMENT]..."
    made.add_argument("-n", "--frames", metavar="FRAMES", type=_frames, default=25,
                      help="keep up to so many frames of each traceback (%(default)s)")
    made.add_argument("-o", "--output", metavar="SNAPSHOT", help="write a snapshot at exit")
    made.add_argument("--signal", metavar="SIGNAL", help="also whenever that signal comes: USR1, USR2, HUP, QUIT, ...")
    made.add_argument("--interval", metavar="SECONDS", type=number, help="also every so many seconds")
    made.add_argument("--no-children", dest="children", action="store_false",
                      help="do not trace the programs that it executes")
    made.add_argument("words", metavar="PROGRAM [ARGUMENT]...", nargs=argparse.REMAINDER, help="what to run")
    return made


def stats_parser() -> Parser:
    made = parser("stats", "Who holds the memory: the live blocks, grouped by where they were allocated.",
                  "tracemalloc stats 4711", "tracemalloc stats server.core traceback --limit 3",
                  "tracemalloc stats a.snap filename --cumulative --exclude 'libcrypto.so*'",
                  "tracemalloc stats a.snap --json | jq '.rows[] | [.size, .filename, .lineno]'", more=_VIEW_NOTE)
    made.usage = "tracemalloc stats PID|CORE|SNAP [GROUPING] [OPTION]..."
    made.add_argument("target", metavar="PID|CORE|SNAP", help=_TARGET)
    add_grouping(made)
    add_view(made)
    add_tools(made)
    return made


def compare_parser() -> Parser:
    made = parser("compare", "What grew and what shrank: the greatest change of size comes first.",
                  "tracemalloc compare a.snap b.snap", "tracemalloc compare a.snap 4711 --limit 3",
                  "tracemalloc compare yesterday.core 4711 function", more=_VIEW_NOTE)
    made.usage = "tracemalloc compare OLD NEW [GROUPING] [OPTION]..."
    made.add_argument("old", metavar="OLD", help=_TARGET)
    made.add_argument("new", metavar="NEW", help="likewise")
    add_grouping(made)
    add_view(made)
    add_tools(made)
    return made


def traces_parser() -> Parser:
    made = parser("traces", "The live blocks one by one: address, size, and where each was allocated.",
                  "tracemalloc traces 4711 --limit 20", "tracemalloc traces server.core --sort address --site 12",
                  more="A snapshot has its blocks' addresses if the program wrote it, or if it was saved with "
                       "--addresses.\n-limit, -all-frames, -domain, -sort and -site may be written with one dash as in "
                       "GDB.\n")
    made.usage = "tracemalloc traces PID|CORE|SNAP [OPTION]..."
    made.add_argument("target", metavar="PID|CORE|SNAP", help=_TARGET)
    made.add_argument("--sort", metavar="KEY", choices=("size", "address", "site", "domain"), default="size",
                      help="order by size (largest first), address, site or domain")
    made.add_argument("--site", metavar="N", type=number, help="only blocks from that site, as the table numbers them")
    add_view(made)
    add_tools(made)
    return made


def info_parser() -> Parser:
    made = parser("info", "What the tracer in a process or a core says of itself, or what a snapshot holds.",
                  "tracemalloc info 4711", "tracemalloc info a.snap --json")
    made.usage = "tracemalloc info PID|CORE|SNAP [OPTION]..."
    made.add_argument("target", metavar="PID|CORE|SNAP", help=_TARGET)
    made.add_argument("--json", action="store_true", help="print JSON, sizes in bytes")
    add_tools(made)
    return made


def snapshot_parser() -> Parser:
    made = parser("snapshot", "Keep the live blocks of a process or a core in a file. A process stops meanwhile.",
                  "tracemalloc snapshot 4711 a.snap", "tracemalloc snapshot server.core core.snap",
                  more="The file is written whole or not at all; one of that name is replaced. Reading\n"
                       "it needs neither the program nor GDB. Of a snapshot that a program wrote\n"
                       "itself, a copy has the names in it.\n")
    made.usage = "tracemalloc snapshot PID|CORE|SNAP FILE [OPTION]..."
    made.add_argument("target", metavar="PID|CORE|SNAP", help=_TARGET)
    made.add_argument("file", metavar="FILE", help="the file to write")
    made.add_argument("--addresses", action="store_true", help="keep the blocks' addresses as well, for traces")
    add_tools(made)
    return made


def export_parser() -> Parser:
    made = parser("export", "Write the live blocks with their tracebacks to a file that other tools read.",
                  "tracemalloc export pprof a.snap heap.pb.gz", "tracemalloc export folded 4711 heap.txt",
                  more="formats:\n" + "".join(f"  {name:8}{form.purpose}\n" for name, form in FORMATS.items()))
    made.usage = "tracemalloc export FORMAT PID|CORE|SNAP FILE [OPTION]..."
    made.add_argument("format", metavar="FORMAT", choices=tuple(FORMATS), help=f"one of {', '.join(FORMATS)}")
    made.add_argument("target", metavar="PID|CORE|SNAP", help=_TARGET)
    made.add_argument("file", metavar="FILE", help="the file to write")
    add_view(made, has_limit=False)
    add_tools(made)
    return made


def gdb_parser() -> Parser:
    made = parser("gdb", "GDB with the tm- commands, on a process, a core, or a program that it starts traced.",
                  "tracemalloc gdb 4711", "tracemalloc gdb server.core", "tracemalloc gdb -- ./server --port 8080",
                  more="A program is started by GDB's `run`, with the library preloaded into it and nothing else.\n")
    made.usage = "tracemalloc gdb [OPTION]... PID|CORE\n       tracemalloc gdb [OPTION]... -- PROGRAM [ARGUMENT]..."
    made.add_argument("-n", "--frames", metavar="FRAMES", type=_frames, default=25,
                      help="for a program: keep up to so many frames of each traceback (%(default)s)")
    made.add_argument("target", metavar="PID|CORE", nargs="?", help="a process's number or a core file")
    add_tools(made)
    return made


# Long options that GDB's commands spell with one dash.
_GDB_SPELLED = ("limit", "cumulative", "all-frames", "domain", "sort", "site")


def parse(made: Parser, words: Sequence[str]) -> Any:
    """The options and operands, in any order; behind `--` only operands."""
    end = list(words).index("--") if "--" in words else len(words)
    spelled = [f"-{word}" if word[:1] == "-" and word[1:].partition("=")[0] in _GDB_SPELLED else word
               for word in words[:end]]
    # What begins with a hyphen there is a file: so it is one for whoever reads the word later, too.
    operands = [f"./{word}" if word.startswith("-") else word for word in words[end + 1:]]
    return made.parse_intermixed_args(spelled + operands)
