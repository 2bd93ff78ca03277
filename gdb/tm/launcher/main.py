"""main.py: `tracemalloc COMMAND …`: what each command does, and how it ends."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Any, Callable, NoReturn, Sequence

from .failure import CANNOT_RUN, EMPTY, UNREADABLE, USAGE, Failure

_DOOR = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
                     "libtracemalloc-gdb.py")
_LIMIT = 10


class Program:
    """What was built or installed together."""

    def __init__(self, library: str, version: str) -> None:
        self.runtime = library
        self.version = version


def main(words: Sequence[str], program: Program) -> NoReturn:
    """Does what the command line asks for, and exits."""
    name = words[0] if words else ""
    # A name need not be in the terminal's encoding, which is no reason to end here.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    status = _status(name, lambda: _dispatch(name, words[1:], program))
    sys.exit(_status(name, sys.stdout.flush) or status)


def _status(name: str, work: Callable[[], int | None]) -> int:
    """Lets `work` be done; what goes wrong becomes one line and a status."""
    try:
        return work() or 0
    except Failure as failure:
        _complain(name, str(failure))
        return CANNOT_RUN if name == "run" and failure.status == USAGE else failure.status
    except KeyboardInterrupt:
        # As a program ends that Ctrl-C kills: a shell's loop then ends, too.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _forget_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _forget_output()
        place = f"{error.filename}: " if error.filename else ""
        _complain(name, f"{place}{error.strerror or error}")
        return UNREADABLE
    except (ValueError, RuntimeError) as error:
        _complain(name, str(error))
        return UNREADABLE
    except MemoryError:
        _complain(name, "there is not enough memory for this")
        return UNREADABLE


def _forget_output() -> None:
    """What could not be written: Python would try once more at exit, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _complain(name: str, text: str) -> None:
    where = f"tracemalloc {name}" if name in _COMMANDS else "tracemalloc"
    print(f"{where}: {' '.join(text.split())}", file=sys.stderr)


def _dispatch(name: str, words: Sequence[str], program: Program) -> int:
    if name in ("-h", "--help", "help"):
        from .options import OVERVIEW
        print(OVERVIEW, end="")
        return 0
    if name in ("-V", "--version", "version"):
        print(f"tracemalloc for C {program.version}")
        return 0
    if not name:
        raise Failure(f"a command is missing: {', '.join(_COMMANDS)}; see tracemalloc --help", USAGE)
    if name != "run" and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if name not in _COMMANDS:
        raise Failure(f"unknown command {name}: use {', '.join(_COMMANDS)}; see tracemalloc --help", USAGE)
    return _COMMANDS[name](words, program)


def _run(words: Sequence[str], program: Program) -> NoReturn:
    from .options import run_parser
    from .run import Tracing, run
    given = run_parser().parse_args(list(words))
    command = given.words[1:] if given.words[:1] == ["--"] else given.words
    if not command:
        raise Failure("a program is missing, as in tracemalloc run ./server", USAGE)
    if given.output is None and (given.signal is not None or given.interval is not None):
        raise Failure("--signal and --interval say when to write a snapshot: -o names the file", USAGE)
    run(command, program.runtime,
        Tracing(given.frames, given.output, given.signal, given.interval, given.children))


def _tools(given: Any) -> Any:
    from .targets import Tools
    if given.program and not os.path.isfile(given.program):
        raise Failure(f"--program {given.program}: no such file", UNREADABLE)
    if given.sysroot and not os.path.isdir(given.sysroot):
        raise Failure(f"--sysroot {given.sysroot}: no such directory", UNREADABLE)
    return Tools(given.gdb, os.path.abspath(given.program) if given.program else "",
                 os.path.abspath(given.sysroot) if given.sysroot else "")


def _limit(given: Any) -> int | None:
    """How many rows; None for all."""
    if given.limit is None:
        return None if given.json else _LIMIT
    return given.limit or None


def _limit_words(given: Any) -> list[str]:
    return [] if given.limit is None else ["-limit", str(given.limit or "unlimited")]


