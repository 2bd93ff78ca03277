"""executable.py: finds the program to run as execvp would, and how the library gets into it, or why not."""

from __future__ import annotations

import mmap
import os
import shlex
import stat
import struct
from typing import NamedTuple

from ..layout import MAGIC
from .failure import CANNOT_RUN, NOT_FOUND, NOT_RUNNABLE, Failure

_PT_INTERP = 3
_INTERPRETERS = 4  # how many scripts the kernel follows


class _Kind(NamedTuple):
    """What must be alike in a program and a library."""

    bits: int
    order: str
    machine: int

    def __str__(self) -> str:
        names = {3: "i386", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "riscv"}
        return f"{self.bits}-bit {names.get(self.machine, f'machine {self.machine}')}"


def find_program(name: str, search: str) -> str:
    """The path of the program `name`; `search` is the PATH. Failure if there is none that can be executed."""
    if "/" in name:
        candidates = [name]
    else:
        candidates = [os.path.join(directory or ".", name) for directory in search.split(":")]
        candidates = [path for path in candidates if not os.path.isdir(path)]
    there = [path for path in candidates if os.path.exists(path)]
    if not there:
        raise Failure(f"{name}: no such program" if "/" in name else f"{name}: no such program in PATH", NOT_FOUND)
    for path in there:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    what = "a directory, not a program" if os.path.isdir(there[0]) else "not executable"
    raise Failure(f"{there[0]}: {what}", NOT_RUNNABLE)


def is_to_be_preloaded(path: str, library: str) -> bool:
    """Whether the loader is to put `library` into the program at `path`, or into a script's interpreter.

    Not if it is linked statically and has the library in it; Failure if there is no way for the library.
    """
    program = path
    for _ in range(_INTERPRETERS):
        _refuse_privileges(program)
        try:
            with open(program, "rb") as file:
                start = file.read(256)
        except PermissionError:
            return True  # it may be executed all the same
        if not start.startswith(b"#!"):
            break
        words = start[2:].partition(b"\n")[0].split()
        if not words or not os.path.exists(words[0]):
            named = words[0].decode(errors="replace") if words else "none"
            raise Failure(f"{program}: its interpreter does not exist: {named}", NOT_RUNNABLE)
        program = os.fsdecode(words[0])
    if not start.startswith(b"\x7fELF"):
        return True  # the kernel or execvp knows what to do, mostly a shell
    own, its = _kind(library, CANNOT_RUN), _kind(program, NOT_RUNNABLE)
    if own != its:
        raise Failure(f"{program} is a {its} program and the library is {own}: it cannot be preloaded; build "
                      f"tracemalloc for {its}", CANNOT_RUN)
    if _has_loader(program):
        return True
    if not _has_runtime(program):
        raise Failure(f"{program} is linked statically: nothing can be preloaded into it; link it dynamically, or the "
                      "library into it (pkg-config --static --libs tracemalloc)", CANNOT_RUN)
    return False


def _refuse_privileges(path: str) -> None:
    status = os.stat(path)
    bits = [name for bit, name, own in ((stat.S_ISUID, "setuid", status.st_uid == os.geteuid() == os.getuid()),
                                        (stat.S_ISGID, "setgid", status.st_gid == os.getegid() == os.getgid()))
            if status.st_mode & bit and not own]
    if bits:
        raise Failure(f"{path} is {bits[0]}: the system preloads nothing into it; its owner ({_owner(status)}) can "
                      "trace it", CANNOT_RUN)
    if "security.capability" in _attributes(path) and os.geteuid() != 0:
        raise Failure(f"{path} has file capabilities: the system preloads nothing into it; trace a copy without them "
                      f"(cp {shlex.quote(path)} .), or as root", CANNOT_RUN)


def _owner(status: os.stat_result) -> str:
    return f"uid {status.st_uid}" if status.st_mode & stat.S_ISUID else f"gid {status.st_gid}"


def _attributes(path: str) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError:
        return []


def _header(path: str, status: int) -> tuple[bytes, _Kind]:
    """Failure with that status if the file is cut short."""
    with open(path, "rb") as file:
        header = file.read(64)
    is_64 = header[4:5] == b"\x02"
    if len(header) < (64 if is_64 else 52) or not header.startswith(b"\x7fELF"):
        raise Failure(f"{path}: not a whole ELF file", status)
    order = ">" if header[5] == 2 else "<"
    machine, = struct.unpack_from(order + "H", header, 18)
    return header, _Kind(64 if is_64 else 32, order, machine)


def _kind(path: str, status: int) -> _Kind:
    return _header(path, status)[1]


def _has_loader(path: str) -> bool:
    """Whether the program names a loader, PT_INTERP."""
    header, kind = _header(path, NOT_RUNNABLE)
    is_64 = kind.bits == 64
    table, = struct.unpack_from(kind.order + ("Q" if is_64 else "I"), header, 32 if is_64 else 28)
    size, count = struct.unpack_from(kind.order + "HH", header, 54 if is_64 else 42)
    # The kernel takes no other sizes either.
    if table + size * count > os.path.getsize(path) or size != (56 if is_64 else 32):
        raise Failure(f"{path}: not a whole ELF file", NOT_RUNNABLE)
    with open(path, "rb") as file:
        file.seek(table)
        entries = file.read(size * count)
    types = [struct.unpack_from(kind.order + "I", entries, place)[0] for place in range(0, size * count, size)]
    return _PT_INTERP in types or _is_loader(path)


def _has_runtime(path: str) -> bool:
    """Whether what a debugger looks for is in the file. A stripped one has no symbols."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(MAGIC) >= 0


def _is_loader(path: str) -> bool:
    """The loader itself, called by name, loads what it is told to, preloaded libraries included."""
    name = os.path.basename(os.path.realpath(path))
    return name.startswith(("ld-", "ld.so"))
