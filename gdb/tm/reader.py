"""reader.py: the stopped program's runtime, read as a whole: process -> layout -> symbols -> model."""

from __future__ import annotations

import os
import socket
import time
from array import array
from collections import Counter
from itertools import compress
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Sequence

import gdb

from . import domains
from .blocks import BlockTable
from .builds import build_ids
from .layout import SIZE_BITS, SIZE_MASK, Site
from .memory import LayoutError, Unreadable
from .model import Snapshot, format_size
from .process import Process, ProcessError, core_sections
from .runtime import Runtime, State
from .salvage import Salvaged
from .skiplist import Block, Skiplist
from .snapfile import time_text
from .symbols import Frames, SiteTable, Symbolizer
from .tables import Counted

# CPython's words.
NOT_TRACING = "the tracemalloc module must be tracing memory allocations to take a snapshot"


class Kind(NamedTuple):
    """What the blocks of one entry have in common."""

    size: int
    domain: int
    site_index: int  # in the survey's sites


class Listing(NamedTuple):
    """Live blocks of a Survey, one a row of the two columns."""

    addresses: Sequence[int]
    entries: Sequence[int]
    kinds: Mapping[int, Kind]  # by entry

    @property
    def size(self) -> int:
        """Bytes in all of them."""
        return sum(self.kinds[entry].size * count for entry, count in Counter(self.entries).items())


class Survey(NamedTuple):
    """A snapshot, with the runtime's records of the sites of its rows, one for one."""

    snapshot: Snapshot
    sites: Sequence[Site]
    numbers: Sequence[int]  # by which entries name the sites
    table: BlockTable | None = None  # where the blocks lie, if that was asked for