def _prepare(taken: Any, given: Any) -> None:
    """The settings and filters that the command line gives."""
    from . import console
    console.use(taken)
    if given.wrappers is not None:
        console.set_parameter("tm wrappers", "" if given.wrappers == "none" else given.wrappers)
    more = (["-all-frames"] if given.all_frames else [])
    domain = ["-domain", given.domain] if given.domain is not None else []
    for action, patterns in (("include", given.include), ("exclude", given.exclude)):
        for pattern in patterns:
            console.run_quietly("tm-filter", [action, *_pattern_words(pattern), *more,
                                              *(domain if action == "include" else [])])
    if domain and not given.include:
        console.run_quietly("tm-filter", ["include", *domain])


def _pattern_words(pattern: str) -> list[str]:
    """`server.c:59` is a file and a line."""
    name, colon, line = pattern.rpartition(":")
    return [name, "-lineno", line] if colon and line.isdigit() else [pattern]


def _view(taken: Any, grouping: str, is_cumulative: bool = False) -> Any:
    from ..commands.view import look
    return look(taken.snapshot, grouping, is_cumulative)


def _stats(words: Sequence[str], program: Program) -> int:
    from . import console, tables
    from .options import parse, stats_parser
    from .targets import find, take
    given = parse(stats_parser(), words)
    _check_cumulative(given)
    taken = take(find(given.target), _tools(given))
    _prepare(taken, given)
    view = _view(taken, given.grouping, given.cumulative)
    if given.json:
        tables.show(tables.stats(taken, view, given.grouping, given.cumulative, _limit(given)))
        return _found(view)
    console.run("tm-stats", [given.grouping, *_cumulative_words(given), *_limit_words(given)])
    return _found(view)


def _found(view: Any) -> int:
    """The status, by whether any block is left."""
    return 0 if view.snapshot.rows.block_count else EMPTY


def _check_cumulative(given: Any) -> None:
    if given.cumulative and given.grouping in ("traceback", "domain"):
        raise Failure(f"--cumulative does not go with {given.grouping}, which counts each block once as it is", USAGE)


def _cumulative_words(given: Any) -> list[str]:
    return ["-cumulative"] if given.cumulative else []


def _compare(words: Sequence[str], program: Program) -> int:
    from . import console, tables
    from .options import compare_parser, parse
    from .targets import find, take
    given = parse(compare_parser(), words)
    _check_cumulative(given)
    tools = _tools(given)
    old, new = (take(target, tools) for target in [find(given.old), find(given.new)])
    _prepare(new, given)
    views = [_view(side, given.grouping, given.cumulative) for side in (old, new)]
    document = tables.comparison(old, new, views, given.grouping, given.cumulative, _limit(given))
    if given.json:
        tables.show(document)
    else:
        console.give_file(old)
        console.run("tm-compare", [old.name, given.grouping, *_cumulative_words(given), *_limit_words(given)])
    return 0 if document["changed"] else EMPTY


def _traces(words: Sequence[str], program: Program) -> int:
    from . import console, tables
    from .options import parse, traces_parser
    from .targets import find, take
    given = parse(traces_parser(), words)
    taken = take(find(given.target), _tools(given), with_addresses=True)
    if given.site is not None and given.site not in taken.sites:
        raise Failure(f"no live block is from site {given.site}: without --site, traces shows the numbers of those "
                      "that there are", USAGE)
    _prepare(taken, given)
    view = _view(taken, "lineno")
    chosen = {index for index in view.snapshot.rows.site_indexes if given.site in (None, taken.sites[index])}
    if given.json:
        from ..commands.traces import ORDERS
        listing = console.listing(taken, chosen)
        tables.show(tables.blocks(taken, listing, ORDERS[given.sort], _limit(given), view))
    else:
        site = [] if given.site is None else ["-site", str(given.site)]
        console.run("tm-traces", ["-sort", given.sort, *site, *_limit_words(given)])
    return 0 if chosen else EMPTY


