"""terminal.py: GDB on a terminal of its own, as a person has it: what is typed, and what is on the screen then."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
import unittest
from pathlib import Path
from typing import Mapping

from support import DOOR, TIMEOUT, new_directory

PROMPT = "(gdb) "
PAGER = "--Type <RET> for more"
# What readline and GDB write that is no text and no color.
_CONTROL = re.compile(r"\x1b\[\?[0-9;]*[hl]|\x1b\[[0-9]*[A-KPX]|[\x07\x08]|\x1b\]0;.*?\x07")
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def need_terminal() -> None:
    """Skips the test where the system has none to give."""
    try:
        for descriptor in pty.openpty():
            os.close(descriptor)
    except OSError as error:
        raise unittest.SkipTest(f"no terminal can be had here: {error}") from None


class Terminal:
    """Ends with its `with`."""

    def __init__(self, *arguments: str | Path, rows: int = 200, columns: int = 100, directory: Path | None = None,
                 environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory or new_directory()
        need_terminal()
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            self._become_gdb([str(one) for one in arguments], rows, columns, environment or {})
        self.start = self.wait_for(PROMPT)

    def _become_gdb(self, arguments: list[str], rows: int, columns: int, environment: Mapping[str, str]) -> None:
        try:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.chdir(self.directory)
            names = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
            os.execvpe("gdb", ["gdb", "-nx", "-q", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off",
                               "-x", str(DOOR), *arguments], {**names, "TERM": "xterm", **environment})
        finally:
            os._exit(127)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._fd)

    def raw(self, text: str) -> str:
        """As type, with all that is sent to the terminal."""
        os.write(self._fd, (text + "\n").encode())
        return self._wait_for(PROMPT).partition("\r\n")[2]

    def interrupted(self, text: str, when: str) -> str:
        """As type, with Ctrl-C as soon as `when` is on the screen."""
        os.write(self._fd, (text + "\n").encode())
        shown = self._wait_for(when, is_end=False)
        os.write(self._fd, b"\x03")
        return plain(shown + self._wait_for(PROMPT)).replace("\r\n", "\n").partition("\n")[2]

    def type(self, text: str, until: str = PROMPT, enter: bool = True) -> str:
        """What comes on the screen behind the typed line, up to where GDB waits again."""
        os.write(self._fd, (text + ("\n" if enter else "")).encode())
        shown = self.wait_for(until)
        _, _, answer = shown.partition("\r\n")
        return (answer if enter else shown).replace("\r", "").removesuffix(until)

    def tab(self, text: str, times: int = 1) -> str:
        """The line as it is when Tab was typed behind `text`; it is then thrown away."""
        os.write(self._fd, text.encode() + b"\t" * times)
        time.sleep(0.1)
        os.write(self._fd, b"#end\n")  # a comment: GDB does nothing
        shown = self.wait_for(PROMPT)
        return shown.partition("#end")[0].replace("\r", "")

    def wait_for(self, end: str) -> str:
        """What is shown up to `end`, where nothing more comes."""
        return _CONTROL.sub("", self._wait_for(end))

    def _wait_for(self, end: str, is_end: bool = True) -> str:
        shown = ""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            if select.select([self._fd], [], [], 0.05)[0]:
                try:
                    shown += os.read(self._fd, 1 << 16).decode(errors="replace")
                except OSError:
                    break
            elif plain(shown).endswith(end) or end == PAGER and PAGER in plain(shown).rpartition("\n")[2]:
                return shown
            if not is_end and end in shown:
                return shown
        raise AssertionError(f"no {end!r} in: {shown!r}")


def plain(text: str) -> str:
    """Without its styles."""
    return _STYLE.sub("", _CONTROL.sub("", text))
