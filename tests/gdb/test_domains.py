"""test_domains.py: domains and their names, blocks one by one, addresses in Python."""

from __future__ import annotations

import unittest

from support import (GdbTest, LINKED, Result, Step, at_checkpoint, facts, gdb, line_of, new_directory, preload, program,
                     python, rows)

ENVIRONMENT = ["set startup-with-shell off", "set environment TRACEMALLOC 25"]
TEXTURES = "textures (domain 3)"
DEVICE = "device memory (domain 7)"


def domains(*steps: Step) -> list[Result]:
    """What the steps give where domains.c first stands behind its checkpoint."""
    start = [*ENVIRONMENT, *at_checkpoint()]
    return gdb([*start, *steps], program("domains", *LINKED))[len(start):]


def table(traces: str) -> list[list[str]]:
    """The cells of the blocks that tm-traces printed."""
    return [line.split("  ") for line in _squeezed(traces) if line.startswith("0x")]


def _squeezed(text: str) -> list[str]:
    lines = text.splitlines()
    while any("   " in line for line in lines):
        lines = [line.replace("   ", "  ") for line in lines]
    return lines


class DomainsTest(GdbTest):

    def test_info_lists_domains_where_there_are_any(self) -> None:
        info = domains("tm-info")[0].output
        self.assertIn("Domains:           heap (domain 0): 2 blocks, 19.6 KiB\n"
                      "                   textures (domain 3): 19 blocks, 18.6 KiB\n"
                      "                   domain 4: 1 block, 5 B\n"
                      "                   device memory (domain 7): 1 block, 5120 GiB\n", info)
        self.assertEqual(facts(info)["Blocks"], "23")
        heap = gdb([*preload(), *at_checkpoint(), "tm-info"], program("known"))[-1].output
        self.assertNotIn("Domains", heap)

    def test_stats_by_domain(self) -> None:
        self.assertEqual([row.partition(": ")[0] for row in rows(domains("tm-stats domain")[0].output)],
                         [DEVICE, "heap (domain 0)", TEXTURES, "domain 4"])

    def test_traceback_tells_of_the_smallest_block_and_its_domain(self) -> None:
        output = domains("tm-traceback (char *) pool + 1500")[0].output
        self.assertIn(f"is 499 bytes into the 1000-byte block of {TEXTURES} at", output)
        self.assertIn("is the start of a 5-byte block of domain 4", domains("tm-traceback pool")[0].output)
        self.assertIn("is 7 bytes into the 20001-byte block at", domains("tm-traceback pool + 7")[0].output)
        self.assertIn(f"is 3 bytes into the {5 << 40}-byte block of {DEVICE} at",
                      domains("tm-traceback 0xfedc00000003")[0].output)

    def test_a_search_finds_what_a_look_at_every_block_finds(self) -> None:
        search = python("""
from tm.reader import Reader
from tm.skiplist import Skiplist
blocks = Skiplist(Reader().tables)
pool = int(gdb.parse_and_eval("pool"))
places = [*range(pool - 40, pool + 20100, 97), pool, pool + 1, pool + 1001, 0xfedc00000000, 1]
answer = [hex(place) for place in places if blocks.holding(place) != blocks._scan_for(place)]
""")
        self.assertEqual(domains(search)[0].answer, [])

    def test_names_survive_in_a_file(self) -> None:
        directory = new_directory()
        steps = [*ENVIRONMENT, *at_checkpoint(), "tm-snapshot save a.snap", "continue", "finish",
                 "tm-snapshot save b.snap", "tm-compare a.snap domain"]
        live = gdb(steps, program("domains", *LINKED), directory=directory)[-1]
        files, = gdb(["tm-compare a.snap b.snap domain"], directory=directory)
        self.assertEqual(rows(live.output), [f"{TEXTURES}: size=19.5 KiB (+1000 B), count=20 (+1), average=1000 B"])
        self.assertEqual(rows(files.output), rows(live.output))

    def test_names_in_python(self) -> None:
        answer = domains(python("import tm; answer = tm.take_snapshot().info['domains']"))[0].answer
        self.assertEqual(answer, {"3": "textures", "7": "device memory"})

    def test_names_in_a_core(self) -> None:
        directory = new_directory()
        live = gdb([*ENVIRONMENT, *at_checkpoint(), "tm-stats domain", "tm-traces", "generate-core-file d.core"],
                   program("domains", *LINKED), directory=directory)
        core = gdb(["tm-stats domain", "tm-traces"], program("domains", *LINKED), directory / "d.core")
        for ours, theirs in zip(live[-3:-1], core):
            self.assertIsNone(theirs.error)
            self.assertEqual(ours.output.splitlines()[1:], theirs.output.splitlines()[1:])


