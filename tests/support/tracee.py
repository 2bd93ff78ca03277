"""tracee.py: a program under ptrace, without GDB: its memory is read and its instructions are stepped, fast.

For x86_64. The program stops itself by `int3`. Its addresses are the same in every run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Iterator, Mapping, NamedTuple, Sequence, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "gdb"))

from tm.memory import Unreadable  # noqa: E402

_ADDR_NO_RANDOMIZE = 0x0040000
_TRACEME, _PEEKUSER, _CONT, _SINGLESTEP = 0, 3, 7, 9
_RIP = 16 * 8  # in the kernel's struct user
_RANGES_MAX = 1024  # of one process_vm_readv

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long
_libc.process_vm_readv.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong,
                                   ctypes.c_ulong]
_libc.process_vm_readv.restype = ctypes.c_ssize_t


Self = TypeVar("Self", bound="Tracee")


class MappedFile(NamedTuple):
    start: int
    end: int
    permissions: str
    offset: int
    path: str


class Ranges:
    """Pieces of a process's memory that are read together, again and again."""

    def __init__(self, pid: int, ranges: Sequence[tuple[int, int]]) -> None:
        """(address, length) pairs."""
        self._pid = pid
        self._buffer = ctypes.create_string_buffer(sum(length for _, length in ranges))
        self._groups = [(b"".join(struct.pack("QQ", *one) for one in ranges[first:first + _RANGES_MAX]),
                         len(ranges[first:first + _RANGES_MAX]),
                         sum(length for _, length in ranges[first:first + _RANGES_MAX]))
                        for first in range(0, len(ranges), _RANGES_MAX)]

    def read(self) -> bytes:
        """All of them, one behind the other."""
        done = 0
        for remote, count, length in self._groups:
            local = struct.pack("QQ", ctypes.addressof(self._buffer) + done, length)
            if _libc.process_vm_readv(self._pid, local, 1, remote, count, 0) != length:
                raise Unreadable(0, length, "what was read before")
            done += length
        return self._buffer.raw


def read_memory(pid: int, address: int, length: int) -> bytes:
    """A Read (tm/memory.py) of a process."""
    if address < 0 or address + length > 1 << 64:
        raise Unreadable(address, length)
    buffer = ctypes.create_string_buffer(length)
    local = struct.pack("QQ", ctypes.addressof(buffer), length)
    remote = struct.pack("QQ", address, length)
    if _libc.process_vm_readv(pid, local, 1, remote, 1, 0) != length:
        raise Unreadable(address, length)
    return buffer.raw


def mapped_files(pid: int) -> Iterator[MappedFile]:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        place, permissions, offset, _, _, *path = line.split(maxsplit=5)
        start, end = place.split("-")
        yield MappedFile(int(start, 16), int(end, 16), permissions, int(offset, 16), path[0] if path else "")


def symbols(path: Path) -> dict[str, tuple[int, int]]:
    """(address, size) of the symbols of a program that is linked to a fixed address."""
    table = subprocess.run(["nm", "-S", str(path)], stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = [row.split() for row in table.splitlines()]
    return {row[3]: (int(row[0], 16), int(row[1], 16)) for row in rows if len(row) == 4}


class Tracee:
    """The program, stopped, until it is told to go on."""

    def __init__(self, arguments: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        words = [os.fspath(argument) for argument in arguments]
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _libc.personality(_ADDR_NO_RANDOMIZE)
                _libc.ptrace(_TRACEME, 0, None, None)
                os.execve(words[0], words, dict(environment))
            finally:
                os._exit(127)
        self._wait()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def read(self, address: int, length: int) -> bytes:
        return read_memory(self.pid, address, length)

    def word(self, address: int) -> int:
        return int(struct.unpack("Q", self.read(address, 8))[0])

    def string(self, address: int) -> str:
        text = b""
        while b"\0" not in text:
            text += self.read(address + len(text), 1)
        return text[:-1].decode()

    def pc(self) -> int:
        return int(_libc.ptrace(_PEEKUSER, self.pid, _RIP, None)) & (1 << 64) - 1

    def step(self) -> None:
        """One instruction."""
        self._resume(_SINGLESTEP)
        if not self._wait():
            raise RuntimeError("the program ended while it was stepped")

    def go(self) -> bool:
        """To its next `int3`; False if the program ended well instead."""
        self._resume(_CONT)
        return self._wait()

    def _resume(self, how: int) -> None:
        if _libc.ptrace(how, self.pid, None, None) == -1:
            raise OSError(ctypes.get_errno(), "ptrace")

    def _wait(self) -> bool:
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTRAP:
            return True
        if os.WIFSTOPPED(status):
            raise RuntimeError(f"the program got {signal.Signals(os.WSTOPSIG(status)).name} at {self.pc():#x}")
        self.pid = 0
        if status != 0:
            raise RuntimeError(f"the program ended with status {status:#x}")
        return False
