"""process.py: what GDB knows of the selected program: its memory, where its runtime lies, its modules, its threads.

The only file that asks GDB for memory. It never calls a function in the program.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from contextlib import contextmanager
from typing import Any, Iterator, NamedTuple

import gdb

from .holding import held
from .layout import MAGIC
from .memory import Unreadable, find, is_readable
from .runtime import holds_layout

_ADDRESS_END = 1 << 64
_SEARCHED_MAPPING_MAX = 64 << 20


# Where each inferior's tm_layout was last. Another program may have taken its place: it counts if it is still there.
_found_layouts: dict[int, int] = {}


class ProcessError(RuntimeError):
    """Why the selected program cannot be read, and what to do, in one sentence for the user."""


class Mapping(NamedTuple):
    start: int
    end: int
    offset: int  # in the file
    path: str    # empty for anonymous memory
    permissions: str | None  # as in "r-xp"; None where GDB does not say


class Process:
    """The selected program, stopped or a core. Valid until it runs on."""

    def __init__(self) -> None:
        """ProcessError if there is none, or it is running."""
        self._inferior = gdb.selected_inferior()
        threads = self._inferior.threads()
        if not threads:
            raise ProcessError("no process: `run` the program, `attach` to it, or open a core with `core-file`")
        running = sum(1 for thread in threads if thread.is_running())
        if running == len(threads):
            # While GDB evaluates a breakpoint's condition it still calls the thread that came there running.
            if _selected_frame() is None:
                raise ProcessError("the program is running: stop it first, with Ctrl-C or `interrupt`")
            running -= 1
        self.notes: list[str] = []
        if running:
            who = "1 thread is running: what it changes" if running == 1 else (f"{running} threads are running: what "
                                                                               "they change")
            self.notes.append(f"{who} meanwhile may be missing")
        self.pid: int = self._inferior.pid
        self.kind = self._find_kind()
        self.core = _core_path() if self.kind == "core" else None
        self._mappings: list[Mapping] | None = None
        self._starts: list[int] = []

    def _find_kind(self) -> str:
        """"core", "attached", "remote" or "live"."""
        connection = getattr(self._inferior, "connection", None)
        target = connection.type if connection else "core" if _core_path() else "native"
        if target == "core" or "remote" in target:
            return "core" if target == "core" else "remote"
        return "attached" if self._inferior.was_attached else "live"

    @property
    def program(self) -> str:
        """The path of the program's file as GDB or the kernel has it; "?" if neither knows."""
        filename = self._inferior.progspace.filename
        if filename:
            return str(filename)
        # Without the file, the kernel's list is left: the program is mapped lowest, or nearly so.
        return next((mapping.path for mapping in self.mappings() if mapping.path.startswith("/")), "?")

    @property
    def name(self) -> str:
        """What to call it in short."""
        program = self.program.rpartition("/")[2]
        return f"core {self.core or '?'} of {program}" if self.kind == "core" else f"process {self.pid} ({program})"

    def is_selected(self) -> bool:
        """Whether GDB's selected inferior is still this one."""
        return bool(gdb.selected_inferior().num == self._inferior.num)

    @contextmanager
    def selected(self) -> Iterator[None]:
        """Within it GDB reads this process and its symbols, whichever inferior the user has turned to since."""
        with selection_kept():
            _select(self._inferior)
            yield

    def description(self) -> str:
        """Its name, and how GDB came by it."""
        return self.name + {"core": f", process {self.pid}", "attached": ", attached", "remote": ", remote",
                            "live": ", started by GDB"}[self.kind]

    def read(self, address: int, length: int) -> memoryview:
        """A Read (memory.py) of the program's memory; `address` may be anything."""
        if address < 0 or address + length > _ADDRESS_END:
            raise Unreadable(address, length)
        if not length:
            return memoryview(b"")
        try:
            return memoryview(self._inferior.read_memory(address, length)).cast("B")
        except gdb.MemoryError:
            raise Unreadable(address, length) from None

    def find_layout(self) -> int:
        """The address of the runtime's tm_layout: by its symbol, else by its magic. ProcessError if it has none."""
        known = _found_layouts.get(self._inferior.num)
        if known is not None and holds_layout(self.read, known):
            return known
        address = _found_layouts[self._inferior.num] = self._look_for_layout()
        return address

    def _look_for_layout(self) -> int:
        address = symbol_address("tm_layout")
        if address is not None and self._is_magic_at(address):
            return address
        for address in find(self.read, MAGIC, self._ranges_to_search()):
            if holds_layout(self.read, address):
                return address
        if self.kind == "core":
            raise ProcessError(f"no tracemalloc runtime found in {self.description()}: the program ran without it, or "
                               "the core was cut short before it")
        hint = "" if self.mappings() else (". If it is there, GDB does not see it: lead GDB to the library's file, "
                                           "`set solib-search-path DIRECTORY`")
        raise ProcessError(f"no tracemalloc runtime in {self.description()}: preload it "
                           f"(`set environment LD_PRELOAD …/libtracemalloc.so`) or link with -ltracemalloc{hint}")

    def _is_magic_at(self, address: int) -> bool:
        try:
            return bytes(self.read(address, len(MAGIC))) == MAGIC
        except Unreadable:
            return False

    def _ranges_to_search(self) -> list[tuple[int, int]]:
        """Where a read-only copy of tm_layout may lie: the data of files, the smallest first."""
        ranges = [(mapping.start, mapping.end) for mapping in self.mappings()
                  if mapping.path.startswith("/") and "x" not in (mapping.permissions or "")
                  and mapping.end - mapping.start <= _SEARCHED_MAPPING_MAX and is_readable(self.read, mapping.start)]
        if not ranges:
            ranges = list(core_sections())
        return sorted(ranges, key=lambda one: one[1] - one[0])

    def mappings(self) -> list[Mapping]:
        """The mapped files, by address; empty where GDB cannot tell."""
        if self._mappings is None:
            self._mappings = sorted(_read_mappings())
            self._starts = [mapping.start for mapping in self._mappings]
        return self._mappings

    def mapping_at(self, address: int) -> Mapping | None:
        mappings = self.mappings()
        index = bisect_right(self._starts, address) - 1
        return mappings[index] if index >= 0 and address < mappings[index].end else None

    def is_replaying(self) -> bool:
        """Whether it is shown as it was at an earlier moment of a recording."""
        return "Replay " in _text_of("info record")

    def threads(self) -> list[Any]:
        """GDB's threads that are stopped, in the order of their numbers."""
        threads = sorted(self._inferior.threads(), key=lambda thread: int(thread.num))
        return [thread for thread in threads if not thread.is_running()]

    def module_at(self, address: int) -> str | None:
        """The file that is mapped there, None if there is none or GDB cannot tell."""
        mapping = self.mapping_at(address)
        return mapping.path if mapping else gdb.solib_name(address)


