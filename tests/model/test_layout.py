"""test_layout.py: layout.py against layout.h, compiled; and what the readers make of images made by hand."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import tempfile
import unittest
from itertools import product
from pathlib import Path
from typing import Callable

TOP = Path(os.environ.get("TM_TOP_SRCDIR", Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(TOP / "gdb"))

from tm import layout, memory  # noqa: E402
from tm.blocks import BlockTable  # noqa: E402
from tm.layout import Record  # noqa: E402
from tm.memory import LayoutError, Unreadable  # noqa: E402
from tm.runtime import Runtime, holds_layout  # noqa: E402
from tm.salvage import Salvaged  # noqa: E402
from tm.skiplist import Skiplist  # noqa: E402

HEADER = TOP / "runtime" / "layout.h"
RECORDS = [layout.LAYOUT, layout.STATE, layout.LANE, layout.SLAB, layout.SITE, layout.REGION_TABLE, layout.MODULE,
           layout.NODE, layout.PAGE, layout.LINE, layout.WIDE_LINE, layout.DOMAIN]
# What ends in a flexible array is longer in C's eyes only by nothing, so sizes must agree everywhere.
CONSTANTS = {
    "TM_BYTE_ORDER": layout.BYTE_ORDER, "TM_ABI_MAJOR": layout.ABI_MAJOR, "TM_ABI_MINOR": layout.ABI_MINOR,
    "TM_SLAB_MAGIC": layout.SLAB_MAGIC, "TM_SLAB_HEADER": layout.SLAB_HEADER, "TM_PAGE_SHIFT": layout.PAGE_SHIFT,
    "TM_PHASE_MASK": layout.PHASE_MASK, "TM_OFFSET_SHIFT": layout.OFFSET_SHIFT, "TM_SIZE_BITS": layout.SIZE_BITS,
    "TM_SITE_BITS": layout.SITE_BITS, "TM_SITE_UNIT": layout.SITE_UNIT, "TM_SEGMENT_SHIFT": layout.SEGMENT_SHIFT,
    "TM_SEGMENT_COUNT": layout.SEGMENT_COUNT, "TM_SITE_CUT": layout.SITE_CUT, "TM_SITE_PACKED": layout.SITE_PACKED,
    "TM_SEGMENT_FIRST": layout.SEGMENT_FIRST, "TM_REGIONS": layout.REGIONS, "TM_REGION_SHIFT": layout.REGION_SHIFT,
    "TM_LINES_MASK": layout.LINES_MASK, "TM_LINES_MOST": layout.LINES_MOST, "TM_LINES_BEHIND": layout.LINES_BEHIND,
    "TM_PAGE_OFFSETS": layout.PAGE_OFFSETS, "TM_WIDE_MOST": layout.WIDE_MOST, "TM_WIDE_ENTRIES": layout.WIDE_ENTRIES,
    "TM_NARROW_SIZE_BITS": layout.NARROW_SIZE_BITS, "TM_SLAB_WIDE": layout.SLAB_WIDE,
    "TM_LINE_ENTRIES": layout.LINE_ENTRIES, "TM_SLAB_PAGE": layout.SLAB_PAGE, "TM_LEVELS": layout.LEVELS,
    "TM_LANES": layout.LANES, "TM_SLAB_OTHER": layout.SLAB_OTHER, "TM_SLAB_NODE": layout.SLAB_NODE,
    "TM_SLAB_ENTRY": layout.SLAB_ENTRY, "TM_SLAB_SITE": layout.SLAB_SITE, "TM_MODE_OFF": layout.MODE_OFF,
    "TM_MODE_TRACING": layout.MODE_TRACING, "TM_MODE_FORKING": layout.MODE_FORKING,
    "TM_LANE_STEP": layout.LANE_STEP, "TM_CLAIM_FREE": layout.CLAIM_FREE, "TM_CLAIM_TAKEN": layout.CLAIM_TAKEN,
    "TM_CLAIM_PAUSED": layout.CLAIM_PAUSED, "TM_DOMAIN_NAME_MAX": layout.DOMAIN_NAME_MAX,
    "TM_BUILD_ID_MAX": layout.BUILD_ID_MAX, "TM_MODULE_PATH_MAX": layout.MODULE_PATH_MAX,
}


def compiled(lines: list[str]) -> list[str]:
    """What a C program that includes layout.h and runs these statements prints."""
    source = "\n".join(["#include <stddef.h>", "#include <stdio.h>", f'#include "{HEADER}"', "int main(void) {",
                        *lines, "return 0; }"])
    with tempfile.TemporaryDirectory() as directory:
        binary = Path(directory) / "layout"
        subprocess.run([*os.environ.get("CC", "cc").split(), "-x", "c", "-", "-o", str(binary)], input=source,
                       text=True, check=True)
        return subprocess.run([str(binary)], stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")[:-1]


class HeaderTest(unittest.TestCase):
    """layout.py says what the compiler says of layout.h."""

    def test_constants(self) -> None:
        values = compiled([f'printf("%lld\\n", (long long)({name}));' for name in CONSTANTS])
        self.assertEqual(dict(zip(CONSTANTS, map(int, values))), CONSTANTS)

    def test_magic(self) -> None:
        values = compiled([f'printf("%d\\n", TM_LAYOUT_MAGIC[{index}] & 255);' for index in range(16)])
        self.assertEqual(bytes(map(int, values)), layout.MAGIC)

    def test_sizes(self) -> None:
        values = compiled([f'printf("%zu\\n", sizeof(struct {record.name}));' for record in RECORDS])
        self.assertEqual(dict(zip((record.name for record in RECORDS), map(int, values))),
                         {record.name: record.size for record in RECORDS})

    def test_offsets_and_widths(self) -> None:
        for record in RECORDS:
            with self.subTest(record=record.name):
                names = list(record.offsets)
                values = compiled([
                    f'printf("%zu %zu\\n", offsetof(struct {record.name}, {name}), '
                    f'sizeof ((struct {record.name} *)0)->{name});' for name in names])
                ends = [*list(record.offsets.values())[1:], record.size]
                expected = [f"{record.offsets[name]} {end - record.offsets[name]}" for name, end in zip(names, ends)]
                self.assertEqual(dict(zip(names, values)), dict(zip(names, expected)))

    def test_every_field_is_known(self) -> None:
        text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
        text = re.sub(r"TM_ADDRESS\([^,()]+, (\w+)\)", r"void *\1", text)
        for record in RECORDS:
            with self.subTest(record=record.name):
                body = re.search(rf"struct {record.name} {{(.*?)\n}};", text, re.DOTALL)
                assert body is not None
                fields = re.findall(r"(\w+)(?:\[\w*\])?;", body[1])
                flexible = re.findall(r"(\w+)\[\];", body[1])
                self.assertEqual([field for field in fields if field not in flexible], list(record.offsets))


class Image:
    """Memory of an imagined program, put together record by record."""

    def __init__(self, order: str = "<", pointer_size: int = 8) -> None:
        self.order = order
        self.parts: dict[int, bytearray] = {}
        self.pointer_size = pointer_size
        self.reads = 0

    def put(self, address: int, data: bytes) -> int:
        self.parts[address] = bytearray(data)
        return address

    def record(self, address: int, kind: Record, /, **values: object) -> int:
        data = bytearray(kind.size)
        for name, value in values.items():
            code = dict(kind.fields)[name]
            items = value if isinstance(value, (tuple, list)) else (value,)
            struct.pack_into(self.order + code, data, kind.offsets[name], *items)
        return self.put(address, data)

    def read(self, address: int, length: int) -> bytes:
        self.reads += 1
        for start, data in self.parts.items():
            if start <= address and address + length <= start + len(data):
                return bytes(data[address - start:address - start + length])
        raise Unreadable(address, length)

    def words(self, *values: int) -> bytes:
        return struct.pack(f"{self.order}{len(values)}Q", *values)


LAYOUT_AT, STATE_AT, SEGMENTS_AT, HEAD_AT, TOWER_AT = 0x1000, 0x2000, 0x10000, 0x20000, 0x21000
NODES_AT, ENTRIES_AT, SITES_AT, PAGES_AT, MODULES_AT = 0x100000, 0x200000, 0x400000, 0x600000, 0x700000
WIDE_AT, DOMAINS_AT = 0x300000, 0x800000
LINES_AT = ENTRIES_AT + layout.SLAB_HEADER  # one of the first node, and a free one
WIDE_LINES_AT = WIDE_AT + layout.SLAB_HEADER  # two of the second node
NARROW, WIDE = layout.WIDTHS[layout.SLAB_ENTRY], layout.WIDTHS[layout.SLAB_WIDE]


def shape(width: layout.Width, count: int) -> int:
    """What the low bits of tm_page.lines are for so many lines."""
    return count if width is NARROW else layout.LINES_MOST + count


def entry(site: int, size: int) -> int:
    return site << layout.SIZE_BITS | size & layout.SIZE_MASK


def line(order: str, width: layout.Width, *slots: tuple[int, int, int]) -> bytes:
    """A line with these (offset, site, size) in its slots."""
    record = Image(order)
    offsets = bytes(offset for offset, _, _ in slots).ljust(width.entries, b"\0")
    entries = [site << width.size_bits | size for _, site, size in slots]
    record.record(0, width.record, offsets=offsets, used=(1 << len(slots)) - 1,
                  entries=entries + [0] * (width.entries - len(slots)))
    return bytes(record.parts[0])


def example(order: str = "<", pointer_size: int = 8, **header: object) -> Image:
    """Two nodes: one with two blocks in a line, one with two wide lines and a block of 1 TiB; two sites."""
    image = Image(order, pointer_size)
    image.record(LAYOUT_AT, layout.LAYOUT, **{
        "magic": layout.MAGIC, "byte_order": layout.BYTE_ORDER, "abi_major": 1, "abi_minor": 0,
        "pointer_size": pointer_size, "layout_size": layout.LAYOUT.size, "state_size": layout.STATE.size,
        "self": LAYOUT_AT, "state": STATE_AT, **header})
    lanes = bytearray(layout.LANES * layout.LANE.size)
    struct.pack_into(order + "qq", lanes, 0, 976, 1005)
    struct.pack_into(order + "qq", lanes, 3 * layout.LANE.size, 100, 700)
    image.record(STATE_AT, layout.STATE, mode=1, frame_limit=25, peak=1200, lost=2, arena_bytes=1 << 22,
                 slabs=NODES_AT, head=HEAD_AT, segments=SEGMENTS_AT, modules=MODULES_AT, module_count=1, unloads=1,
                 site_count=2, node_count=2, domains=DOMAINS_AT, domain_count=3, lanes=bytes(lanes))
    first, second = NODES_AT + layout.SLAB_HEADER, NODES_AT + layout.SLAB_HEADER + layout.NODE.size
    image.record(HEAD_AT, layout.NODE, height=layout.LEVELS, next=first, tower=TOWER_AT)
    image.put(TOWER_AT, image.words(second, *[0] * 14))
    node_slab = Image(order)
    node_slab.record(0, layout.SLAB, magic=layout.SLAB_MAGIC, kind=layout.SLAB_NODE, size=0x10000,
                     used=2 * layout.NODE.size, next=ENTRIES_AT)
    first_page, second_page = PAGES_AT + layout.SLAB_HEADER, PAGES_AT + layout.SLAB_HEADER + layout.PAGE.size
    node_slab.record(1, layout.NODE, key=0x50000, height=1, next=second, page=first_page)
    node_slab.record(2, layout.NODE, key=0x51008, height=2, tower=TOWER_AT + 8 * 14, page=second_page)
    image.put(NODES_AT, b"".join(node_slab.parts.values()))
    page_slab = Image(order)
    page_slab.record(0, layout.SLAB, magic=layout.SLAB_MAGIC, kind=layout.SLAB_PAGE, size=0x1000,
                     used=2 * layout.PAGE.size)
    page_slab.record(1, layout.PAGE, node=first | 1, lines=LINES_AT | 1)
    page_slab.record(2, layout.PAGE, node=second, lines=WIDE_LINES_AT | shape(WIDE, 2))
    image.put(PAGES_AT, b"".join(page_slab.parts.values()))
    entry_slab = Image(order)
    entry_slab.record(0, layout.SLAB, magic=layout.SLAB_MAGIC, kind=layout.SLAB_ENTRY, size=0x10000,
                      used=2 * layout.LINE.size, next=WIDE_AT)
    free = image.words(1 << 31, 123, *[0] * 6)
    image.put(ENTRIES_AT, bytes(entry_slab.parts[0]) + line(order, NARROW, (2, 3, 40), (77, 0, 0), (8, 3, 40)) + free)
    wide_slab = Image(order)
    wide_slab.record(0, layout.SLAB, magic=layout.SLAB_MAGIC, kind=layout.SLAB_WIDE, size=0x10000,
                     used=2 * layout.WIDE_LINE.size, next=SITES_AT)
    image.put(WIDE_AT, bytes(wide_slab.parts[0]) + line(order, WIDE, (4, 4, 100), (1, 3, 8)) +
              line(order, WIDE, (255, 4, (1 << 40) & layout.SIZE_MASK)))
    site_slab = Image(order)
    site_slab.record(0, layout.SLAB, magic=layout.SLAB_MAGIC, kind=layout.SLAB_SITE, size=0x1000, used=256,
                     next=PAGES_AT)
    site_slab.record(1, layout.REGION_TABLE, starts=(1, *[0] * 14, 0x7fff00000001))
    site_slab.record(2, layout.SITE, domain=0, nframe=3, flags=layout.SITE_PACKED, unloads=1, number=7)
    site_slab.put(3, struct.pack(f"{order}3I", 0x401000, 0x402000, 15 << layout.REGION_SHIFT | 0x3000) + bytes(28))
    site_slab.record(4, layout.SITE, domain=0, nframe=1, flags=layout.SITE_CUT, size_high=4)
    site_slab.put(5, image.words(0x404000) + bytes(32))
    data = bytearray(b"".join(site_slab.parts.values()))
    image.put(SITES_AT, data + bytes(0x1000 - len(data)))
    image.put(SEGMENTS_AT, image.words(SITES_AT, *[0] * (layout.SEGMENT_COUNT - 1)))
    image.record(MODULES_AT, layout.MODULE, start=0x402000, end=0x403000, bias=0x400000, unload=1, build_id_length=4,
                 build_id=b"abcd", path=b"/lib/libplugin.so")
    names = Image(order)
    for number, (domain, name) in enumerate(((3, b"sprites"), (7, b"caf\xc3\xa9 \xff"), (3, b"textures"))):
        names.record(number, layout.DOMAIN, domain=domain, name=name)
    image.put(DOMAINS_AT, b"".join(names.parts.values()))
    return image


class DecodeTest(unittest.TestCase):

    def test_all_byte_orders_and_pointer_sizes(self) -> None:
        for order in "<>":
            for pointer_size in (4, 8):
                with self.subTest(order=order, pointer_size=pointer_size):
                    self.check(Runtime(example(order, pointer_size).read, LAYOUT_AT), pointer_size)

    def check(self, found: Runtime, pointer_size: int) -> None:
        self.assertEqual((found.pointer_size, found.abi), (pointer_size, (1, 0)))
        state = found.state
        self.assertTrue(state.is_tracing)
        self.assertEqual((state.frame_limit, state.current, state.peak, state.lost), (25, 1076, 1676, 2))
        self.assertEqual(state.peak_bound, layout.LANE_STEP)
        counted = found.count_blocks()
        self.assertEqual(sorted(zip(counted.numbers, counted.sizes, counted.counts)),
                         [(3, 8, 1), (3, 40, 2), (4, 4 << 38, 1), (4, 100 + (4 << 38), 1)])
        self.assertEqual(counted.sites[3].pcs, (0x401000, 0x402000, 0x7fff00003000))
        self.assertTrue(counted.sites[4].is_cut)
        module, = found.modules()
        self.assertEqual((module.path, module.build_id, module.unload), ("/lib/libplugin.so", b"abcd", 1))
        self.assertEqual(counted.sites[3].number, 7)
        self.assertEqual(found.domain_names(), {3: "textures", 7: "caf\xe9 \ufffd"})
        blocks = list(Skiplist(found).blocks())
        self.assertEqual([block.address for block in blocks],
                         [0x50020, 0x50080, 0x51008 + 0x40, 0x51008 + 0x10, 0x51008 + 0xff0])
        columns = BlockTable(found).columns()
        self.assertEqual(list(columns.addresses), [block.address for block in blocks])
        self.assertEqual([entry & layout.SIZE_MASK for entry in columns.entries], [40, 40, 100, 8, 0])
        entries = [number << layout.SIZE_BITS | size & layout.SIZE_MASK
                   for number, size in zip(counted.numbers, counted.sizes)]
        expanded = columns.expanded(entries, counted.counts)
        assert expanded is not None
        self.assertEqual(sorted(expanded), sorted(columns.addresses))
        self.assertEqual([expanded[index] for index in (0, 1)], [0x50020, 0x50080])
        self.assertEqual(found.notes, [])

    def test_block_holding_an_address(self) -> None:
        found = Skiplist(Runtime(example().read, LAYOUT_AT))

        def start(address: int) -> int | None:
            block = found.holding(address)
            return block.address if block else None

        self.assertEqual(start(0x50020), 0x50020)
        self.assertEqual(start(0x50020 + 39), 0x50020)
        self.assertIsNone(start(0x50020 + 40))
        self.assertIsNone(start(0x5001f))
        self.assertIsNone(start(0))
        self.assertEqual(start(0x51008 + 0x10 + 7), 0x51018)
        self.assertIsNone(start(0x51008 + 0x10 + 8))
        self.assertEqual(start(0x51008 + 0xff0 + (1 << 39)), 0x51008 + 0xff0)


class SpilledTest(unittest.TestCase):
    """A block lies in its own line or one of the two behind it; behind the last comes the first. What lies elsewhere is
    none of the page's."""

    def test_lines(self) -> None:
        for order, (slab_at, width) in product("<>", ((ENTRIES_AT, NARROW), (WIDE_AT, WIDE))):
            image = example(order)
            lines_at = layout.SLAB_HEADER + layout.PAGE.offsets["lines"]
            start = slab_at + layout.SLAB_HEADER
            struct.pack_into(order + "Q", image.parts[PAGES_AT], lines_at, start | shape(width, 4))
            page_at = layout.SLAB_HEADER + layout.NODE.size + layout.NODE.offsets["page"]
            struct.pack_into(order + "Q", image.parts[NODES_AT], page_at, 0)
            lines = b"".join(line(order, width, (offset, 3, 40)) for offset in (140, 10, 130, 50))
            image.parts[slab_at] = image.parts[slab_at][:layout.SLAB_HEADER] + lines
            used_at = layout.SLAB.offsets["used"]
            struct.pack_into(order + "Q", image.parts[slab_at], used_at, len(lines))
            found = Runtime(image.read, LAYOUT_AT)
            expected = [0x50000 + offset * 16 for offset in (140, 10, 130)]
            self.assertEqual(BlockTable(found).columns().addresses.tolist(), expected)
            self.assertEqual(found.notes, [])
            self.assertEqual([block.address for block in Skiplist(found).blocks()], expected)
            self.assertIn("entries cannot be read", " ".join(found.notes))


