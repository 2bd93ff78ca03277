"""symbols.py: program counters of the stopped program -> frames with function, file and line, as GDB knows them.

How a frame reads is stacks.py's matter.
"""

from __future__ import annotations

import os.path
import re
import struct
import weakref
from contextlib import suppress
from typing import Any, Iterator, Sequence

import gdb

from . import stacks
from .elf import ElfFile
from .holding import held
from .layout import Module, Site
from .memory import Unreadable
from .process import Process
from .stacks import (Frames, Line, Place, RawFrame, Stacks, bare_frame, signal_place, unloaded_place,
                     without_parameters)

__all__ = ["Frames", "SiteTable", "Symbolizer", "lines_at", "minimal_symbol", "source_file"]

# What the kernel calls mappings of no file, where code may be written but has no name.
_NO_FILES = frozenset(("", "[heap]", "[stack]"))


class _Known:
    """What was found out so far, good as long as the same files are mapped at the same addresses."""

    def __init__(self, signature: tuple[Any, ...]) -> None:
        self.signature = signature
        self.places: dict[tuple[int, bool], Place] = {}
        self.filenames: dict[tuple[str, str], str] = {}
        self.symtabs: dict[str, Any] = {}
        self.elf_files: dict[tuple[str, bytes], ElfFile] = {}


_known = _Known(())


def source_file(filename: str) -> str:
    """Where the source of a frame's file lies on this machine, GDB's `directory` and `substitute-path` obeyed."""
    symtab = _known.symtabs.get(filename)
    if os.path.exists(filename) or symtab is None or not symtab.is_valid():
        return filename
    return str(symtab.fullname())


def known_files() -> set[str]:
    """The names, without directories, of the source files in which frames were found so far."""
    return {os.path.basename(path) for path in _known.symtabs}


class Symbolizer(Stacks):
    """Frames of one stopped program. Valid until it runs on."""

    def __init__(self, process: Process, unloaded: Sequence[Module]) -> None:
        """`unloaded`: the modules that dlclose unloaded, oldest first."""
        self.process = process
        self._unloaded = unloaded
        self._biases: dict[int, int] = {}
        self._unloaded_places: dict[tuple[int, int, bool], Place | None] = {}
        architecture = gdb.selected_inferior().architecture().name()
        self._trampolines = stacks.TRAMPOLINES.get(architecture, ())
        self._thread_exits = stacks.THREAD_EXITS.get(architecture, ())
        self._known = _current_knowledge()

    def is_thread_exit(self, pc: int) -> bool:
        return self._has_code(pc, self._thread_exits)

    def _has_code(self, pc: int, codes: Sequence[bytes]) -> bool:
        """Whether one of these instruction sequences lies at `pc`, which may be anything."""
        try:
            return any(bytes(self.process.read(pc, len(code))) == code for code in codes)
        except Unreadable:
            return False

    def place(self, pc: int, unloads: int, was_interrupted: bool) -> Place:
        if self._unloaded:
            key = pc, unloads, was_interrupted
            if key not in self._unloaded_places:
                self._unloaded_places[key] = self._find_unloaded_place(pc, unloads, was_interrupted)
            unloaded = self._unloaded_places[key]
            if unloaded is not None:
                return unloaded
        place = self._known.places.get((pc, was_interrupted))
        if place is None:
            place = self._known.places[pc, was_interrupted] = self._find_place(pc, was_interrupted)
        return place

    def _find_unloaded_place(self, pc: int, unloads: int, was_interrupted: bool) -> Place | None:
        """The place in the module that lay there when the site was made; None if that is none of the unloaded."""
        module = next((module for module in self._unloaded
                       if module.start <= pc < module.end and unloads <= module.unload), None)
        if module is None:
            return None
        key = module.path, module.build_id
        elf_file = self._known.elf_files.get(key)
        if elf_file is None:
            elf_file = self._known.elf_files[key] = ElfFile(*key)
        return unloaded_place(pc, module, elf_file, was_interrupted)

    def _find_place(self, pc: int, was_interrupted: bool) -> Place:
        if not _is_within_function(pc) and self._has_code(pc, self._trampolines):
            return signal_place(pc, self.module_of(pc))
        looked_up = pc if was_interrupted else max(pc - 1, 0)
        module = self.module_of(looked_up)
        lines = lines_at(looked_up)
        if not lines:
            return Place((self._bare_frame(pc, looked_up, module),), False)
        return Place(tuple((*line, module, pc) for line in lines), False)

    def _bare_frame(self, pc: int, looked_up: int, module: str | None) -> RawFrame:
        """The frame where there is no line information; pc may be garbage."""
        function, offset = minimal_symbol(looked_up)
        if module is None or function is not None:
            return bare_frame(pc, module, function, offset + pc - looked_up)
        bias = self._bias_of(looked_up)
        return bare_frame(pc, module, None, None if bias is None else pc - bias)

    def module_of(self, pc: int) -> str | None:
        """The file that is mapped at `pc`, which may be anything: as the program names it, else as the kernel does."""
        name: str | None = gdb.solib_name(pc)
        if name and os.path.isabs(name):
            return name
        mapping = self.process.mapping_at(pc)
        if mapping is not None and mapping.path not in _NO_FILES:
            return mapping.path
        if name or self.process.mappings() or not gdb.find_pc_line(pc).symtab:
            return name
        return self.process.program

    def _bias_of(self, pc: int) -> int | None:
        """What to subtract from `pc` for its address in its file; None if it cannot be told."""
        at_pc = self.process.mapping_at(pc)
        if at_pc is None:
            return None
        first = next((mapping for mapping in reversed(self.process.mappings())
                      if mapping.path == at_pc.path and mapping.offset == 0 and mapping.start <= pc), None)
        if first is None:
            return None
        if first.start not in self._biases:
            self._biases[first.start] = 0 if self._is_fixed(first.start) else first.start
        return self._biases[first.start]

    def _is_fixed(self, start: int) -> bool:
        """Whether the file that is mapped at `start` lies where it says itself."""
        try:
            kind, = struct.unpack_from("=H", self.process.read(start, 18), 16)
        except Unreadable:
            return False
        return kind in (2, 0x0200)  # ET_EXEC in either byte order


