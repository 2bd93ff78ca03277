"""report.py: medians, ratios and differences as aligned Markdown tables, and the machine that they were measured on."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
from pathlib import Path
from typing import Optional, Sequence

from variants import CC, Variant
from workloads import Column, Figures, Table, Workload

LEFT_OUT = "–"

# What the rounds of a workload told, by variant. A round that told nothing is None.
Rounds = dict[str, list[Optional[Figures]]]


def machine() -> str:
    compiler = subprocess.run([*CC, "--version"], capture_output=True, text=True).stdout.splitlines()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2 ** 30
    return ", ".join((datetime.date.today().isoformat(), _processor(), f"{os.cpu_count()} cores", f"{memory:.0f} GiB",
                      f"{platform.system()} {platform.release()}", " ".join(platform.libc_ver()),
                      compiler[0] if compiler else "no compiler"))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def print_markdown(rows: Sequence[Sequence[str]]) -> None:
    """The first row is the header. Figures stand right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in (rows[0], rule, *rows[1:]):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        print(f"| {' | '.join(cells)} |")
    print(flush=True)


def print_table(table: Table, variants: list[Variant], results: list[tuple[Workload, Rounds]]) -> None:
    print(f"### {table.title}\n\n{table.meaning}{_spread(results)}\n")
    titles = [column.title for workload, _ in results for column in workload.columns]
    rows = [["", *titles]]
    for variant in variants:
        cells = [cell(column, rounds, variant.name) for workload, rounds in results for column in workload.columns]
        if any(text != LEFT_OUT for text in cells):
            rows.append([variant.name, *cells])
    print_markdown(rows)


def cell(column: Column, rounds: Rounds, name: str) -> str:
    """Of the untraced row the figure itself; of the others the median of what each round adds to its untraced run."""
    if name == "untraced":
        figures = [round_[column.figure] for round_ in rounds.get(name, []) if round_]
        return f"{_digits(statistics.median(figures))} {column.unit}" if figures else LEFT_OUT
    pairs = [(base[column.figure], round_[column.figure])
             for base, round_ in zip(rounds["untraced"], rounds.get(name, [])) if base and round_]
    if not pairs:
        return LEFT_OUT
    if column.how == "ratio":
        ratio = statistics.median(traced / untraced for untraced, traced in pairs)
        return f"{ratio:.3f}x" if ratio < 1.1 else f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"
    added = statistics.median(traced - untraced for untraced, traced in pairs)
    return f"{'+' if added >= 0 else '-'}{_digits(abs(added))}"


def _digits(figure: float) -> str:
    return f"{figure:.2f}" if figure < 10 else f"{figure:.1f}" if figure < 100 else f"{figure:.0f}"


def _spread(results: list[tuple[Workload, Rounds]]) -> str:
    """How far the rounds of the untraced run lie apart, the measure of what the machine's noise is."""
    spreads = []
    for workload, rounds in results:
        figures = [round_[workload.columns[0].figure] for round_ in rounds["untraced"] if round_]
        if len(figures) > 1:
            spreads.append((max(figures) - min(figures)) / statistics.median(figures))
    return f" The untraced rounds spread by {statistics.median(spreads):.0%}." if spreads else ""