class MovingTest(unittest.TestCase):
    """A thread that was stopped while a page got more lines: its blocks are there twice, and count once."""

    def moving(self, order: str, is_done: bool, width: layout.Width = NARROW) -> Image:
        """The first page's two blocks, in its line and in two others of that width; it leads to those if `is_done`."""
        image = example(order)
        slab_at = ENTRIES_AT if width is NARROW else WIDE_AT
        to = slab_at + len(image.parts[slab_at]) | shape(width, 2)
        image.parts[slab_at] += line(order, width, (2, 3, 40), (8, 3, 40)) + line(order, width)
        used_at, lines_at = layout.SLAB.offsets["used"], layout.SLAB_HEADER + layout.PAGE.offsets["lines"]
        struct.pack_into(order + "Q", image.parts[slab_at], used_at, len(image.parts[slab_at]) - layout.SLAB_HEADER)
        if is_done:
            struct.pack_into(order + "Q", image.parts[PAGES_AT], lines_at, to)
        lane_at = layout.STATE.offsets["lanes"] + 5 * layout.LANE.size + layout.LANE.offsets["growing"]
        struct.pack_into(order + "3Q", image.parts[STATE_AT], lane_at, PAGES_AT + layout.SLAB_HEADER, LINES_AT | 1,
                         to)
        return image

    def test_each_block_counts_once(self) -> None:
        for order, is_done, width in product("<>", (False, True), (NARROW, WIDE)):
            with self.subTest(order=order, is_done=is_done, width=width.record.name):
                found = Runtime(self.moving(order, is_done, width).read, LAYOUT_AT)
                whole = Runtime(example(order).read, LAYOUT_AT).count_blocks()
                table = BlockTable(found)
                for counted in (found.count_blocks(), found.count_blocks(table.stretches)):
                    self.assertEqual(sorted(zip(*counted[:3])), sorted(zip(*whole[:3])))
                self.assertEqual(table.columns().addresses[:2].tolist(), [0x50020, 0x50080])
                self.assertEqual([block.address for block in Skiplist(found).blocks()][:2], [0x50020, 0x50080])
                self.assertEqual(found.notes, [])

    def test_a_move_that_makes_no_sense(self) -> None:
        for page in (5, (1 << 64) - 1):
            image = self.moving("<", False)
            lane_at = layout.STATE.offsets["lanes"] + 5 * layout.LANE.size + layout.LANE.offsets["growing"]
            struct.pack_into("<3Q", image.parts[STATE_AT], lane_at, page, (1 << 64) - 1, (1 << 64) - 1)
            self.noted(image, 7)

    def noted(self, image: Image, blocks: int) -> None:
        found = Runtime(image.read, LAYOUT_AT)
        self.assertEqual(sum(found.count_blocks().counts), blocks)
        self.assertIn("may be there twice", " ".join(found.notes))

    def test_moves_that_hide_blocks(self) -> None:
        lane_at = layout.STATE.offsets["lanes"] + 5 * layout.LANE.size + layout.LANE.offsets["growing"]
        for page, old, new in ((5, 0, LINES_AT | 1), (PAGES_AT + layout.SLAB_HEADER, LINES_AT | 1, LINES_AT | 63),
                               (PAGES_AT + layout.SLAB_HEADER, LINES_AT | 1, LINES_AT | 1)):
            image = example()
            struct.pack_into("<3Q", image.parts[STATE_AT], lane_at, page, old, new)
            self.noted(image, 5)

    def test_two_lanes_that_move_the_same(self) -> None:
        image = self.moving("<", False)
        lane_at = layout.STATE.offsets["lanes"] + 5 * layout.LANE.size + layout.LANE.offsets["growing"]
        move = image.parts[STATE_AT][lane_at:lane_at + 24]
        image.parts[STATE_AT][lane_at + layout.LANE.size:lane_at + layout.LANE.size + 24] = move
        self.noted(image, 5)


