"""Damaged snapshot files of every kind: always a SnapshotError, never a hang, never more memory than the file's due."""

from __future__ import annotations

import random
import struct
import tracemalloc
import unittest
from array import array
from typing import Any
from zlib import crc32

from support import WIDE, TestWithDirectory, boundary_values, model, snapfile

SEED = 7
HEADER = 16
END_SECTION = 20


def saved(path: str, traces: list[model.RawTrace], **more: Any) -> bytes:
    rows = model.Snapshot(traces, 3).rows
    model.Snapshot.from_columns(rows.sites, array("Q", rows.site_indexes), array("Q", rows.sizes),
                                array("Q", rows.counts), 3, **more).dump(path)
    with open(path, "rb") as file:
        return file.read()


def take_apart(data: bytes) -> list[tuple[bytes, bytes]]:
    sections = []
    place = HEADER
    while place < len(data):
        kind, size = struct.unpack_from("<4sI", data, place)
        sections.append((kind, data[place + 8:place + 8 + size]))
        place += 8 + size + 4
    return sections


def sealed(sections: list[tuple[bytes, bytes]], header: bytes) -> bytes:
    """The sections with checksums that are right."""
    data = header
    checksum = crc32(header)
    for kind, payload in sections:
        section = kind + struct.pack("<I", len(payload)) + payload
        checksum = crc32(section, checksum)
        data += section + struct.pack("<I", checksum)
    return data


