"""lines_in_gdb.py: times GDB alone: how long it takes to find the lines that call the allocator in what it holds.

No debug information may have been read before. Sourced by naming.py; prints one line of JSON that begins with BENCH.
"""

from __future__ import annotations

import json
import time

import gdb
from tm.reader import Reader


def main() -> None:
    pcs = sorted({site.pcs[0] for site in Reader().tables.count_blocks().sites.values() if site.pcs})
    start = time.perf_counter()
    for pc in pcs:
        gdb.find_pc_line(pc - 1)
    print("BENCH", json.dumps({"alone": time.perf_counter() - start, "callers": len(pcs)}))


main()