def _info(words: Sequence[str], program: Program) -> int:
    from . import tables
    from .debugger import ask
    from .options import info_parser, parse
    from .targets import find, name_of, question, take, text_of
    given = parse(info_parser(), words)
    target, tools = find(given.target), _tools(given)
    if target.is_snapshot:
        taken = take(target, tools)
        document, text = tables.info(taken), tables.info_text(taken)
    else:
        answer = ask(tools.gdb, question(target, tools))
        document, text = tables.tracer(answer, name_of(target, answer), target.kind), text_of(target, answer)
    if given.json:
        tables.show(document)
    else:
        print(text)
    return 0


def _snapshot(words: Sequence[str], program: Program) -> int:
    from ..model import format_size
    from . import console
    from .options import parse, snapshot_parser
    from .targets import Taken, find, save
    given = parse(snapshot_parser(), words)
    saved = save(find(given.target), _tools(given), given.file, given.addresses)
    console.use(Taken(given.file, "snapshot", saved, ()))
    from ..commands.rows import count, notes
    size, blocks = saved.rows.sums()
    print(f"saved {given.file}: {count(blocks, 'block')}, {format_size(size, False)}, "
          f"from {count(len(saved.rows.sites), 'site')}; "
          f"the file has {format_size(os.path.getsize(given.file), False)}")
    notes(saved.notes)
    return 0 if blocks else EMPTY


def _export(words: Sequence[str], program: Program) -> int:
    from . import console
    from .options import export_parser, parse
    from .targets import find, take
    given = parse(export_parser(), words)
    taken = take(find(given.target), _tools(given))
    _prepare(taken, given)
    console.run("tm-export", [given.format, given.file])
    return _found(_view(taken, "traceback"))


def _gdb(words: Sequence[str], program: Program) -> NoReturn:
    from .debugger import clean_environment, find_gdb
    from .executable import find_program, is_to_be_preloaded
    from .options import gdb_parser
    from .run import Tracing, inherited_environment, traced
    from .targets import core_program, find
    split = list(words).index("--") if "--" in words else len(words)
    given, command = gdb_parser().parse_args(list(words[:split])), list(words[split + 1:])
    tools = _tools(given)
    if bool(given.target) == bool(command):
        raise Failure("give a process, a core, or a program behind --, as in tracemalloc gdb -- ./server", USAGE)
    arguments = [find_gdb(tools.gdb), "-iex", f"set sysroot {tools.sysroot}"] if tools.sysroot else [
        find_gdb(tools.gdb)]
    arguments += ["-x", _DOOR]
    if command:
        path = find_program(command[0], os.environ.get("PATH", os.defpath))
        library = program.runtime if is_to_be_preloaded(path, program.runtime) else None
        environment = traced(inherited_environment(), library, Tracing(given.frames))
        for name in ("LD_PRELOAD", "TRACEMALLOC"):
            if os.fsencode(name) in environment:
                arguments += ["-ex", f"set environment {name} {os.fsdecode(environment[os.fsencode(name)])}"]
        # A shell between would be traced as well.
        arguments += ["-ex", "set startup-with-shell off", "--args", path, *command[1:]]
    else:
        target = find(given.target)
        if target.is_snapshot:
            raise Failure(f"{given.target} is a snapshot, which GDB needs no process for: tracemalloc stats "
                          f"{given.target}", USAGE)
        if target.kind == "process":
            arguments += [*([tools.program] if tools.program else []), "-p", target.word]
        else:
            path = tools.program or core_program(target.word, tools.sysroot)
            arguments += [*([path] if path else []), "-c", target.word]
    os.execve(arguments[0], arguments, clean_environment())


_COMMANDS: dict[str, Callable[[Sequence[str], Program], int]] = {
    "run": _run, "stats": _stats, "compare": _compare, "traces": _traces, "info": _info, "snapshot": _snapshot,
    "export": _export, "gdb": _gdb}
