"""stacks.py: from the program counters of a walked stack to its frames: the rules that need no GDB.

A raw frame is (filename, lineno, function, module, pc). Where there is no line information, lineno is 0 and filename
names the place as glibc prints it: `libc.so.6(getdelim+0x15a)`. In a module that was unloaded it reads
`libplugin.so(func+0x1a) [unloaded]`.
"""

from __future__ import annotations

import os.path
from typing import NamedTuple, Sequence

from . import model
from .elf import ElfFile
from .layout import ADDRESS_MASK, Module, Site

RawFrame = tuple[str, int, "str | None", "str | None", int]
Frames = tuple[RawFrame, ...]

SIGNAL_FRAME = "<signal handler called>"

# By the name that GDB gives the architecture's family: the code that a signal handler returns to.
TRAMPOLINES = {
    "i386:x86-64": (bytes.fromhex("48c7c00f0000000f05"),),
    "aarch64": (bytes.fromhex("681180d2010000d4"),),
    "i386": (bytes.fromhex("58b877000000cd80"), bytes.fromhex("b8ad000000cd80")),
}
# What follows the call of a thread's start function in clone and clone3: exit(result).
THREAD_EXITS = {
    "i386:x86-64": (bytes.fromhex("4889c7b83c0000000f05"), bytes.fromhex("89c7b83c0000000f05")),
}
# Who calls main, and who the start functions of threads.
_MAIN_CALLERS = frozenset(("__libc_start_main", "__libc_start_main_impl", "__libc_start_call_main",
                           "generic_start_main"))
_OUTER = frozenset(("_start", "start_thread", "clone", "__clone", "clone3", "__clone3")) | _MAIN_CALLERS


class Line(NamedTuple):
    """A frame as far as line information knows it."""

    filename: str
    lineno: int
    function: str | None


class Place(NamedTuple):
    """The frames of one program counter, innermost first: inlined functions have frames of their own."""

    frames: Frames
    is_trampoline: bool  # the next program counter was interrupted, not called from


class Stacks:
    """Frames of sites. A subclass knows what lies at a program counter."""

    def place(self, pc: int, unloads: int, was_interrupted: bool) -> Place:
        """The place of `pc`, which may be anything, in what was mapped after that many unloads.

        `was_interrupted`: pc is where a signal came, not a return address, which lies behind the call.
        """
        raise NotImplementedError

    def is_thread_exit(self, pc: int) -> bool:
        """Whether the code at `pc`, which may be anything, ends a thread."""
        raise NotImplementedError

    def innermost(self, site: Site) -> RawFrame | None:
        """The frame that called the allocator; None for a site without frames."""
        return self.place(site.pcs[0], site.unloads, False).frames[0] if site.pcs else None

    def frames(self, site: Site) -> tuple[Frames, int | None]:
        """The frames up to main or the thread's start function, most recent first, and how deep the stack was:
        None where the walk was cut before these."""
        places: list[Place] = []
        was_interrupted = False
        for pc in site.pcs:
            place = self.place(pc, site.unloads, was_interrupted)
            was_interrupted = place.is_trampoline
            places.append(place)
        kept = self._without_outer(places)
        frames = tuple(frame for place in places[:kept] for frame in place.frames)
        is_whole = not site.is_cut or kept < len(places) or _holds_main(places[kept - 1:])
        return frames, len(frames) if is_whole else None

    def _without_outer(self, places: list[Place]) -> int:
        """How many places remain without those beyond main or a thread's start function; at least one, if any."""
        for count in range(len(places), 0, -1):
            if _holds_main(places[count - 1:count]):
                return count
        count = next((index for index, place in enumerate(places) if index and _function(place) in _MAIN_CALLERS),
                     0) or self._without_thread_start(places)
        # libc's own caller of main or of the start function may have no name.
        if 1 < count < len(places):
            last, beyond = places[count - 1].frames[-1], places[count].frames[-1]
            if last[2] is None and last[3] is not None and last[3] == beyond[3]:
                count -= 1
        return count

    def _without_thread_start(self, places: list[Place]) -> int:
        """How many places remain without the outermost ones that are libc's."""
        count = len(places)
        # On some architectures clone goes on under this name, which is many a program's own as well.
        if count > 1 and _function(places[-1]) == "thread_start":
            count -= 1
        while count > 1 and self._is_outer(places[count - 1]):
            count -= 1
            if _function(places[count]) == "start_thread":
                break  # what it calls is the program's, whatever its name
        return count

    def _is_outer(self, place: Place) -> bool:
        return _function(place) in _OUTER or self.is_thread_exit(place.frames[-1][4])


