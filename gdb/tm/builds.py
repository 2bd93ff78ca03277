"""builds.py: the build-ids of the modules that the stopped program has mapped, by the paths that frames have."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Sequence

import gdb

from .elf import ElfFile
from .layout import Module
from .process import Process

# The facts of a snapshot hold no more.
_UNLOADED_MAX = 4096


def build_ids(process: Process, module_of: Callable[[int], str | None], unloaded: Sequence[Module]) -> dict[str, str]:
    """In hexadecimal, by path. `module_of` tells what frames call the module at an address; `unloaded` are those that
    dlclose unloaded, oldest first. Modules without a build-id, or without a file at hand, are left out."""
    # GDB puts target: before what it reads through a remote stub.
    known = {os.path.realpath(objfile.filename.removeprefix("target:")): str(objfile.build_id)
             for objfile in gdb.objfiles() if objfile.owner is None and objfile.filename and objfile.build_id}
    found = {module.path: module.build_id.hex() for module in unloaded[-_UNLOADED_MAX:] if module.build_id}
    for path in _modules(process, module_of):
        build_id = known.get(os.path.realpath(path)) or _in_file(process, path)
        if build_id:
            found[path] = build_id
    return found


def _modules(process: Process, module_of: Callable[[int], str | None]) -> set[str]:
    """The paths of what is mapped as code, as far as GDB knows it."""
    names: dict[str, str] = {}
    for mapping in process.mappings():
        is_code = mapping.path.startswith("/") and "x" in (mapping.permissions or "x")
        # The program may call a file otherwise than the kernel does, which GDB knows of its sections, not of padding.
        if is_code and names.get(mapping.path, mapping.path) == mapping.path:
            names[mapping.path] = module_of((mapping.start + mapping.end) // 2) or mapping.path
    return set(names.values()) or {objfile.filename for objfile in gdb.objfiles() if objfile.filename}


def _in_file(process: Process, path: str) -> str:
    """What the file says that GDB did not load; of a program from elsewhere, the file here may be another."""
    return ElfFile(path).build_id.hex() if process.kind in ("live", "attached") else ""