def _selected_frame() -> Any:
    """None where there is none: without a process, or where the selected thread runs."""
    try:
        return gdb.selected_frame()
    except gdb.error:
        return None


def _select(inferior: Any) -> None:
    threads = inferior.threads()
    if threads:
        threads[0].switch()
    else:
        gdb.execute(f"inferior {inferior.num}", to_string=True)


@contextmanager
def selection_kept() -> Iterator[None]:
    """Within it other threads, frames and inferiors may be selected."""
    inferior, thread, frame = gdb.selected_inferior(), gdb.selected_thread(), _selected_frame()
    try:
        yield
    finally:
        if thread is not None and thread.is_valid():
            thread.switch()
        elif gdb.selected_inferior().num != inferior.num:
            _select(inferior)
        if frame is not None and frame.is_valid():
            frame.select()


def symbol_address(name: str) -> int | None:
    """The address of a global symbol of the program; None if it has none of that name."""
    try:
        return int(in_c(f"(unsigned long long) &{name}"))
    except gdb.error:
        return None


def in_c(expression: str) -> gdb.Value:
    """The value of an expression in C, whatever language is set. gdb.error as by gdb.parse_and_eval."""
    with held("language", "c"):
        return gdb.parse_and_eval(expression)


def _core_path() -> str | None:
    match = re.search(r"core dump file:\s*[`'](.*)',", _text_of("info files"))
    return match[1] if match else None


def core_sections() -> Iterator[tuple[int, int]]:
    """The (start, end) of the memory that the core says it holds."""
    for match in re.finditer(r"0x([0-9a-f]+) - 0x([0-9a-f]+) is load", _text_of("info files")):
        yield int(match[1], 16), int(match[2], 16)


def _read_mappings() -> Iterator[Mapping]:
    line = re.compile(r"^\s*0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+)"
                      r"(?:[ \t]+([-r][-w][-x][-sp]))?(?:[ \t]+(\S.*?))?[ \t]*$", re.MULTILINE)
    for match in line.finditer(_text_of("info proc mappings")):
        yield Mapping(int(match[1], 16), int(match[2], 16), int(match[3], 16), match[5] or "", match[4])


def _text_of(command: str) -> str:
    """What a GDB command prints; empty if it fails."""
    try:
        return str(gdb.execute(command, to_string=True))
    except gdb.error:
        return ""