def _function(place: Place) -> str | None:
    """The function that has a frame of its own, not one inlined in it."""
    return place.frames[-1][2]


def _holds_main(places: Sequence[Place]) -> bool:
    return any(frame[2] == "main" for place in places for frame in place.frames)


def signal_place(pc: int, module: str | None) -> Place:
    """The place of code that a signal handler returns to."""
    return Place(((SIGNAL_FRAME, 0, None, module, pc),), True)


def bare_frame(pc: int, module: str | None, function: str | None, offset: int | None) -> RawFrame:
    """The frame where there is no line information: `offset` counts from the function's start, without a function
    from the file's own address 0, and is None where that is not known."""
    if module is None:
        return f"[{pc:#x}]", 0, None, None, pc
    place = f"({function or ''}+{offset:#x})" if offset is not None else f"() [{pc:#x}]"
    return os.path.basename(module) + place, 0, function, module, pc


def unloaded_place(pc: int, module: Module, file: ElfFile, was_interrupted: bool) -> Place:
    """The place of `pc` in a module that is not mapped any more; `file` is the module's."""
    before = 0 if was_interrupted else 1
    address = pc - module.bias & ADDRESS_MASK
    found = file.function_at(address - before)
    function, offset = (found[0], found[1] + before) if found else (None, address)
    filename = bare_frame(pc, module.path, function, offset)[0]
    return Place(((f"{filename} [unloaded]", 0, function, module.path, pc),), False)


def without_parameters(name: str) -> str:
    """As GDB's bt prints C++ functions: `ns::f(int) const` is `ns::f`."""
    end = name.rfind(")")
    if end < 0 or name[end + 1:] not in ("", " const", " volatile", " &", " &&", " const &", " [clone .cold]"):
        return name
    depth = 0
    for position in range(end, -1, -1):
        depth += {")": 1, "(": -1}.get(name[position], 0)
        if depth == 0:
            without = name[:position]
            return name if not without or without.endswith("operator") else _without_result(without)
    return name


def _without_result(name: str) -> str:
    """As GDB's bt prints templates, whose symbols begin with the type of the result: `void f<int>` is `f<int>`."""
    start = depth = 0
    for position, character in enumerate(name):
        depth = max(0, depth + {"<": 1, "(": 1, ">": -1, ")": -1}.get(character, 0))
        if depth == 0 and name.startswith("operator", position):
            break
        if depth == 0 and character == " ":
            start = position + 1
    return name[start:]


class SiteTable:
    """The sites of one snapshot, symbolised when asked for."""

    def __init__(self, stacks: Stacks, sites: Sequence[Site]) -> None:
        self._stacks = stacks
        self._sites = sites
        self._frames: dict[int, tuple[Frames, int | None]] = {}

    def lazy_sites(self) -> list[LazySite]:
        return [LazySite(self, number, site.domain) for number, site in enumerate(self._sites)]

    def innermost(self, number: int) -> RawFrame | None:
        known = self._frames.get(number)
        if known is None:
            return self._stacks.innermost(self._sites[number])
        return known[0][0] if known[0] else None

    def frames(self, number: int) -> tuple[Frames, int | None]:
        known = self._frames.get(number)
        if known is None:
            known = self._frames[number] = self._stacks.frames(self._sites[number])
        return known

    def finish(self) -> None:
        for number in range(len(self._sites)):
            self.frames(number)


class LazySite(model.Site):
    """A site whose frames are looked up when they are asked for."""

    __slots__ = ("_table", "_number")

    def __init__(self, table: SiteTable, number: int, domain: int) -> None:
        super().__init__(domain, (), None)
        self._table = table
        self._number = number

    @property
    def frames(self) -> Frames:
        return self._table.frames(self._number)[0]

    @property
    def innermost(self) -> RawFrame | None:
        return self._table.innermost(self._number)

    @property
    def total_nframe(self) -> int | None:
        return self._table.frames(self._number)[1]
