#!/usr/bin/env python3
"""What tracing costs, beside the peers, in one run: prints Markdown tables.

usage: make bench [BENCH_FLAGS="--quick ..."], or after `make`:
       bench/bench.py [--quick] [--only WORKLOAD,...] [--rounds N] [--peers none|all|NAME,...] [--limit SECONDS]

The rounds of a workload take every variant in turn, so that what the machine does meanwhile meets all alike. Needs only
python3 and a C compiler; peers and programs that are not installed are left out, and that is said.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Optional

import report
from looking import Looker
from naming import Naming
from report import Rounds
from run import Limits, run
from variants import SLOW_SHARE, Variant, all_variants
from viewing import Viewing
from workloads import SOURCE, Figures, Workload, all_tables, compile_c_workloads

BUILD = Path(os.environ.get("TM_TOP_BUILDDIR", SOURCE)).resolve()
LIBRARY = BUILD / "runtime" / ".libs" / "libtracemalloc.so"
MICRO = BUILD / "bench" / "micro"
GROUPS = ("churn", "hoard", "regrow", "handover", "release", "sqlite3", "jq", "python3", "perl", "cc1plus", "view",
          "micro")


class Bench:
    def __init__(self, options: argparse.Namespace, scratch: Path, out: Path) -> None:
        self.options, self.scratch, self.out = options, scratch, out
        self.rounds: int = options.rounds
        self.rounds_of_slow = max(1, self.rounds // 3)
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self.limits = Limits(options.limit, memory // 2)
        self.left_out: dict[str, None] = {}  # in order, each once
        self.build_problems = compile_c_workloads(scratch)
        if "plain" in self.build_problems:
            sys.exit(self.build_problems["plain"])
        self.variants = [variant for variant in all_variants(LIBRARY) if self._is_chosen(variant)]

    def run(self) -> None:
        print(f"{report.machine()}\n\n{self._meaning()}\n", flush=True)
        pairs: list[tuple[Workload, Rounds]] = []
        for table in all_tables(self.options.quick, self.scratch):
            results = [(workload, self._rounds(workload)) for workload in table.workloads if self._is_wanted(workload)]
            pairs += [(workload, rounds) for workload, rounds in results if workload.group == "churn"]
            if results:
                report.print_table(table, self.variants, results)
        if pairs:
            self._print_work_of_two(pairs)
        if self._is_group_wanted("view"):
            self._view()
        if self._is_group_wanted("micro"):
            self._micro()
        if self.left_out:
            print("Left out or gone wrong:\n\n" + "\n".join(f"- {text}" for text in self.left_out))

    def _is_chosen(self, variant: Variant) -> bool:
        names = self.options.peers.lower().split(",")
        if variant.is_peer and names != ["all"] and not any(name in variant.name.lower() for name in names):
            return False
        missing = variant.missing or self.build_problems.get(variant.build, "")
        if missing:
            self.left_out[f"{variant.name}: {missing}"] = None
        return not missing

    def _is_group_wanted(self, group: str) -> bool:
        return not self.options.only or group in self.options.only

    def _is_wanted(self, workload: Workload) -> bool:
        if not self._is_group_wanted(workload.group.split()[0]):
            return False
        if workload.missing:
            self.left_out[f"{workload.group}: {workload.missing}"] = None
        return not workload.missing

    def _meaning(self) -> str:
        """What the rows are, for below the machine's line."""
        lines = [f"Rounds: {self.rounds}, of the slow {self.rounds_of_slow}; the slowest do 1/{SLOW_SHARE} of the "
                 "pairs, reallocs and hand-overs. Every figure is the median over the rounds of what a run adds to the "
                 "untraced run of its round, or of the ratio to it.", ""]
        return "\n".join(lines + [f"- {variant.name}: {variant.meaning}{_pace(variant)}"
                                  for variant in self.variants])

    def _rounds(self, workload: Workload) -> Rounds:
        """Every variant's rounds. One that failed is not tried again."""
        variants = [variant for variant in self.variants if self._suits(variant, workload)]
        rounds: Rounds = {variant.name: [] for variant in variants}
        print(f"{workload.title}: {len(variants)} variants", file=sys.stderr)
        for number in range(self.rounds):
            for variant in variants[number % len(variants):] + variants[:number % len(variants)]:
                if (not variant.is_slow or number < self.rounds_of_slow) and None not in rounds[variant.name]:
                    rounds[variant.name].append(self._measure(workload, variant))
        return rounds

    def _suits(self, variant: Variant, workload: Workload) -> bool:
        if variant.is_slow and workload.is_heavy:
            self.left_out[f"{workload.title}: too much for the slow ones"] = None
            return False
        return workload.is_deep or not variant.is_for_deep

    def _measure(self, workload: Workload, variant: Variant) -> Optional[Figures]:
        program = list(workload.argv)
        if not workload.is_program:
            program[0] = str(self.scratch / variant.build / program[0])
        if workload.count:
            program.append(str(workload.count // variant.share))
        self.out.mkdir()
        environment = workload.environment | variant.environment_for(workload.is_program, self.out)
        outcome = run(variant.argv(program, self.out), environment, self.limits)
        shutil.rmtree(self.out)
        problem = outcome.problem
        if not problem:
            try:
                return workload.read(outcome)
            except ValueError as error:
                problem = str(error)
        self.left_out[f"{workload.title}, {variant.name}: {problem}"] = None
        return None

    def _print_work_of_two(self, pairs: list[tuple[Workload, Rounds]]) -> None:
        """From the rounds of one and of two threads."""
        rows = [["", *(workload.columns[0].title for workload, _ in pairs if workload.threads == 1)]]
        for variant in self.variants:
            cells = [_work_ratio(one, two, variant.name) for first, one in pairs for second, two in pairs
                     if first.threads == 1 and second.threads == 2 and first.argv[1:3] == second.argv[1:3]]
            rows.append([variant.name, *cells])
        print("### The work that two threads do, of one's\n\n2.0 where they do not hinder each other at all.\n")
        report.print_markdown(rows)

    def _view(self) -> None:
        if not shutil.which("gdb") or not LIBRARY.exists():
            self.left_out["view: there is no gdb, or the library is not built"] = None
            return
        sizes = [100_000] if self.options.quick else [1_000_000, 10_000_000]
        looker = Looker(self.limits)
        Viewing(LIBRARY, self.scratch, looker).print_table(sizes, self.rounds, self.options.peers != "none")
        Naming(LIBRARY, self.scratch, looker).print_table(1_000 if self.options.quick else 10_000, self.rounds)
        self.left_out.update(dict.fromkeys(looker.problems))

    def _micro(self) -> None:
        if not MICRO.exists():
            self.left_out["micro: not built; `make bench` does it"] = None
            return
        sizes = (10_000, 100_000) if self.options.quick else (10_000, 1_000_000, 10_000_000)
        figures: dict[str, list[float]] = {}
        units: dict[str, str] = {}
        for _ in range(self.rounds):
            for arguments in (["capture"], ["site"], *(["skiplist", str(size)] for size in sizes)):
                for line in run([str(MICRO), *arguments], {}, self.limits).output.splitlines():
                    name, figure, units[name] = line.split("\t")
                    figures.setdefault(name, []).append(float(figure))
        print("### The pieces alone\n\nWithout malloc and its hooks; the site is looked up with 17 frames.\n")
        report.print_markdown([["", "median"]] + [[name, f"{statistics.median(values):.1f} {units[name]}"]
                                                  for name, values in figures.items()])


def _pace(variant: Variant) -> str:
    return "" if not variant.is_slow else " (slow)" if variant.share == 1 else " (slowest)"


def _work_ratio(one: Rounds, two: Rounds, name: str) -> str:
    ratios = [2 * alone["ns"] / both["ns"] for alone, both in zip(one.get(name, []), two.get(name, []))
              if alone and both]
    return f"{statistics.median(ratios):.2f}" if ratios else report.LEFT_OUT


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that everything works")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], metavar="WORKLOAD,...",
                        help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, help="5; 1 with --quick")
    parser.add_argument("--peers", default="all", metavar="none|all|NAME,...", help="parts of the peers' names")
    parser.add_argument("--limit", type=float, default=150, metavar="SECONDS", help="for one run; 150")
    options = parser.parse_args()
    if unknown := [name for name in options.only if name not in GROUPS]:
        parser.error(f"no workload is named {unknown[0]}; there are {', '.join(GROUPS)}")
    options.rounds = options.rounds or (1 if options.quick else 5)
    return options


def main() -> None:
    options = parse_options()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="tm-bench-") as scratch, \
            tempfile.TemporaryDirectory(prefix="tm-bench-", dir=memory) as out:
        try:
            Bench(options, Path(scratch), Path(out) / "out").run()
        except KeyboardInterrupt:
            sys.exit("interrupted")


if __name__ == "__main__":
    main()