class TracesTest(GdbTest):

    def test_the_largest_first_with_site_domain_and_place(self) -> None:
        output = domains("tm-traces -limit 3")[0].output
        found = table(output)
        self.assertEqual([row[1:2] + row[3:] for row in found], [
            [f"{5 << 40:,}", DEVICE, f"main at domains.c:{line_of('domains.c', 'device')}"],
            ["20,001", "heap (domain 0)", f"main at domains.c:{line_of('domains.c', 'pool')}"],
            ["1,000", TEXTURES, f"take at domains.c:{line_of('domains.c', 'texture')}"]])
        self.assertEqual(found[0][0], "0xfedc00000000")
        self.assertIn("\n... 20 more: 17.6 KiB\nTotal: 5120 GiB in 23 blocks\n", output)
        lines = output.splitlines()
        self.assertEqual(lines[1].index("Site") + len("Site"), lines[2].index("  device"))

    def test_every_block_is_there_by_address(self) -> None:
        results = domains("tm-traces -sort address -limit 0", python("answer = int(gdb.parse_and_eval('pool'))"),
                          python("answer = int(gdb.parse_and_eval('on_heap'))"))
        pool, on_heap = results[1].answer, results[2].answer
        found = [(int(row[0], 16), row[1]) for row in table(results[0].output)]
        self.assertEqual([row[0] for row in found], sorted(row[0] for row in found))
        self.assertEqual(found, [(pool, "20,001"), (pool, "5"),
                                 *((pool + number * 1000 + 1, "1,000") for number in range(1, 20)),
                                 (on_heap, "50"), (0xfedc00000000, f"{5 << 40:,}")])
        self.assertNotIn("...", results[0].output)

    def test_other_orders(self) -> None:
        by_site, by_domain = (table(result.output) for result in domains(
            "tm-traces -sort site -limit unlimited", "tm-traces -sort domain -limit unlimited"))
        self.assertEqual([int(row[2]) for row in by_site], sorted(int(row[2]) for row in by_site))
        self.assertEqual([row[3] for row in by_domain],
                         ["heap (domain 0)"] * 2 + [TEXTURES] * 19 + ["domain 4", DEVICE])

    def test_blocks_of_a_site(self) -> None:
        sites = {row[2]: int(row[1].replace(",", "")) for row in table(domains("tm-traces -limit 0")[0].output)}
        self.assertEqual(len(sites), 5)
        for number, result in zip(sites, domains(*(f"tm-traces -site {number}" for number in sites))):
            found = table(result.output)
            self.assertIn(f" from site {number}\n", result.output)
            self.assertEqual({row[2] for row in found}, {number})
            self.assertEqual({int(row[1].replace(",", "")) for row in found}, {sites[number]})

    def test_blocks_of_a_domain(self) -> None:
        for word in ("textures", "3"):
            output = domains(f"tm-traces -domain {word} -limit 1")[0].output
            self.assertIn(f": 18.6 KiB in 19 blocks of {TEXTURES}\n", output)
            self.assertEqual([row[3] for row in table(output)], [TEXTURES])
        heap = domains("tm-traces -domain heap")[0].output
        self.assertEqual([row[1] for row in table(heap)], ["20,001", "50"])
        self.assertNotIn("Domain", heap)
        self.assertIn("0 B in 0 blocks of domain 99", domains("tm-traces -domain 99")[0].output)

    def test_words_that_make_no_sense(self) -> None:
        cases = {"tm-traces -domain nowhere": "nowhere", "tm-traces -site 12345": "12345", "tm-traces -site x": "x",
                 "tm-traces -sort colour": "size, address, site or domain", "tm-traces lineno": "lineno",
                 "tm-traces -limit x": '"x" is no number of rows: write -limit',
                 "tm-traces -sort": "-sort KEY", "tm-traces -s": "-site N"}
        for result, word in zip(domains(*cases), cases.values()):
            self.assertRefused(result, word)

    def test_many_blocks_from_every_allocator(self) -> None:
        results = gdb([*preload(), *at_checkpoint(), "tm-traces -limit 0", "tm-traces", python("""
answer = [int(gdb.parse_and_eval(f"leaks[{number}]")) for number in range(1, 1000)]
answer += [int(gdb.parse_and_eval(name)) for name in ("pairs", "aligned", "deep", "grown")]
""")], program("known"))
        found = [int(row[0], 16) for row in table(results[-3].output)]
        self.assertEqual(sorted(found), sorted(results[-1].answer))
        self.assertEqual(len(table(results[-2].output)), 10)


class AddressesTest(GdbTest):
    """Trace.address is of the snapshot's moment, however late it is asked for."""

    def test_addresses_of_a_kept_snapshot(self) -> None:
        results = gdb([*preload(), *at_checkpoint(), python("""
import tm, __main__
__main__.kept = tm.take_snapshot()
__main__.all = sorted(trace.address for trace in tm.take_snapshot().traces)
answer = int(gdb.parse_and_eval("leaks[5]"))
"""), "continue", "kill", python("""
import __main__
answer = [sorted(t.address for t in __main__.kept.traces) == __main__.all, len(__main__.all),
          [(t.address, t.size, t.traceback[-1].function) for t in __main__.kept.traces if t.size == 105]]
""")], program("known"))
        is_same, number, found = results[-1].answer
        self.assertEqual((is_same, number), (True, 1003))
        self.assertEqual(found, [[results[-4].answer, 105, "leak"]])

    def test_the_program_goes_on_meanwhile(self) -> None:
        results = gdb([*preload(), *at_checkpoint(), python("import tm, __main__; __main__.kept = tm.take_snapshot()"),
                       "continue", "finish", python("""
import tm, __main__
before, after = ({t.address for t in snapshot.traces} for snapshot in (__main__.kept, tm.take_snapshot()))
answer = [len(before), len(after), before <= after, None in after]
""")], program("known"))
        self.assertEqual(results[-1].answer, [1003, 1013, True, False])


if __name__ == "__main__":
    unittest.main()
