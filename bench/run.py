"""run.py: runs one program, within limits of time and memory, and says how long it took and what it printed."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import IO

_LOOK_EVERY = 0.2  # seconds between looks at the memory of what runs
_PAGE = resource.getpagesize()


@dataclass(frozen=True)
class Limits:
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Outcome:
    """`problem` is empty when all went well."""

    seconds: float
    output: str
    problem: str


def run(argv: list[str], environment: dict[str, str], limits: Limits) -> Outcome:
    """The environment is added to this process's own. The end is waited for by a pidfd: Popen.wait with a timeout
    polls, which shows in the seconds."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
        start = time.perf_counter()
        process = subprocess.Popen(argv, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=error, start_new_session=True)
        try:
            exceeded = _watch(process.pid, start, limits)
            seconds = time.perf_counter() - start
        finally:
            _end(process)
        return Outcome(seconds, _text(output), exceeded or _failure(process.returncode, _text(error)))


def _watch(pid: int, start: float, limits: Limits) -> str:
    """Returns when the process has ended, or with what it had too much of."""
    descriptor = os.pidfd_open(pid)
    try:
        while not select.select([descriptor], [], [], _LOOK_EVERY)[0]:
            if time.perf_counter() - start > limits.seconds:
                return f"took more than {limits.seconds:.0f} s"
            if _resident(pid) > limits.bytes:
                return f"took more than {limits.bytes / 2 ** 30:.1f} GiB"
    finally:
        os.close(descriptor)
    return ""


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever is left of the session that the process began."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _failure(status: int, error: str) -> str:
    if status == 0:
        return ""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    said = f": {lines[-1][:100]}" if lines else ""
    return (signal.Signals(-status).name if status < 0 else f"exit status {status}") + said


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
