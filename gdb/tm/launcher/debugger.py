"""debugger.py: a GDB of our own looks at a process or a core for a moment: a snapshot, or what the tracer tells.

GDB runs gdbside.py, which leaves its answer in a file: what GDB itself prints is for nobody.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from typing import Any, Mapping

from .failure import NO_DEBUGGER, UNREADABLE, Failure

_STDERR = 2
_PROGRESS_AFTER = 1.0  # seconds
_STEP = 0.5           # seconds until it is written anew
PATIENCE = 15  # seconds that a GDB which is asked to end has to let its process go

_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def find_gdb(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Failure(f"{name} is not found, which processes and cores need: install gdb, or name one with --gdb",
                      NO_DEBUGGER)
    return path


def clean_environment() -> dict[str, str]:
    """For a GDB that is not to be traced itself."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRACEMALLOC")}
    paths = re.split("[: ]+", environment.pop("LD_PRELOAD", ""))
    kept = ":".join(path for path in paths if path and not os.path.basename(path).startswith("libtracemalloc.so"))
    return {**environment, "LD_PRELOAD": kept} if kept else environment


def ask(gdb: str, question: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of gdbside.answer; Failure with what went wrong, in one line."""
    program = find_gdb(gdb)
    with tempfile.TemporaryDirectory(prefix="tracemalloc-") as directory:
        asked, answered = os.path.join(directory, "question"), os.path.join(directory, "answer")
        with open(asked, "w") as file:
            json.dump(question, file)
        script = (f"import sys; sys.path.insert(0, {_PACKAGE_PARENT!r}); from tm.launcher import gdbside; "
                  f"gdbside.answer({asked!r}, {answered!r})")
        output = _run([program, "-nx", "-q", "-batch", "-iex", "set auto-load off", "-iex",
                       "set debuginfod enabled off", "-ex", f"python {script}"])
        if not os.path.exists(answered):
            last = (output.strip().splitlines() or ["it printed nothing"])[-1]
            raise Failure(f"{gdb} gave no answer: {last}", NO_DEBUGGER)
        with open(answered) as file:
            result: dict[str, Any] = json.load(file)
    if "error" in result:
        raise Failure(_explained(str(result["error"]), question), UNREADABLE)
    return result


def _run(command: list[str]) -> str:
    """What GDB printed. In a session of its own: Ctrl-C is for us, who then let GDB detach and end."""
    # A Ctrl-C before the child is known would leave it behind.
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 encoding="utf-8", errors="replace", env=clean_environment(), start_new_session=True)
    except BaseException:
        signal.signal(signal.SIGINT, before)
        raise
    with child:
        try:
            signal.signal(signal.SIGINT, before)
            if came and before is signal.default_int_handler:
                raise KeyboardInterrupt
            return _output_of(child)
        except BaseException:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(PATIENCE)
            child.kill()  # if it has not ended; the kernel then detaches
            raise


def _output_of(child: subprocess.Popen[str]) -> str:
    """What the child prints until it ends. A person who waits for it is told how long that has taken."""
    if not os.isatty(_STDERR):
        return child.communicate()[0]
    start, text = time.monotonic(), ""
    try:
        while True:
            try:
                return child.communicate(timeout=_STEP)[0]
            except subprocess.TimeoutExpired:
                if time.monotonic() - start >= _PROGRESS_AFTER:
                    text = f"tracemalloc: GDB has worked for {time.monotonic() - start:.0f} s, Ctrl-C stops it"
                    os.write(_STDERR, f"\r{text}".encode())
    finally:
        if text:
            os.write(_STDERR, b"\r" + b" " * len(text) + b"\r")


def _explained(error: str, question: Mapping[str, Any]) -> str:
    """The error of attaching, with its cause as far as the kernel tells it."""
    pid = question.get("pid")
    if pid is None or "ptrace" not in error and "ttach" not in error:
        return error
    tracer = _status_of(pid, "TracerPid")
    if tracer not in ("", "0"):
        return f"process {pid} is being debugged by process {tracer} already: ask there, or end that first"
    if "ermitted" not in error:
        return f"process {pid} cannot be attached to: {error}"
    owner = _status_of(pid, "Uid").split("\t")[0]
    if owner and owner != str(os.geteuid()) and os.geteuid() != 0:
        return f"no permission to look at process {pid}, which is of user {owner}: ask as that user, or as root"
    scope = _yama_scope()
    if scope == "1":
        return (f"no permission to look at process {pid}: kernel.yama.ptrace_scope is 1, so ask as root, or "
                "sysctl kernel.yama.ptrace_scope=0")
    if scope in ("2", "3"):
        how = "ask as root" if scope == "2" else "nobody may until the next boot"
        return f"no permission to look at process {pid}: kernel.yama.ptrace_scope is {scope}: {how}"
    return (f"no permission to look at process {pid}: a container or the process itself forbids it (CAP_SYS_PTRACE); "
            "TRACEMALLOC_SNAPSHOT with a signal or an interval needs no debugger")


def _status_of(pid: int, field: str) -> str:
    with suppress(OSError), open(f"/proc/{pid}/status") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == field:
                return value.strip()
    return ""


def _yama_scope() -> str:
    with suppress(OSError), open("/proc/sys/kernel/yama/ptrace_scope") as file:
        return file.read().strip()
    return ""