def lines_at(pc: int) -> list[Line]:
    """What line information tells of the code at `pc`, innermost function first; nothing where there is none."""
    place = gdb.find_pc_line(pc)
    if place.symtab is None or not place.line:
        return []
    filename, lineno = _filename(place.symtab), place.line
    functions = list(_functions_at(pc))
    if not functions:
        return [Line(filename, lineno, minimal_symbol(pc)[0])]
    lines = []
    for number, symbol in enumerate(functions):
        lines.append(Line(filename, lineno, without_parameters(str(symbol.name))))
        # GDB's symbol of an inlined function has the file and line of the call, 0 where these are unknown.
        if number + 1 < len(functions):
            filename, lineno = _filename(symbol.symtab or functions[number + 1].symtab), symbol.line
    return lines


def _filename(symtab: Any) -> str:
    """The whole path of a source file, as far as its debug information tells it."""
    key = symtab.objfile.filename, symtab.filename
    filename = _known.filenames.get(key)
    if filename is None:
        filename = _known.filenames[key] = os.path.normpath(_path_of(symtab))
        _known.symtabs[filename] = symtab
    return filename


def _path_of(symtab: Any) -> str:
    if os.path.isabs(symtab.filename):
        return str(symtab.filename)
    # GDB alone knows the compilation directory. It looks for the file there, but must not fetch it from elsewhere.
    try:
        gdb.parameter("debuginfod enabled")
    except RuntimeError:
        return _absolute(symtab)
    with held("debuginfod enabled", "off"):
        return _absolute(symtab)


def _absolute(symtab: Any) -> str:
    fullname = str(symtab.fullname())
    return fullname if os.path.isabs(fullname) else str(symtab.filename)


def _functions_at(pc: int) -> Iterator[Any]:
    """The symbols of the functions whose code lies at `pc`, innermost first; all but the last are inlined."""
    try:
        block = gdb.block_for_pc(pc)
    except RuntimeError:
        return
    # A nested function's outer block is its parent's, whose code lies elsewhere.
    while block is not None and not block.is_static and not block.is_global and block.start <= pc < block.end:
        if block.function is not None:
            yield block.function
        block = block.superblock


def _is_within_function(pc: int) -> bool:
    """Whether a function that debug information knows began before `pc` and goes on there."""
    try:
        block = gdb.block_for_pc(pc)
    except RuntimeError:
        return False
    while block is not None and not block.is_static and not block.is_global:
        if block.function is not None and block.start < pc < block.end:
            return True
        block = block.superblock
    return False


def minimal_symbol(pc: int) -> tuple[str | None, int]:
    """(function, offset in it) by the linker's symbols; (None, 0) where there is none."""
    try:
        text = str(gdb.execute(f"info symbol {pc:#x}", to_string=True))
    except gdb.error:
        return None, 0
    # With `set trace-commands on` GDB puts the command itself before its answer.
    match = re.search(r"^(?!\++info symbol)(.+?)(?: \+ (\d+))? in section ", text, re.MULTILINE)
    if match is None:
        return None, 0
    return without_parameters(match[1]).partition("@")[0], int(match[2] or 0)


def _current_knowledge() -> _Known:
    """Starts afresh when another program, file or address may stand behind a program counter."""
    global _known
    inferior = gdb.selected_inferior()
    objfiles = tuple(objfile.filename for objfile in gdb.objfiles())
    signature = inferior.num, inferior.pid, objfiles, gdb.execute("info sharedlibrary", to_string=True)
    if signature != _known.signature:
        _known = _Known(signature)
    return _known


class SiteTable(stacks.SiteTable):
    """As its base; what was not asked for is symbolised when the program runs on or ends. Until then it is the
    program's own symbols that are asked, also while another inferior is selected."""

    def __init__(self, symbolizer: Symbolizer, sites: Sequence[Site]) -> None:
        super().__init__(symbolizer, sites)
        self.process = symbolizer.process
        _unfinished.add(self)

    def innermost(self, number: int) -> RawFrame | None:
        if self.process.is_selected():
            return super().innermost(number)
        with self.process.selected():
            return super().innermost(number)

    def frames(self, number: int) -> tuple[Frames, int | None]:
        if number in self._frames or self.process.is_selected():
            return super().frames(number)
        with self.process.selected():
            return super().frames(number)


_unfinished: weakref.WeakSet[SiteTable] = weakref.WeakSet()


def _finish_all(_event: Any) -> None:
    """The selected program runs on or is gone: a snapshot that somebody keeps must not be symbolised with what is
    mapped later."""
    for table in list(_unfinished):
        if table.process.is_selected():
            _unfinished.discard(table)
            # What GDB cannot look up now stays for later, which is better than an error that nobody asked for.
            with suppress(RuntimeError):
                table.finish()


gdb.events.cont.connect(_finish_all)
gdb.events.exited.connect(_finish_all)