class DamageTest(unittest.TestCase):
    """Damage gives a partial answer with a note, or one sentence; never a hang."""

    def refused(self, image: Image, *words: str) -> None:
        with self.assertRaises(LayoutError) as caught:
            Runtime(image.read, LAYOUT_AT)
        for word in words:
            self.assertIn(word, str(caught.exception))

    def test_headers(self) -> None:
        self.refused(example(abi_major=2, abi_minor=3), "2.3", "1.x")
        self.refused(example(magic=b"x" * 16), "magic")
        self.refused(example(byte_order=7), "byte order")
        self.refused(example(self=0), "not initialised")
        self.refused(example(state_size=8), "damaged")
        self.refused(example(pointer_size=5), "damaged")
        self.refused(example(state=0x999000), "tm_state", "0x999000")
        self.refused(Image(), "tm_layout", "cannot read")

    def test_a_later_minor_is_read(self) -> None:
        found = Runtime(example(abi_minor=7, layout_size=200, state_size=99999).read, LAYOUT_AT)
        self.assertEqual(found.abi, (1, 7))

    def test_a_copy_is_not_the_layout(self) -> None:
        image = example()
        image.put(0x3000, bytes(image.parts[LAYOUT_AT]))
        self.assertTrue(holds_layout(image.read, LAYOUT_AT))
        self.assertFalse(holds_layout(image.read, 0x3000))
        self.assertFalse(holds_layout(image.read, 0x999000))

    def noted(self, image: Image, *words: str) -> Runtime:
        found = Runtime(image.read, LAYOUT_AT)
        found.count_blocks()
        list(Skiplist(found).blocks())
        notes = " ".join(found.notes)
        for word in words:
            self.assertIn(word, notes)
        return found

    def poke(self, image: Image, part: int, offset: int, code: str, value: int) -> Image:
        struct.pack_into(image.order + code, image.parts[part], offset, value)
        return image

    def test_slab_lists(self) -> None:
        next_at = layout.SLAB.offsets["next"]
        self.noted(self.poke(example(), ENTRIES_AT, next_at, "Q", NODES_AT), "list of slabs is damaged", "0x100000")
        self.noted(self.poke(example(), ENTRIES_AT, next_at, "Q", 0x999000), "breaks off", "0x999000")
        self.noted(self.poke(example(), ENTRIES_AT, 0, "I", 1), "list of slabs is damaged", "0x200000")
        self.noted(self.poke(example(), ENTRIES_AT, layout.SLAB.offsets["size"], "Q", 1 << 60), "damaged")
        self.noted(self.poke(example(), ENTRIES_AT, layout.SLAB.offsets["used"], "Q", 1 << 50), "more than it has")

    def test_used_beyond_what_can_be_read(self) -> None:
        image = self.poke(example(), ENTRIES_AT, layout.SLAB.offsets["used"], "Q", 0x8000)
        counted = Runtime(image.read, LAYOUT_AT).count_blocks()
        self.assertGreater(counted.missing, 0x7e00)
        self.assertLess(image.reads, 200)

    def test_sites(self) -> None:
        nframe_at = layout.SEGMENT_FIRST * layout.SITE_UNIT + layout.SITE.offsets["nframe"]
        found = self.noted(self.poke(example(), SITES_AT, nframe_at, "I", 65536), "1 site cannot be read")
        self.assertEqual(found.site(3).pcs, ())
        self.noted(self.poke(example(), SEGMENTS_AT, 0, "Q", 0x999000), "2 sites cannot be read")
        for start in (0, 0x7fff00000000, 0x7fff00001001, (1 << 64) - 1):
            starts_at = layout.SLAB_HEADER + 15 * 8
            self.noted(self.poke(example(), SITES_AT, starts_at, "Q", start), "1 site cannot be read")
        image = self.poke(example(), ENTRIES_AT, layout.SLAB_HEADER + layout.LINE.offsets["entries"], "I",
                          1 << layout.NARROW_SIZE_BITS | 40)
        found = self.noted(image, "1 site cannot be read")
        self.assertEqual(found.site(1).pcs, ())
        self.noted(self.poke(example(), STATE_AT, layout.STATE.offsets["segments"], "Q", 8), "2 sites cannot be read")

    def test_skiplists(self) -> None:
        second_next = layout.SLAB_HEADER + layout.NODE.size + layout.NODE.offsets["next"]
        image = self.poke(example(), NODES_AT, second_next, "Q", NODES_AT + layout.SLAB_HEADER)
        self.noted(image, "skiplist is damaged", "does not rise")
        with self.assertRaises(LayoutError):
            Skiplist(Runtime(image.read, LAYOUT_AT)).holding(0x60000)
        self.noted(self.poke(example(), HEAD_AT, layout.NODE.offsets["next"], "Q", 3), "node at 0x3 cannot be read")
        page_at = layout.SLAB_HEADER + layout.NODE.offsets["page"]
        self.noted(self.poke(example(), NODES_AT, page_at, "Q", 5), "entries cannot be read")
        lines_at = layout.SLAB_HEADER + layout.PAGE.offsets["lines"]
        for lines in (0x999063, LINES_AT, LINES_AT | 60):
            self.noted(self.poke(example(), PAGES_AT, lines_at, "Q", lines), "entries cannot be read")

    def test_blocks_in_bulk(self) -> None:
        def addresses(image: Image) -> list[int]:
            return list(BlockTable(Runtime(image.read, LAYOUT_AT)).columns().addresses)

        everything = addresses(example())
        self.assertEqual(len(everything), 5)
        page_at = layout.SLAB_HEADER + layout.NODE.size + layout.NODE.offsets["page"]
        for address in (0, 5, (1 << 64) - 3):
            self.assertEqual(addresses(self.poke(example(), NODES_AT, page_at, "Q", address)), everything[:2])
        lines_at = layout.SLAB_HEADER + layout.PAGE.size + layout.PAGE.offsets["lines"]
        for address in (0, 5, 0x999063, (1 << 64) - 1, WIDE_LINES_AT | 60, WIDE_LINES_AT):
            self.assertEqual(addresses(self.poke(example(), PAGES_AT, lines_at, "Q", address)), everything[:2])
        image = self.poke(example(), PAGES_AT, lines_at, "Q", WIDE_LINES_AT | shape(WIDE, 1))
        self.assertEqual(addresses(image), everything[:4])
        found = Runtime(image.read, LAYOUT_AT)
        self.assertIsNone(BlockTable(found).columns().expanded([entry(3, 40), entry(4, 1 << 40)], [2, 1]))

    def test_domain_names(self) -> None:
        image = self.poke(example(), STATE_AT, layout.STATE.offsets["domain_count"], "Q", 1 << 60)
        found = Runtime(image.read, LAYOUT_AT)
        self.assertEqual(found.domain_names()[3], "textures")
        self.assertIn("names of domains cannot be read", " ".join(found.notes))

    def test_modules(self) -> None:
        image = self.poke(example(), STATE_AT, layout.STATE.offsets["module_count"], "I", 0xffffffff)
        found = Runtime(image.read, LAYOUT_AT)
        self.assertEqual(len(found.modules()), 1)
        self.assertIn("unloaded modules cannot be read", " ".join(found.notes))
        reads = image.reads
        self.assertEqual(len(found.modules()), 1)
        self.assertEqual(image.reads, reads)

    def test_random_damage(self) -> None:
        import random
        pick = random.Random(3)
        for _ in range(400):
            image = example(pick.choice("<>"))
            for _ in range(pick.randrange(1, 6)):
                part = pick.choice(list(image.parts.values()))
                part[pick.randrange(min(len(part), 512))] = pick.randrange(256)
            try:
                found = Runtime(image.read, LAYOUT_AT)
                found.count_blocks()
                found.modules()
                found.domain_names()
                BlockTable(found).columns()
                list(Skiplist(found).blocks())
                Skiplist(found).holding(0x50030)
            except LayoutError as error:
                self.assertNotIn("\n", str(error))
            self.assertLess(image.reads, 400000)


