"""targets.py: what PID|CORE|SNAP on the command line names, and the snapshot of it."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from typing import Any, NamedTuple, Sequence

from ..elf import ElfFile
from ..model import Snapshot
from ..snapfile import SnapshotError
from .corefile import CoreFile, is_core, is_elf
from .debugger import ask
from .failure import UNREADABLE, USAGE, Failure

_SNAPSHOT_MAGIC = b"\x89tmsnap"
_COMPRESSED = {b"\x28\xb5\x2f\xfd": "zstd -d", b"\x04\x22\x4d\x18": "lz4 -d", b"\xfd7zXZ": "xz -d",
               b"\x1f\x8b": "gunzip"}


class Tools(NamedTuple):
    """What the user says of how to look at processes and cores."""

    gdb: str = "gdb"
    program: str = ""
    sysroot: str = ""


class Target(NamedTuple):
    """What is looked at."""

    word: str
    kind: str  # "process", "core" or "snapshot"

    @property
    def is_snapshot(self) -> bool:
        return self.kind == "snapshot"


class Taken(NamedTuple):
    """A snapshot, by whichever way it came."""

    name: str  # what to call it in short
    kind: str
    snapshot: Snapshot
    sites: Sequence[int]  # the number of each of its sites, as users see it


def find(word: str) -> Target:
    """Failure, in one line, where the word names nothing that can be looked at."""
    if word.isascii() and word.isdigit() and not os.path.exists(word):
        if not os.path.isdir(f"/proc/{int(word)}"):
            raise Failure(f"there is no process {word}, nor a file of that name", UNREADABLE)
        return Target(word, "process")
    try:
        return Target(word, _kind_of_file(word))
    except OSError as error:
        raise Failure(f"{word}: {error.strerror}", UNREADABLE) from None


def _kind_of_file(path: str) -> str:
    if not os.path.isfile(path):
        os.stat(path)
        raise Failure(f"{path}: neither a core nor a snapshot, for it is no regular file", UNREADABLE)
    with open(path, "rb") as file:
        start = file.read(16)
    if start.startswith(_SNAPSHOT_MAGIC):
        return "snapshot"
    if is_core(path):
        return "core"
    if is_elf(path):
        raise Failure(f"{path} is a program, not a process, a core or a snapshot: tracemalloc run {shlex.quote(path)}",
                      USAGE)
    for magic, tool in _COMPRESSED.items():
        if start.startswith(magic):
            raise Failure(f"{path} is compressed: unpack it first, with {tool}", UNREADABLE)
    raise Failure(f"{path} is neither a core nor a snapshot of tracemalloc for C", UNREADABLE)


def question(target: Target, tools: Tools) -> dict[str, Any]:
    """What gdbside.py needs to open a process or a core."""
    if target.kind == "process":
        return {"pid": int(target.word), "program": tools.program, "sysroot": tools.sysroot}
    program = tools.program or core_program(target.word, tools.sysroot)
    return {"core": os.path.abspath(target.word), "program": os.path.abspath(program) if program else "",
            "sysroot": tools.sysroot}


def core_program(core: str, sysroot: str) -> str:
    """The file of the program that the core is of, said on stderr; empty if there is none: then names are missing."""
    found = CoreFile(core)
    if not found.program:
        name = f" of {found.command}" if found.command else ""
        _say(f"{core}{name} does not tell its program's file: names may be missing; give it with --program")
        return ""
    path = os.path.join(sysroot, found.program.lstrip("/")) if sysroot else found.program
    problem = ElfFile(path, found.build_id).problem
    if problem:
        _say(f"{core} is of {path}, which cannot be used: {problem}; names may be missing; --program names another")
        return ""
    _say(f"{core} is of {path}")
    return path


def _say(line: str) -> None:
    print(f"tracemalloc: {line}", file=sys.stderr)


def take(target: Target, tools: Tools, with_addresses: bool = False) -> Taken:
    """The target's snapshot; a process is stopped for the time that it takes."""
    if target.is_snapshot:
        snapshot = load(target.word)
        return Taken(target.word, target.kind, snapshot, range(len(snapshot.rows.sites)))
    with tempfile.TemporaryDirectory(prefix="tracemalloc-") as directory:
        path = os.path.join(directory, "now.snap")
        answer = ask(tools.gdb, {**question(target, tools), "save": path, "addresses": with_addresses})
        return Taken(name_of(target, answer), target.kind, load(path), answer["sites"])


def name_of(target: Target, answer: dict[str, Any]) -> str:
    """What GDB's side calls it; a core by the name that the user gave it."""
    return str(answer["name"]).replace(os.path.abspath(target.word), target.word, 1)


def text_of(target: Target, answer: dict[str, Any]) -> str:
    """What GDB's side printed, with the target as the user named it."""
    return str(answer["text"]).rstrip("\n").replace(os.path.abspath(target.word), target.word)


def save(target: Target, tools: Tools, path: str, with_addresses: bool) -> Snapshot:
    """Keeps the target's snapshot in a file; returns what the file then holds."""
    if target.is_snapshot:
        load(target.word).dump(path)
        return load(path)
    ask(tools.gdb, {**question(target, tools), "save": os.path.abspath(path), "addresses": with_addresses})
    return load(path)


def load(path: str) -> Snapshot:
    try:
        return Snapshot.load(path)
    except SnapshotError as error:
        raise Failure(str(error), UNREADABLE) from None
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", UNREADABLE) from None
