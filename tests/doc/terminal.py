"""terminal.py: a shell on a terminal of its own, and in it GDB, typed at line by line as a user would.

The shell takes its commands from a pipe, so that what it runs has the terminal to itself.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unittest
from pathlib import Path
from typing import Mapping

_SHELL_IS_READY = "<shell is ready>"
GDB_IS_READY = "<gdb is ready>"
_COLUMNS, _LINES = 120, 1000
_LOOP = f"""
status=0
eval "exec 9<&$1 $1<&-"
while IFS= read -r -d '' -u 9 command; do
    eval "(exit $status)
$command" 9<&-
    status=$?
    printf '%s' '{_SHELL_IS_READY}'
done
"""
_ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>])")


class Stuck(Exception):
    """A command did not come to its end."""


class Terminal:
    """Context manager: nothing that was started in it outlives it."""

    def __init__(self, directory: Path, environment: Mapping[str, str], timeout: float) -> None:
        self._timeout = timeout
        try:
            self._terminal, slave = pty.openpty()
        except OSError as error:
            raise unittest.SkipTest(f"no terminal can be had here: {error}") from None
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.ONLCR
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        commands, self._commands = os.pipe()
        name = os.ttyname(slave)

        def become_leader() -> None:
            os.setsid()
            os.close(os.open(name, os.O_RDWR))  # the first terminal that a session's leader opens is its own

        self._shell = subprocess.Popen(["bash", "--norc", "-c", _LOOP, "bash", str(commands)], cwd=directory,
                                       env=dict(environment), stdin=slave, stdout=slave, stderr=slave,
                                       pass_fds=[commands], preexec_fn=become_leader)
        os.close(slave)
        os.close(commands)
        self.in_gdb = False

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._commands)
        self._end_session()
        os.close(self._terminal)
        self._shell.wait()

    def _end_session(self) -> None:
        """Ends all that was started in this terminal: the processes of the shell's session."""
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.getsid(int(entry.name)) == self._shell.pid:
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue

    def shell(self, command: str) -> list[str]:
        """What is printed until the shell, or a GDB that it started, waits for the next command."""
        if self.in_gdb:
            self.gdb("quit")
        os.write(self._commands, command.encode() + b"\0")
        return self._until_ready(command)

    def gdb(self, command: str) -> list[str]:
        """What is printed until GDB waits for the next command, or has ended."""
        if not self.in_gdb:
            raise Stuck(f"no GDB runs for: {command}")
        os.write(self._terminal, command.encode() + b"\n")
        return self._until_ready(command)

    def _until_ready(self, command: str) -> list[str]:
        until = time.monotonic() + self._timeout
        printed = b""
        while True:
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, until - time.monotonic()))
            try:
                piece = os.read(self._terminal, 1 << 16) if ready else b""
            except OSError:
                piece = b""
            if not piece:
                raise Stuck(f"{command}: did not come to its end; it printed\n{printed.decode(errors='replace')}")
            printed += piece
            for mark, in_gdb in ((_SHELL_IS_READY, False), (GDB_IS_READY, True)):
                if printed.endswith(mark.encode()):
                    self.in_gdb = in_gdb
                    return _visible(printed[:-len(mark)].decode(errors="replace"))


def _visible(text: str) -> list[str]:
    """The lines that stay on a screen: what a carriage return goes back to is written over."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for piece in line.split("\r"):
            cleared = "\x1b[K" in piece or "\x1b[2K" in piece
            piece = _ESCAPE.sub("", piece)
            shown = piece + ("" if cleared else shown[len(piece):])
        lines.append(shown.rstrip())
    while lines and not lines[-1]:
        lines.pop()
    return lines
