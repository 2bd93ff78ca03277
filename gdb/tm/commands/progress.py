"""progress.py: a line on standard error that tells a person who waits how long the command has taken so far.

It comes after a second, goes before the command prints anything, and never comes where nobody watches.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import Any, Iterator, cast

from . import terminal

_PATIENCE = 1.0  # seconds until it comes
_STEP = 0.5      # seconds until it is written anew
_STDERR = 2


@contextmanager
def shown(command: str) -> Iterator[None]:
    """For the work of a command on the main thread; what that prints goes through sys.stdout."""
    if not (os.isatty(_STDERR) and terminal.is_watched() and terminal.is_interactive()):
        yield
        return
    stdout: Any = sys.stdout
    line = _Line(command)
    sys.stdout = cast(Any, _Output(stdout, line))
    try:
        yield
    finally:
        sys.stdout = stdout
        line.end()


class _Line:
    """The line, written by a thread of its own: most of the work is in loops that know nothing of it."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._is_over = threading.Event()
        self._length = 0
        self._thread = threading.Thread(target=self._write, daemon=True)
        # The thread inherits the mask: GDB's signals are for its main thread.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _write(self) -> None:
        start = time.monotonic()
        while not self._is_over.wait(_STEP if self._length else _PATIENCE):
            text = f"{self._command}: {time.monotonic() - start:.0f} s, Ctrl-C stops it"
            os.write(_STDERR, f"\r{text}".encode())
            self._length = len(text)

    def end(self) -> None:
        """The line is gone, and does not come back."""
        self._is_over.set()
        self._thread.join()
        if self._length:
            os.write(_STDERR, b"\r" + b" " * self._length + b"\r")
            self._length = 0


class _Output:
    """GDB's sys.stdout, before which the line goes."""

    def __init__(self, stdout: Any, line: _Line) -> None:
        self._stdout = stdout
        self._line: _Line | None = line

    def write(self, text: str) -> Any:
        if self._line is not None:
            self._line.end()
            self._line = None
        return self._stdout.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)