class TestFuzz(TestWithDirectory):
    def setUp(self) -> None:
        super().setUp()
        self.random = random.Random(SEED)
        self.whole = saved(self.path, WIDE, addresses=lambda: range(10, 17), notes=["x"])
        self.other = saved(self.path, WIDE[:4] * 2, info={"pid": 3})

    def refused(self, data: bytes) -> None:
        with self.assertRaises(snapfile.SnapshotError, msg=f"seed {SEED}, {data!r}"):
            snapfile.load(self.write(data))

    def test_cut_at_every_length(self) -> None:
        for length in range(len(self.whole)):
            self.refused(self.whole[:length])

    def test_every_bit_flipped(self) -> None:
        for place in range(len(self.whole)):
            for bit in range(8):
                data = bytearray(self.whole)
                data[place] ^= 1 << bit
                self.refused(bytes(data))

    def test_spliced(self) -> None:
        self.assertNotEqual(self.whole, self.other)
        for _ in range(3000):
            a, b = self.random.randrange(1, len(self.whole)), self.random.randrange(1, len(self.other))
            data = self.whole[:a] + self.other[b:]
            if data not in (self.whole, self.other):
                self.refused(data)

    def test_sections_moved_lost_and_doubled(self) -> None:
        """Each is whole, with its own checksum, but not where it was."""
        places = [HEADER]
        while places[-1] < len(self.whole):
            places.append(places[-1] + 12 + struct.unpack_from("<I", self.whole, places[-1] + 4)[0])
        parts = [self.whole[a:b] for a, b in zip(places, places[1:])]
        for _ in range(300):
            chosen = self.random.choices(parts, k=self.random.randint(0, len(parts)))
            if chosen != parts:
                self.refused(self.whole[:HEADER] + b"".join(chosen))
                self.refused(self.whole[:HEADER] + b"".join(chosen) + self.whole[-END_SECTION:])

    def test_random_bytes(self) -> None:
        for start in (b"", self.whole[:8], self.whole[:HEADER], self.whole[:HEADER + 8], b"\x80\4"):
            for _ in range(500):
                self.refused(start + self.random.randbytes(self.random.randrange(200)))

    def test_wrong_values_with_right_checksums(self) -> None:
        """What the checksum cannot see must be refused, or be a snapshot that works."""
        refused = 0
        rounds = 6000
        sections = take_apart(self.whole)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for _ in range(rounds):
            changed = list(sections)
            for _ in range(self.random.choice((1, 1, 1, 3))):
                self.change(changed)
            self.write(sealed(changed, self.whole[:HEADER]))
            try:
                self.use(snapfile.load(self.path))
            except snapfile.SnapshotError:
                refused += 1
        self.assertLess(tracemalloc.get_traced_memory()[1], 3_000_000)
        self.assertGreater(refused, rounds // 3)
        self.assertLess(refused, rounds)

    def test_every_place_with_right_checksums(self) -> None:
        sections = take_apart(self.whole)
        refused = rounds = 0
        for number, (kind, payload) in enumerate(sections):
            for changed in boundary_values(payload):
                rounds += 1
                self.write(sealed([*sections[:number], (kind, changed), *sections[number + 1:]], self.whole[:HEADER]))
                try:
                    self.use(snapfile.load(self.path))
                except snapfile.SnapshotError:
                    refused += 1
        self.assertGreater(refused, rounds // 3)
        self.assertLess(refused, rounds)

    def change(self, sections: list[tuple[bytes, bytes]]) -> None:
        number = self.random.randrange(len(sections))
        kind, payload = sections[number]
        data = bytearray(payload)
        # The counts and widths at the front matter most.
        place = min(int(self.random.expovariate(0.05)), len(data) - 1)
        way = self.random.randrange(5)
        if way == 0:
            data[place] = self.random.choice((0, 1, 2, 4, 8, 127, 128, 255, self.random.randrange(256)))
        elif way == 1:
            data[place:place + 4] = self.random.choice((b"\xff" * 4, b"\0" * 4, b"\0\0\0\x80", b"\1\0\0\0"))
        elif way == 2:
            del data[place:place + self.random.randint(1, 9)]
        elif way == 3:
            data[place:place] = self.random.randbytes(self.random.randint(1, 9))
        else:
            kind = self.random.choice(sections)[0]
        sections[number] = kind, bytes(data)

    def use(self, snapshot: model.Snapshot) -> None:
        for key in model.KEY_TYPES:
            for statistic in snapshot.statistics(key):
                str(statistic)
        snapshot.statistics("lineno", cumulative=True)
        snapshot.compare_to(snapshot, "traceback")
        snapshot.filter_traces([model.Filter(True, "*.c", all_frames=True)])
        self.assertEqual(len([trace.address for trace in snapshot.traces[:9]]), min(9, len(snapshot.traces)))

    def test_bombs(self) -> None:
        """A little in the file must not be much in memory."""
        rows = 1 << 18
        ones = b"\1" * rows
        info = b"INFO", dict(take_apart(self.other))[b"INFO"]
        end = b"END ", struct.pack("<Q", rows)
        tables = {
            b"ROWS": struct.pack("<I3B", rows, 0, 0, 1) + ones,
            b"SITE": struct.pack("<I3B", rows, 1, 0, 0) + ones,
            b"FRAM": struct.pack("<I6B", rows, 0, 1, 0, 0, 0, 0) + ones,
            b"STAK": struct.pack("<IB", rows, 1) + b"\0" * rows,
            b"STRS": struct.pack("<IB", rows, 1) + ones + b"a" * rows,
            b"ADDR": struct.pack("<IB", rows, 1) + ones,
        }
        site = b"SITE", struct.pack("<I3BB", 1, 1, 0, 0, 9)
        for chosen in ([b"ROWS"], [b"SITE"], [b"STRS", b"FRAM"], [b"ROWS", b"ADDR"], list(tables)):
            with self.subTest(kinds=chosen):
                sections = [(kind, tables[kind]) for kind in chosen]
                self.write(sealed([info, site, *sections, end], self.whole[:HEADER]))
                tracemalloc.start()
                self.addCleanup(tracemalloc.stop)
                try:
                    self.assertEqual(len(snapfile.load(self.path).traces), rows)
                except snapfile.SnapshotError:
                    pass
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                self.assertLess(peak, 25 * len(self.read()))
        tracemalloc.start()
        huge = struct.pack("<I3BB", (1 << 32) - 1, 1, 0, 0, 1)
        self.refused(sealed([info, site, (b"ROWS", huge), end], self.whole[:HEADER]))
        self.refused(self.whole[:HEADER] + b"ROWS\xff\xff\xff\xff" + b"\0" * 100)
        self.assertLess(tracemalloc.get_traced_memory()[1], 1_000_000)


if __name__ == "__main__":
    unittest.main()
