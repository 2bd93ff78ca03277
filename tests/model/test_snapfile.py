"""The snapshot file: what goes in comes out, nothing half-written stays, and damage is named."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import pickle
import random
import struct
import sys
import tracemalloc
import unittest
from array import array
from collections.abc import Iterable
from typing import Any
from unittest.mock import patch
from zlib import crc32

from support import WIDE, TestWithDirectory, model, snapfile

ADDRESSES = [0x10, 0x7fffffffffff, 0x20, 0xffffffffffffffff, 0x30, 0x40, 0x50]


def columns_of(traces: Iterable[model.RawTrace], **more: Any) -> model.Snapshot:
    rows = model.Snapshot(traces, 3).rows
    return model.Snapshot.from_columns(rows.sites, array("Q", rows.site_indexes), array("Q", rows.sizes),
                                       array("Q", rows.counts), 3, **more)


def by_hand(*sections: tuple[bytes, bytes], major: int = 1, minor: int = 0) -> bytes:
    """A file as a C program would write it in one pass, from doc/snapshot-format.md alone."""
    data = struct.pack("<8sHHI", b"\x89tmsnap\n", major, minor, 0)
    checksum = crc32(data)
    for kind, payload in sections:
        section = kind + struct.pack("<I", len(payload)) + payload
        checksum = crc32(section, checksum)
        data += section + struct.pack("<I", checksum)
    return data


INFO = b"INFO", json.dumps({"traceback_limit": 2, "info": {"pid": 7}, "notes": [], "attributes": {}}).encode()
ROWS = [
    # two rows: 3 blocks of 16 bytes of site 1, 1 block of 300 bytes of site 0
    (b"ROWS", struct.pack("<I3B2IHHBB", 2, 4, 2, 1, 1, 0, 16, 300, 3, 1)),
    # one row: 1 block of 16 bytes of site 1
    (b"ROWS", struct.pack("<I3BBBB", 1, 1, 1, 1, 1, 16, 1)),
]
SITES = [
    (b"STRS", struct.pack("<IBBB", 2, 1, 3, 4) + b"a.cmain"),
    (b"STRS", struct.pack("<IBB", 1, 1, 6) + b"/bin/p"),
    # a.c:5 in function main of module /bin/p at 0x1000; a.c:9, of two fields
    (b"FRAM", struct.pack("<I6B8I2Q2B", 2, 4, 4, 4, 4, 8, 1, 0, 0, 5, 9, 2, 0, 3, 0, 0x1000, 0, 3, 0)),
    # site 0: domain 0, cut, frame 1; site 1: domain 5, 2 deep, frames 0 and 1
    (b"SITE", struct.pack("<I3B2I2I2H", 2, 4, 4, 2, 0, 5, 0, 3, 1, 2)),
    (b"STAK", struct.pack("<IB3I", 3, 4, 1, 0, 1)),
]
END = b"END ", struct.pack("<Q", 5)


class TestRoundTrip(TestWithDirectory):
    def back(self, snapshot: model.Snapshot) -> model.Snapshot:
        snapshot.dump(self.path)
        return model.Snapshot.load(self.path)

    def test_every_raw_frame_comes_back_as_it_was(self) -> None:
        loaded = self.back(model.Snapshot(WIDE, 3))
        self.assertEqual([trace._trace for trace in loaded.traces], WIDE)
        self.assertEqual(loaded.traceback_limit, 3)

    def test_odd_values(self) -> None:
        odd: list[model.RawTrace] = [
            (2 ** 32 - 1, 2 ** 64 - 1, (("\u00e4\U0001f600\n\udcff", 2 ** 32 - 1, "", "", 2 ** 64 - 1), ("", 0)), 0),
            (0, 0, (("a", 0, None, None, 0), ("a", 0, None, None, None), ("a", 0)), 2 ** 32)]
        self.assertEqual([trace._trace for trace in self.back(model.Snapshot(odd, 1)).traces], odd)

    def test_no_blocks(self) -> None:
        loaded = self.back(model.Snapshot([], 1))
        self.assertEqual((len(loaded.traces), loaded.statistics("lineno")), (0, []))

    def test_many_rows_of_mixed_width_keep_their_order(self) -> None:
        source = random.Random(3)
        raw: list[model.RawTrace] = [
            (0, source.randrange(1 << source.choice((3, 12, 30, 40))) if number > 70000 else number % 100,
             ((f"{number % 300}.c", number % 7),), None) for number in range(140000)]
        snapshot = model.Snapshot(raw + raw[-1:] * 3, 1)
        loaded = self.back(snapshot)
        for name in ("site_indexes", "sizes", "counts"):
            self.assertEqual(list(getattr(loaded.rows, name)), list(getattr(snapshot.rows, name)))
        self.assertEqual(loaded.statistics("lineno"), snapshot.statistics("lineno"))

    def test_unused_sites_are_left_out_and_not_asked(self) -> None:
        class Dear(model.Site):
            @property
            def frames(self) -> model.RawFrames:
                raise AssertionError("nobody needs these frames")

        sites = [Dear(0, (), None), model.Site(1, (("a.c", 1),), 1), Dear(0, (), None)]
        snapshot = model.Snapshot.from_columns(sites, array("Q", [1, 1]), array("Q", [8, 9]), array("Q", [1, 1]), 1)
        self.assertEqual(len(self.back(snapshot).rows.sites), 1)

    def test_facts_notes_and_attributes(self) -> None:
        info = {"program": "/bin/caf\udce9", "pid": 7, "time": 1.5, "build_ids": {"/bin/x": "ab12"}, "host": None}
        snapshot = columns_of(WIDE, info=info, notes=["2 slabs could not be read", "\u00e4"])
        user: Any = snapshot
        user.label = {"list": [1, 2.5, None, True, "text", {}], "empty": []}
        user.number = -10 ** 30
        loaded: Any = self.back(snapshot)
        self.assertEqual((loaded.info, loaded.notes), (info, snapshot.notes))
        self.assertEqual((loaded.label, loaded.number), (user.label, user.number))
        self.assertEqual(vars(self.back(loaded)), vars(snapshot))

    def test_addresses(self) -> None:
        snapshot = columns_of(WIDE, addresses=lambda: ADDRESSES)
        loaded = self.back(snapshot)
        self.assertEqual([trace.address for trace in loaded.traces], ADDRESSES)
        self.assertEqual([trace.address for trace in self.back(loaded).traces], ADDRESSES)

    def test_names_that_are_paths(self) -> None:
        model.Snapshot(WIDE, 3).dump(pathlib.Path(self.path))
        self.assertEqual(len(model.Snapshot.load(pathlib.Path(self.path)).traces), len(WIDE))

    def test_save_says_how_many_bytes(self) -> None:
        self.assertEqual(snapfile.save(model.Snapshot(WIDE, 3), self.path), os.path.getsize(self.path))

    def test_saving_is_streamed(self) -> None:
        rows = 300_000
        sites = [model.Site(0, ((f"{number}.c", 1),), 1) for number in range(1000)]
        snapshot = model.Snapshot.from_columns(
            sites, array("Q", (number % 1000 for number in range(rows))), array("Q", range(rows)),
            array("Q", [1] * rows), 1)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        snapshot.dump(self.path)
        self.assertLess(tracemalloc.get_traced_memory()[1], 4_000_000)


class TestWrittenByHand(TestWithDirectory):
    def test_the_document_is_enough(self) -> None:
        snapshot = snapfile.load(self.write(by_hand(INFO, *ROWS, *SITES, END)))
        wide: model.RawFrame = ("a.c", 5, "main", "/bin/p", 0x1000)
        one: model.RawTrace = (5, 16, (wide, ("a.c", 9)), 2)
        self.assertEqual([trace._trace for trace in snapshot.traces],
                         [one, one, one, (0, 300, (("a.c", 9),), None), one])
        self.assertEqual((snapshot.info, snapshot.traceback_limit), ({"pid": 7}, 2))

    def test_sections_in_any_order(self) -> None:
        first = snapfile.load(self.write(by_hand(INFO, *ROWS, *SITES, END)))
        second = snapfile.load(self.write(by_hand(*reversed(SITES[2:]), *SITES[:2], *ROWS, INFO, END)))
        self.assertEqual(first.traces, second.traces)

    def test_a_later_minor_is_read(self) -> None:
        snapshot = snapfile.load(self.write(by_hand(INFO, (b"NEW ", b"?"), *ROWS, *SITES, END, minor=9)))
        self.assertEqual(len(snapshot.traces), 5)

    def refused(self, reason: str, *sections: tuple[bytes, bytes], **version: int) -> None:
        with self.assertRaisesRegex(snapfile.SnapshotError, reason):
            snapfile.load(self.write(by_hand(*sections, **version)))

    def test_a_later_major_is_not(self) -> None:
        self.refused(r"a\.snap has .*format 2\.3.*format 1\.0", INFO, END, major=2, minor=3)

    def test_unknown_kind_of_this_version(self) -> None:
        self.refused("'NEW '", INFO, (b"NEW ", b"?"), *ROWS, *SITES, END)

    def test_what_does_not_fit_together(self) -> None:
        table = struct.pack
        cases: list[tuple[Any, ...]] = [
            ("no section 'INFO'", *ROWS, *SITES, END),
            ("'INFO'", INFO, INFO, *ROWS, *SITES, END),
            ("'INFO'", (b"INFO", b"[" * 100000), *ROWS, *SITES, END),
            ("'INFO'", (b"INFO", INFO[1].replace(b"7", b"9" * 5000)), *ROWS, *SITES, END),
            ("'INFO'", (b"INFO", INFO[1].replace(b"[]", b"[3]")), *ROWS, *SITES, END),
            ("'INFO'", (b"INFO", INFO[1].replace(b'attributes": {', b'attributes": {"dump": 1')), END),
            ("'INFO'", (b"INFO", b" " * (1 << 23)), *ROWS, *SITES, END),
            ("5 blocks and should have 6", INFO, *ROWS, *SITES, (b"END ", table("<Q", 6))),
            ("'END '", INFO, *ROWS, *SITES, (b"END ", b"")),
            ("site index 1 of 0", INFO, *ROWS, END),
            ("frame 1 of 0", INFO, *ROWS, *SITES[3:], END),
            ("filename 0 of 0", INFO, *ROWS, *SITES[2:], END),
            ("3 frames of sites and should have 0", INFO, *ROWS, *SITES[:3], SITES[4], END),
            ("does not hold the strings", INFO, (b"STRS", SITES[0][1][:-1]), END),
            ("too short", INFO, (b"STAK", b"\0\0\0"), END),
            ("too short for 4 rows", INFO, (b"STAK", table("<IB3I", 4, 4, 0, 0, 0)), END),
            ("too long", INFO, (b"STAK", table("<IB3I", 2, 4, 0, 0, 0)), END),
            ("columns of 3 bytes", INFO, (b"STAK", table("<IB3I", 4, 3, 0, 0, 0)), END),
            ("columns of 0, 0, 0 bytes", INFO, (b"ROWS", table("<I3B", 1 << 31, 0, 0, 0)), END),
            ("281474976710656 at most", INFO, (b"ROWS", table("<I3BBQ", 1, 1, 0, 8, 0, 1 << 60)),
             *SITES, (b"END ", table("<Q", 1 << 60))),
            ("a row of 0 blocks", INFO, (b"ROWS", table("<I3BB", 1, 1, 0, 0, 0)), *SITES, (b"END ", table("<Q", 0))),
            ("2 addresses for 5 blocks", INFO, *ROWS, *SITES, (b"ADDR", table("<IBBB", 2, 1, 1, 2)), END)]
        if not hasattr(sys, "set_int_max_str_digits"):
            del cases[3]  # older Pythons read numbers of any length
        for reason, *sections in cases:
            with self.subTest(reason=reason):
                self.refused(reason, *sections)


class TestDamage(TestWithDirectory):
    def refused(self, reason: str, path: str) -> None:
        with self.assertRaises(snapfile.SnapshotError) as caught:
            snapfile.load(path)
        self.assertRegex(str(caught.exception), reason)
        self.assertTrue(str(caught.exception).startswith(path), "the file is named")
        self.assertNotIn("\n", str(caught.exception))

    def test_missing(self) -> None:
        with self.assertRaises(FileNotFoundError):
            snapfile.load(self.path)

    def test_empty(self) -> None:
        self.refused("is empty", self.write(b""))

    def test_cut(self) -> None:
        whole = by_hand(INFO, *ROWS, *SITES, END)
        self.refused("cut short", self.write(whole[:-1]))
        self.refused("cut short", self.write(whole[:5]))

    def test_flipped(self) -> None:
        whole = bytearray(by_hand(INFO, *ROWS, *SITES, END))
        whole[60] ^= 4
        self.refused("checksum of section 'INFO' at byte 16", self.write(bytes(whole)))

    def test_followed(self) -> None:
        self.refused("3 bytes follow", self.write(by_hand(INFO, *ROWS, *SITES, END) + b"abc"))

    def test_text(self) -> None:
        self.refused("is not a snapshot file", self.write(b"#include <stdio.h>\n"))

    def test_a_pickle_is_not_opened(self) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (os.path.join(directory, "opened"),)

        directory = self.directory
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            self.refused("looks like a pickle and is not opened", self.write(pickle.dumps(Trap(), protocol)))
        self.assertEqual(os.listdir(directory), ["a.snap"])

    def test_a_directory(self) -> None:
        self.refused("is a directory", self.directory)

    def test_a_fifo_does_not_hang(self) -> None:
        os.mkfifo(self.path)
        self.refused("not a regular file", self.path)
        self.refused("not a regular file", "/dev/zero")


class TestAtomic(TestWithDirectory):
    def setUp(self) -> None:
        super().setUp()
        self.snapshot = model.Snapshot(WIDE, 3)

    def fails(self, error: type[BaseException], snapshot: model.Snapshot | None = None) -> None:
        """Saving fails, over an existing file and where there is none, and nothing changes."""
        self.write(b"before")
        for path in (self.path, os.path.join(self.directory, "new.snap")):
            with self.assertRaises(error):
                snapfile.save(snapshot or self.snapshot, path)
        self.assertEqual(os.listdir(self.directory), ["a.snap"])
        self.assertEqual(self.read(), b"before")

    def test_a_full_disk(self) -> None:
        for call in ("fsync", "rename"):
            with patch(f"os.{call}", side_effect=OSError(errno.ENOSPC, "full")):
                self.fails(OSError)

    def test_an_interrupt_at_every_write(self) -> None:
        for allowed in range(20):
            real = snapfile._table
            calls = iter(range(100))

            def table(*columns: Any) -> bytes:
                if next(calls) == allowed:
                    raise KeyboardInterrupt
                return real(*columns)

            with patch.object(snapfile, "_table", table):
                self.write(b"before")
                try:
                    snapfile.save(self.snapshot, self.path)
                except KeyboardInterrupt:
                    self.assertEqual(self.read(), b"before")
                else:
                    self.assertGreater(allowed, 3)
                    break
                finally:
                    self.assertEqual(os.listdir(self.directory), ["a.snap"])

    def test_frames_that_cannot_be_had(self) -> None:
        class Broken(model.Site):
            @property
            def frames(self) -> model.RawFrames:
                raise RuntimeError("the program is gone")

        columns = array("Q", [0]), array("Q", [1]), array("Q", [1])
        self.fails(RuntimeError, model.Snapshot.from_columns([Broken(0, (), None)], *columns, 1))

    def test_values_that_no_file_holds(self) -> None:
        self.fails(snapfile.SnapshotError, model.Snapshot([(0, 1, (("a.c", -1),), 1)], 1))
        self.fails(snapfile.SnapshotError, model.Snapshot([(0, 1, (("\ud800.c", 1),), 1)], 1))

    def test_attributes_that_no_file_holds(self) -> None:
        loop: list[Any] = []
        loop.append(loop)
        for value in ({1, 2}, (1, 2), b"bytes", object(), float("nan"), float("inf"), {3: 4}, [{"a": [1j]}], loop):
            snapshot: Any = model.Snapshot(WIDE, 3)
            snapshot.odd_one = value
            self.fails(snapfile.SnapshotError, snapshot)
            self.assertRaisesRegex(snapfile.SnapshotError, "'odd_one'.*JSON", snapshot.dump, self.path)

    def test_attributes_that_hide_ours(self) -> None:
        snapshot: Any = model.Snapshot(WIDE, 3)
        snapshot.statistics = 3
        self.assertRaisesRegex(snapfile.SnapshotError, "'statistics'", snapfile.save, snapshot, self.path)

    def test_facts_of_other_types(self) -> None:
        facts: list[dict[str, Any]] = [{"info": {"time": b"now"}}, {"info": {3: 4}}, {"notes": [3]}]
        for more in facts:
            self.fails(snapfile.SnapshotError, columns_of(WIDE, **more))
        limit: Any = None
        self.fails(snapfile.SnapshotError, model.Snapshot(WIDE, limit))

    def test_too_much_to_say(self) -> None:
        self.fails(snapfile.SnapshotError, columns_of(WIDE, notes=["x" * (1 << 22)]))

    def test_permissions_stay(self) -> None:
        self.write(b"before")
        os.chmod(self.path, 0o640)
        snapfile.save(self.snapshot, self.path)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o640)

    def test_new_files_follow_the_umask(self) -> None:
        previous = os.umask(0o027)
        self.addCleanup(os.umask, previous)
        snapfile.save(self.snapshot, self.path)
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o640)

    def test_a_link_stays_one(self) -> None:
        self.write(b"before")
        link = os.path.join(self.directory, "link")
        os.symlink("a.snap", link)
        snapfile.save(self.snapshot, link)
        self.assertTrue(os.path.islink(link))
        self.assertEqual(len(snapfile.load(self.path).traces), len(WIDE))

    def test_devices_and_directories_are_not_replaced(self) -> None:
        os.mkfifo(self.path)
        for path in (self.path, "/dev/null", self.directory):
            self.assertRaisesRegex(snapfile.SnapshotError, "not a regular file", snapfile.save, self.snapshot, path)
        self.assertEqual(os.listdir(self.directory), ["a.snap"])

    def test_no_such_directory(self) -> None:
        path = os.path.join(self.directory, "none", "a.snap")
        with self.assertRaises(FileNotFoundError) as caught:
            snapfile.save(self.snapshot, path)
        self.assertEqual(caught.exception.filename, path)


if __name__ == "__main__":
    unittest.main()