class SalvageTest(unittest.TestCase):
    """Without tm_layout and tm_state the blocks are still there."""

    def ranges(self, image: Image) -> list[tuple[int, int]]:
        return [(start, start + len(data)) for start, data in image.parts.items()]

    def test_slabs_alone(self) -> None:
        for order in "<>":
            with self.subTest(order=order):
                image = example(order)
                whole = Runtime(image.read, LAYOUT_AT).count_blocks()
                for address in (LAYOUT_AT, STATE_AT, HEAD_AT, TOWER_AT, SEGMENTS_AT):
                    del image.parts[address]
                found = Salvaged(image.read, self.ranges(image))
                self.assertEqual(sorted(zip(*found.count_blocks()[:3])), sorted(zip(*whole[:3])))
                self.assertEqual(found.count_blocks().sites, whole.sites)
                block = Skiplist(found).holding(0x50025)
                assert block is not None
                self.assertEqual((block.address, block.size), (0x50020, 40))
                self.assertIn("cut short", found.notes[0])

    def test_sites_that_are_lost(self) -> None:
        image = example()
        del image.parts[SITES_AT]
        found = Salvaged(image.read, self.ranges(image))
        self.assertEqual(sum(found.count_blocks().counts), 5)
        self.assertIn("2 sites cannot be read", " ".join(found.notes))

    def test_nothing_left(self) -> None:
        with self.assertRaises(LayoutError):
            Salvaged(Image().read, [(0, 1 << 20)])


