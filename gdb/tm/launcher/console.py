"""console.py: the commands of the GDB console in plain python3, on a snapshot: `tracemalloc stats` is tm-stats.

Where there is no GDB, a stand-in for its module answers what the commands ask of it: their settings, how words are
taken apart, how wide the terminal is. What they read is a snapshot in place of a program. So both print the same.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
import types
from array import array
from typing import Any, Callable, Sequence

from ..model import Snapshot
from .failure import UNREADABLE, USAGE, Failure
from .targets import Taken


class _Error(RuntimeError):
    """gdb.error."""


class _GdbError(Exception):
    """gdb.GdbError."""


class _Command:
    """gdb.Command: remembered by its name."""

    def __init__(self, name: str, *_classes: Any) -> None:
        _commands[name] = self

    def dont_repeat(self) -> None:
        """Nothing is ever repeated."""


class _Parameter:
    """gdb.Parameter: remembered by its name."""

    value: Any = None

    def __init__(self, name: str, *_classes: Any) -> None:
        _parameters[name] = self


class _Nothing:
    """An object of GDB's that nobody needs here: whatever is asked of it, it is nothing, too."""

    def __getattr__(self, name: str) -> _Nothing:
        return self

    def __call__(self, *_arguments: Any) -> _Nothing:
        return self


class _Gdb(types.ModuleType):
    """The module gdb. Without a program: what needs one fails with gdb.error."""

    VERSION = "none"
    error = _Error
    GdbError = _GdbError
    MemoryError = _Error
    Command = _Command
    Parameter = _Parameter
    Function = _Command
    events = _Nothing()

    def __getattr__(self, name: str) -> Any:
        if re.match("(COMMAND|COMPLETE|PARAM|TYPE_CODE|STDOUT|STDERR|STDLOG)(_|$)", name):
            return 0
        raise AttributeError(f"module 'gdb' has no attribute {name!r}")

    @staticmethod
    def string_to_argv(text: str) -> list[str]:
        return shlex.split(text)

    @staticmethod
    def parameter(name: str) -> Any:
        if name in _parameters:
            return _parameters[name].value
        if name in ("style enabled", "confirm"):
            return False
        raise _Error(f"there is no setting {name} without GDB")

    @staticmethod
    def execute(command: str, *_arguments: Any, **_options: Any) -> str:
        raise _Error(f"{command} needs GDB")

    @staticmethod
    def write(text: str, _stream: int = 0) -> None:
        print(text, end="")

    @staticmethod
    def flush(_stream: int = 0) -> None:
        sys.stdout.flush()


_commands: dict[str, Any] = {}
_parameters: dict[str, Any] = {}
_taken: Taken | None = None


class _Process:
    """What the commands ask of a Process: what to call it."""

    def __init__(self, taken: Taken) -> None:
        self.name = taken.name
        self.kind = taken.kind
        self.pid = taken.snapshot.info.get("pid", 0)
        self.program = str(taken.snapshot.info.get("program", ""))
        self.notes: list[str] = []

    def description(self) -> str:
        return described(self.name, self.kind, self.program)


def described(name: str, kind: str, program: str) -> str:
    """`a.snap (server)`; a process's or core's name says its program itself."""
    return f"{name} ({os.path.basename(program)})" if kind == "snapshot" and program else name


class _Site:
    """What the commands ask of a runtime's site: its number and domain."""

    def __init__(self, number: int, domain: int) -> None:
        self.number = number
        self.domain = domain


