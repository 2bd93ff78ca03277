"""runtime.py: what a runtime says of itself, from its exported tm_layout: its state, slabs, sites, modules, domains.

Knows nothing of GDB: it is given a Read (memory.py). What it reads is not trusted: every pointer may be NULL or
garbage, every count and number is bounded, every list may be a loop. Damage gives a partial answer, described in
`Runtime.notes`, or one LayoutError.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .layout import (ABI_MAJOR, BUILD_ID_MAX, BYTE_ORDER, CLAIM_FREE, CLAIM_PAUSED, DOMAIN, DOMAINS_MAX, LANE,
                     LANE_STEP, LAYOUT, MAGIC, MODE_FORKING, MODE_TRACING, MODULE, MODULES_MAX, PAGE, SEGMENT_COUNT,
                     SLAB, SLAB_HEADER, SLAB_MAGIC, SLAB_SIZE_MAX, SLABS_MAX, STATE, Module, Slab, lines_at)
from .memory import LayoutError, Read, Unreadable, pieces, words
from .tables import Tables


class State(NamedTuple):
    """tm_state, with the lanes added up."""

    is_tracing: bool
    is_forking: bool
    frame_limit: int
    blocks: int  # live ones
    current: int  # bytes in them
    peak: int
    peak_bound: int  # bytes that the true peak may lie above or below `peak`; 0 where only one lane is in use
    inside: int  # threads that record or forget a block at this moment
    paused: int  # those of them that wait for a fork to end
    lost: int
    arena_bytes: int
    slabs: int
    head: int
    segments: int
    modules: int
    module_count: int
    site_count: int
    node_count: int
    unloads: int
    unloads_lost: int
    started: int
    domains: int
    domain_count: int


def holds_layout(read: Read, address: int) -> bool:
    """Whether the one tm_layout that is meant, not a copy, lies at `address`, which may be anything."""
    try:
        data = read(address, LAYOUT.size)
    except Unreadable:
        return False
    if bytes(data[:len(MAGIC)]) != MAGIC:
        return False
    return any(LAYOUT.unpack(order, data)["self"] == address for order in "<>")


class Runtime(Tables):
    """What the runtime of one stopped program or core exports. Valid until the program runs on."""

    def __init__(self, read: Read, address: int) -> None:
        """`address` is where tm_layout is said to be; LayoutError says in what it is not one, or not for us."""
        try:
            data = read(address, LAYOUT.size)
        except Unreadable:
            raise Unreadable(address, LAYOUT.size, "tm_layout") from None
        byteorder = _byteorder(data)
        header = LAYOUT.unpack("<" if byteorder == "little" else ">", data)
        _check_header(header, address)
        super().__init__(read, byteorder, header["pointer_size"])
        self.address = address
        self.abi = (header["abi_major"], header["abi_minor"])
        self._state_address: int = header["state"]
        self._slabs: list[Slab] | None = None
        self._modules: list[Module] | None = None
        self.state = self._read_state()
        self.head = self.state.head

    def _read_state(self) -> State:
        try:
            fields = self.record(STATE, self._state_address)
        except Unreadable:
            raise Unreadable(self._state_address, STATE.size, "the runtime's tm_state") from None
        self._lanes: bytes = fields["lanes"]
        lanes = list(LANE.iter_unpack(self.order, self._lanes, "bytes", "high", "claimed", "resets", "blocks"))
        in_use = sum(1 for held, high, *_ in lanes if held or high)
        claims = [claimed for _, _, claimed, *_ in lanes if claimed != CLAIM_FREE]
        current = sum(held for held, *_ in lanes)
        resets = fields["resets"] & 0xffffffff
        climbs = [high - held for held, high, _, counted_from, _ in lanes if counted_from == resets]
        peak = max(fields["peak"], current + max(climbs, default=0), current)
        if current < 0:
            self.note(f"the runtime's sum of bytes is damaged ({current}): taken as 0")
        count = sum(blocks for *_, blocks in lanes)
        if count < 0:
            self.note(f"the runtime's sum of blocks is damaged ({count}): taken as 0")
        as_they_are = {name: fields[name] for name in State._fields if name in STATE.offsets}
        is_tracing = bool(fields["mode"] & MODE_TRACING)
        as_they_are.update(blocks=max(count, 0), current=max(current, 0), peak=peak if is_tracing else 0)
        return State(is_tracing=is_tracing, is_forking=bool(fields["mode"] & MODE_FORKING),
                     peak_bound=LANE_STEP * max(in_use - 1, 0), inside=len(claims), paused=claims.count(CLAIM_PAUSED),
                     **as_they_are)

    def slabs(self) -> list[Slab]:
        """The slabs, newest first, as far as their list is sound."""
        if self._slabs is None:
            self._slabs = self._read_slabs()
        return self._slabs

    def _read_slabs(self) -> list[Slab]:
        slabs: list[Slab] = []
        seen: set[int] = set()
        # The kernel's pages are counted before or after a slab is linked, so the sum has some slack.
        room = 2 * self.state.arena_bytes + (256 << 20)
        address = self.state.slabs
        while address:
            try:
                fields = self.record(SLAB, address)
            except Unreadable as error:
                self.note(f"the runtime's list of slabs breaks off: {error}; blocks in older slabs are missing")
                break
            size = fields["size"]
            room -= size
            if (address in seen or fields["magic"] != SLAB_MAGIC or not SLAB_HEADER <= size <= SLAB_SIZE_MAX
                    or room < 0 or len(slabs) >= SLABS_MAX):
                self.note(f"the runtime's list of slabs is damaged at {address:#x}; blocks in older slabs are missing")
                break
            seen.add(address)
            used = min(fields["used"], size - SLAB_HEADER)
            if used != fields["used"]:
                self.note(f"the slab at {address:#x} claims {fields['used']} used bytes, more than it has")
            slabs.append(Slab(address, fields["kind"], size, used, fields["number"]))
            address = fields["next"]
        return slabs

    def outdated_lines(self) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for page, old, new in LANE.iter_unpack(self.order, self._lanes, "growing", "from", "to"):
            if not page:
                continue
            now = self._lines_of(page)
            lines = lines_at(new if now == old else old)
            is_sound = now in (old, new) and old != new and lines_at(old) and lines_at(new)
            if lines and is_sound and all(lines.end <= start or end <= lines.start for start, end in found):
                found.append((lines.start, lines.end))
            else:
                self.note("what a thread says of the blocks that it was moving is damaged: these may be there twice")
        return found

    def _lines_of(self, page: int) -> int:
        try:
            lines: int = self.record(PAGE, page)["lines"]
        except Unreadable:
            return 0
        return lines

    def segment_address(self, index: int) -> int:
        if index >= SEGMENT_COUNT:
            return 0
        try:
            entry = self.read(self.state.segments + 8 * index, 8)
        except Unreadable:
            return 0
        return words(memoryview(entry).cast("B"), self.byteorder)[0]

    def modules(self) -> list[Module]:
        """The unloaded modules that the table keeps, oldest first; those that make no sense are left out."""
        if self._modules is None:
            self._modules = self._read_modules()
        return self._modules

    def _read_modules(self) -> list[Module]:
        count = min(self.state.module_count, MODULES_MAX)
        modules = []
        for index in range(count):
            try:
                fields = self.record(MODULE, self.state.modules + index * MODULE.size)
            except Unreadable:
                self.note("the table of unloaded modules cannot be read; frames in them have no names")
                break
            if fields["start"] < fields["end"]:
                build_id = fields["build_id"][:min(fields["build_id_length"], BUILD_ID_MAX)]
                path = fields["path"].partition(b"\0")[0].decode("utf-8", "replace")
                modules.append(Module(fields["start"], fields["end"], fields["bias"], fields["unload"], build_id, path))
        if self.state.unloads_lost:
            self.note(f"{self.state.unloads_lost} more modules were unloaded than the runtime could note; "
                      "frames in them have no names")
        return modules

    def domain_names(self) -> dict[int, str]:
        count = min(self.state.domain_count, DOMAINS_MAX)
        names = {}
        for _, length, part in pieces(self.read, self.state.domains, count * DOMAIN.size, DOMAIN.size):
            if part is None:
                self.note("some names of domains cannot be read")
                continue
            for offset in range(0, length, DOMAIN.size):
                fields = DOMAIN.unpack(self.order, part, offset)
                names[fields["domain"]] = fields["name"].partition(b"\0")[0].decode("utf-8", "replace")
        return names


def _byteorder(data: bytes | memoryview) -> str:
    if bytes(data[:len(MAGIC)]) != MAGIC:
        raise LayoutError("tm_layout does not begin with the runtime's magic")
    if LAYOUT.unpack("<", data)["byte_order"] == BYTE_ORDER:
        return "little"
    if LAYOUT.unpack(">", data)["byte_order"] == BYTE_ORDER:
        return "big"
    raise LayoutError("tm_layout has a byte order that is neither little nor big endian")


def _check_header(header: dict[str, Any], address: int) -> None:
    if header["abi_major"] != ABI_MAJOR:
        raise LayoutError(
            f"the program's runtime has layout version {header['abi_major']}.{header['abi_minor']}, this reader knows "
            f"{ABI_MAJOR}.x: load the libtracemalloc-gdb.py that came with that runtime")
    if header["self"] != address:
        raise LayoutError("the runtime is not initialised yet: let the program run to main first")
    if (header["pointer_size"] not in (4, 8) or header["layout_size"] < LAYOUT.size
            or header["state_size"] < STATE.size or not header["state"]):
        raise LayoutError(f"tm_layout at {address:#x} is damaged")