class Reader:
    """One stop of the selected program. Valid until it runs on.

    RuntimeError with one sentence for the user: no process, no runtime in it, or one that cannot be read.
    """

    def __init__(self) -> None:
        self.process = Process()
        self.tables = self._find_tables()
        self._symbolizer: Symbolizer | None = None

    def _find_tables(self) -> Runtime | Salvaged:
        try:
            return Runtime(self.process.read, self.process.find_layout())
        except (ProcessError, Unreadable) as error:
            if self.process.kind != "core":
                raise
            try:
                return Salvaged(self.process.read, core_sections())
            except LayoutError:
                raise error from None

    @property
    def state(self) -> State:
        """What the runtime says of itself; LayoutError where a core has lost it."""
        if isinstance(self.tables, Salvaged):
            raise LayoutError("the core is cut short: the runtime's own state is lost")
        return self.tables.state

    @property
    def is_tracing(self) -> bool:
        """A core of which only the tables are left was tracing."""
        return isinstance(self.tables, Salvaged) or self.tables.state.is_tracing

    @property
    def notes(self) -> list[str]:
        """What was found missing or damaged so far."""
        return self.process.notes + self.tables.notes

    @property
    def symbolizer(self) -> Symbolizer:
        if self._symbolizer is None:
            self._symbolizer = Symbolizer(self.process, self.tables.modules())
        return self._symbolizer

    def take_snapshot(self, with_addresses: bool = True) -> Snapshot:
        """All live blocks. RuntimeError if the program is not tracing. Addresses cost a copy of the tables."""
        return self.survey(with_addresses).snapshot

    def survey(self, with_addresses: bool = False) -> Survey:
        """As take_snapshot."""
        if not self.is_tracing:
            raise RuntimeError(NOT_TRACING)
        table = BlockTable(self.tables) if with_addresses else None
        counted = self.tables.count_blocks(table.stretches if table else None)
        numbers = sorted(counted.sites)
        index_of = {number: index for index, number in enumerate(numbers)}
        sites = [counted.sites[number] for number in numbers]
        self._note_missing(counted)
        limit = self._traceback_limit(counted)
        snapshot = Snapshot.from_columns(
            SiteTable(self.symbolizer, sites).lazy_sites(), array("Q", map(index_of.__getitem__, counted.numbers)),
            counted.sizes, counted.counts, limit, info=self._info(sites, limit), notes=self.notes,
            addresses=_addresses(table, counted) if table else None)
        return Survey(snapshot, sites, numbers, table)

    def blocks(self, survey: Survey, site_indexes: Iterable[int]) -> Listing:
        """The live blocks from those of the survey's sites, in any order; those whose address cannot be read are left
        out. The survey must be one with addresses."""
        assert survey.table is not None
        index_of = {survey.numbers[index]: index for index in site_indexes}
        addresses, entries = survey.table.columns()
        kinds = {}
        for entry in set(entries):
            index = index_of.get(entry >> SIZE_BITS)
            if index is not None:
                site = survey.sites[index]
                kinds[entry] = Kind(entry & SIZE_MASK | site.size_high << SIZE_BITS, site.domain, index)
        is_kept = [entry in kinds for entry in entries]
        return Listing(array("Q", compress(addresses, is_kept)), array("Q", compress(entries, is_kept)), kinds)

    def _traceback_limit(self, counted: Counted) -> int:
        if isinstance(self.tables, Salvaged):
            return max((len(site.pcs) for site in counted.sites.values()), default=1)
        return self.tables.state.frame_limit

    def _note_missing(self, counted: Counted) -> None:
        if counted.missing:
            why = "the core is cut short" if self.process.kind == "core" else "memory cannot be read"
            self.tables.note(f"{why}: {format_size(counted.missing, False)} of the tracer's tables are missing")
        if self.tables.notes and isinstance(self.tables, Runtime):
            shown = sum(size * count for size, count in zip(counted.sizes, counted.counts))
            self.tables.note(f"{format_size(shown, False)} of the {format_size(self.state.current, False)} that are "
                             "traced were found")

    def _info(self, sites: Sequence[Site], limit: int) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "program": self.process.program, "pid": self.process.pid, "source": self.process.kind, "limit": limit,
            "build_ids": build_ids(self.process, self.symbolizer.module_of, self.tables.modules())}
        if isinstance(self.tables, Runtime):
            facts["since"] = self.tables.state.started
        used = {site.domain for site in sites}
        names = {domain: name for domain, name in self.tables.domain_names().items() if domain in used}
        if names:
            facts["domains"] = domains.as_info(names)
        core = self.process.core
        if core is None:
            return {**facts, "time": time_text(time.time()), "host": socket.gethostname()}
        return {**facts, "time": time_text(os.path.getmtime(core))} if os.path.exists(core) else facts

    def block_holding(self, address: int) -> Block | None:
        """The traced block that starts at `address` or holds it."""
        return Skiplist(self.tables).holding(address)

    def traceback_of(self, block: Block) -> tuple[Frames, int | None]:
        """Its raw frames, most recent first, and the depth of its stack if that is known."""
        return self.symbolizer.frames(block.site)

    def address_of(self, value: Any) -> int:
        """The address that a number or a gdb.Value means: a pointer's value, the place of an array, struct or
        reference. ValueError if it means none."""
        if isinstance(value, int):
            return value & self._address_mask
        if not isinstance(value, gdb.Value):
            raise ValueError(f"{value!r} is no address: give a number or a gdb.Value")
        kind = value.type.strip_typedefs()
        if kind.code in (gdb.TYPE_CODE_REF, getattr(gdb, "TYPE_CODE_RVALUE_REF", gdb.TYPE_CODE_REF)):
            value = value.referenced_value()
            kind = value.type.strip_typedefs()
        if kind.code in (gdb.TYPE_CODE_PTR, gdb.TYPE_CODE_INT, gdb.TYPE_CODE_ENUM, gdb.TYPE_CODE_CHAR):
            return int(value) & self._address_mask
        # GDB would copy an array that is no lvalue, as a string literal, to the program, which takes a call there.
        is_literal = kind.code == gdb.TYPE_CODE_ARRAY and not value.is_lazy
        if is_literal or value.address is None:
            raise ValueError(f"a value of type {value.type} that does not lie in memory is no address")
        return int(value.address) & self._address_mask

    @property
    def _address_mask(self) -> int:
        return (1 << 8 * self.tables.pointer_size) - 1


def _addresses(table: BlockTable, counted: Counted) -> Callable[[], Sequence[int] | None]:
    """What gives the blocks' addresses as they were when the table was made, whenever it is called."""
    entries = [number << SIZE_BITS | size & SIZE_MASK for number, size in zip(counted.numbers, counted.sizes)]
    return lambda: table.columns().expanded(entries, counted.counts)