class _SnapshotReader:
    """A Reader (reader.py) of a snapshot."""

    def __init__(self) -> None:
        assert _taken is not None
        self.process = _Process(_taken)
        self.is_tracing = True
        self.notes = list(_taken.snapshot.notes)
        self._taken = _taken

    def take_snapshot(self, with_addresses: bool = True) -> Snapshot:
        return self._taken.snapshot

    def survey(self, with_addresses: bool = False) -> Any:
        from ..reader import Survey
        snapshot = self._taken.snapshot
        sites: Sequence[Any] = [_Site(number, site.domain)
                                for number, site in zip(self._taken.sites, snapshot.rows.sites)]
        return Survey(snapshot, sites, range(len(sites)))

    def blocks(self, survey: Any, site_indexes: Sequence[int]) -> Any:
        """Of each block its address; its row stands for its entry."""
        from ..reader import Kind, Listing
        rows, chosen = self._taken.snapshot.rows, set(site_indexes)
        every = rows.addresses()
        if every is None:
            raise Failure(f"{self.process.name} has no addresses: save it with `tracemalloc snapshot --addresses`, or "
                          "let the program write it", UNREADABLE)
        starts = rows.starts()
        addresses, entries, kinds = array("Q"), array("Q"), {}
        for row, site_index in enumerate(rows.site_indexes):
            if site_index in chosen:
                addresses.extend(every[starts[row]:starts[row + 1]])
                entries.extend([row] * rows.counts[row])
                kinds[row] = Kind(rows.sizes[row], rows.sites[site_index].domain, site_index)
        return Listing(addresses, entries, kinds)


def use(taken: Taken) -> None:
    """The snapshot that the commands read from now on."""
    global _taken
    _taken = taken
    if "gdb" not in sys.modules:
        sys.modules["gdb"] = _Gdb("gdb")
        from .. import reader
        from ..commands import register, terminal
        setattr(reader, "Reader", _SnapshotReader)
        setattr(terminal, "width", _width)
        register()


def _width() -> int | None:
    """What terminal.py would find, which does not know that the output is collected here first."""
    return shutil.get_terminal_size().columns if os.isatty(1) else None


def run(command: str, words: Sequence[str]) -> None:
    """Lets a command do its work and print. Failure in its words."""
    print(_translated(_output_of(command, words)), end="")


def _output_of(command: str, words: Sequence[str]) -> str:
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            _commands[command].run(" ".join(map(shlex.quote, words)))
    except _GdbError as error:
        raise Failure(_in_our_words(str(error)), USAGE) from None
    return output.getvalue()


def run_quietly(command: str, words: Sequence[str]) -> None:
    """As run, without what it prints."""
    _output_of(command, words)


def set_parameter(name: str, value: Any) -> None:
    """`set NAME VALUE`."""
    parameter = _parameters[name]
    parameter.value = value
    try:
        parameter.get_set_string()
    except _GdbError as error:
        raise Failure(_in_our_words(str(error)), USAGE) from None


def _with_wrapper(pattern: str) -> str:
    """What --wrappers is given for those that hold and one more."""
    return " ".join(filter(None, (_parameters["tm wrappers"].value, pattern)))


# What GDB's users are told to type, as patterns, and ours.
_HINTS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r" \(show tm wrappers\)", " (--wrappers)"),
    (r" \(tm-filter list\)", ""),
    (r": tm-stats traceback, or -cumulative, shows", ": grouping by traceback, or --cumulative, shows"),
    (r"([:;]) set tm wrappers add (\S+) counts for",
     lambda match: f"{match[1]} --wrappers {shlex.quote(_with_wrapper(match[2]))} counts for"),
    (r"tm-stats (domain|filename) (shows|has)", r"stats by \1 \2"),
    (r"tm-filter (include|exclude)", r"--\1"),
)


def _translated(text: str) -> str:
    for theirs, ours in _HINTS:
        text = re.sub(theirs, ours, text)
    return text


def _in_our_words(error: str) -> str:
    """The commands speak of options as GDB spells them, with one dash."""
    return " ".join(re.sub(r"(?<![\w-])-(?=[a-z]{3})", "--", _translated(error)).split())


def give_file(taken: Taken) -> None:
    """Lets the commands find this snapshot under its name, as if it were a file."""
    load = Snapshot.load

    def found(filename: str | os.PathLike[str]) -> Snapshot:
        return taken.snapshot if filename == os.path.expanduser(taken.name) else load(filename)

    setattr(Snapshot, "load", staticmethod(found))


def listing(taken: Taken, site_indexes: set[int]) -> Any:
    """The blocks from those sites, as reader.py lists them."""
    reader = _SnapshotReader()
    return reader.blocks(reader.survey(), list(site_indexes))