class MemoryTest(unittest.TestCase):

    def test_pieces_around_holes(self) -> None:
        image = Image()
        image.put(0, bytes(range(256)) * 16)
        found = list(memory.pieces(image.read, 0, 3 * 4096, 128))
        self.assertEqual(b"".join(data for _, _, data in found if data is not None), bytes(range(256)) * 16)
        self.assertEqual(sum(length for _, length, data in found if data is None), 2 * 4096)

    def test_a_large_hole_costs_few_reads(self) -> None:
        image = Image()
        list(memory.pieces(image.read, 0, 1 << 36))
        self.assertLess(image.reads, 10)

    def test_find_across_pieces(self) -> None:
        image = Image()
        image.put(0, bytes(memory.PIECE - 3) + b"needle" + bytes(5000) + b"needle")
        self.assertEqual(list(memory.find(image.read, b"needle", [(0, memory.PIECE + 5009)])),
                         [memory.PIECE - 3, memory.PIECE + 5003])

    def test_cache(self) -> None:
        image = Image()
        image.put(0x10000, bytes(range(256)) * 256)
        image.put(0x20000, b"abc")
        cache = memory.Cache(image.read)
        self.assertEqual(bytes(cache(0x10100, 3)), b"\0\1\2")
        self.assertEqual(bytes(cache(0x10201, 3)), b"\1\2\3")
        self.assertEqual(bytes(cache(0x20001, 2)), b"bc")
        self.assertEqual(image.reads, 3)
        with self.assertRaises(Unreadable):
            cache(0x20001, 3)


class PlainPythonTest(unittest.TestCase):

    def test_functions_need_gdb(self) -> None:
        import tm
        functions: list[Callable[[], object]] = [
            tm.take_snapshot, tm.is_tracing, tm.get_traced_memory, tm.get_traceback_limit, tm.get_tracemalloc_memory,
            lambda: tm.get_object_traceback(1)]
        for function in functions:
            with self.assertRaisesRegex(RuntimeError, "GDB"):
                function()


if __name__ == "__main__":
    unittest.main()
