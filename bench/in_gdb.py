"""in_gdb.py: times tm-stats inside GDB on what it holds, a stopped program or a core: first and again, and the memory.

Sourced by viewing.py and naming.py; prints one line of JSON that begins with BENCH.
"""

from __future__ import annotations

import json
import time

import gdb


def status(field: str) -> int:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def seconds_of(command: str) -> float:
    start = time.perf_counter()
    gdb.execute(command, to_string=True)
    return time.perf_counter() - start


def main() -> None:
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # makes VmHWM start again from now
    before = status("VmRSS")
    first = seconds_of("tm-stats")
    highest = status("VmHWM")
    again = sorted(seconds_of("tm-stats") for _ in range(3))[1]
    print("BENCH", json.dumps({"first": first, "again": again, "added": highest - before}))


main()
