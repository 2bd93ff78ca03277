"""skiplist.py: live blocks by address, read from the runtime's skiplist (layout.h: tm_node)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Iterable, Iterator, NamedTuple

from .layout import (LEVELS, NODE, PAGE, PAGE_SHIFT, PHASE_MASK, SIZE_BITS, SIZE_MASK, SLAB_HEADER, SLAB_NODE, Site,
                     lines_at)
from .memory import Cache, LayoutError, Read, Unreadable, words
from .slots import live_slots
from .tables import Tables

_KEY_MAX = (1 << 64) - 1
_PAGE_MASK = _KEY_MAX << PAGE_SHIFT & _KEY_MAX
_SEARCH_MAX = 100_000
_DOMAINS_MAX = 4096
_NODES_KEPT = 1000
_MISSING_ENTRIES = "blocks whose entries cannot be read are missing"

# How far a search goes back from an address, in pages with blocks and in nodes, before it looks at every block.
_PAGES_BEFORE = 256
_NODES_BEFORE = 1000


class Block(NamedTuple):
    address: int
    size: int
    domain: int
    site: Site


def _reaches(block: Block, address: int) -> bool:
    return address < block.address + max(block.size, 1)


def _smallest(blocks: Iterable[Block]) -> Block | None:
    """Of blocks of several domains; of those of one size, that of the lowest domain."""
    ordered = sorted(blocks, key=lambda block: (block.size, block.domain))
    return ordered[0] if ordered else None


class _TooFar(Exception):
    """The block, if there is one, lies further back than a search goes."""


class Node(NamedTuple):
    """A node as read. Every pointer in it may be NULL or garbage."""

    order: tuple[int, int]  # (domain, key): the list rises by it
    fields: dict[str, Any]


class Skiplist:
    """The order of the live blocks in one stopped program. Raises LayoutError where it is damaged."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._read: Read = tables.read
        self._sites: dict[int, Site] = {}
        self._nodes_read: dict[int, Node] = {}

    def blocks(self) -> Iterator[Block]:
        """All live blocks in the order of (domain, page, phase), or in any order where the list's head is not known;
        ends with a note where the list is damaged."""
        self._read = Cache(self._tables.read)
        try:
            for node in self._nodes() if self._tables.head else self._nodes_in_slabs():
                yield from self._blocks_of(node)
        except LayoutError as error:
            self._tables.note(f"{error}; the blocks beyond it are missing")

    def _nodes(self) -> Iterator[Node]:
        node = self._following(self._node(self._tables.head), 0)
        while node is not None:
            yield node
            node = self._following(node, 0)

    def _nodes_in_slabs(self) -> Iterator[Node]:
        for slab in self._tables.slabs():
            first = slab.address + SLAB_HEADER
            for address in range(first, first + slab.used, NODE.size) if slab.kind == SLAB_NODE else ():
                with suppress(LayoutError):
                    yield self._node(address)

    def holding(self, address: int) -> Block | None:
        """The block that starts at `address`, or else the nearest one below it that reaches over it; where several
        domains have one, as a pool's cell within its chunk, the smallest. None if there is none."""
        if not self._tables.head:
            return self._scan_for(address)
        found: list[Block] = []
        domain: int | None = 0
        try:
            for _ in range(_DOMAINS_MAX):
                smallest = _smallest(found)
                if domain is None:
                    return smallest
                # What begins before this and reaches over the address is no smaller.
                lowest = address - smallest.size + 1 if smallest else 0
                found += self._holding_in(domain, address, lowest)
                domain = self._next_domain(domain)
        except _TooFar:
            pass
        return self._scan_for(address)

    def _holding_in(self, domain: int, address: int, lowest: int) -> list[Block]:
        """The block of a domain that holds the address, if there is one; those that begin before `lowest` need not be
        looked at."""
        key = address & _PAGE_MASK | PHASE_MASK
        for _ in range(_PAGES_BEFORE):
            page = self._page(domain, key)
            below = sorted((block for block in page if block.address <= address), key=lambda block: block.address)
            for block in reversed(below):
                if _reaches(block, address):
                    return [block]
            # The program's own blocks do not overlap; tracked ones may hold each other.
            if not page or (below and domain == 0):
                return []
            key = (page[0].address & _PAGE_MASK) - 1
            if key < max(lowest, 0):
                return []
        raise _TooFar

    def _scan_for(self, address: int) -> Block | None:
        """As `holding`, by looking at every block."""
        nearest: dict[int, Block] = {}
        for block in self.blocks():
            if block.address <= address and _reaches(block, address):
                known = nearest.setdefault(block.domain, block)
                nearest[block.domain] = max(known, block, key=lambda one: one.address)
        return _smallest(nearest.values())

    def _page(self, domain: int, key: int) -> list[Block]:
        """The blocks of the last page that has any among the nodes up to (domain, key)."""
        blocks: list[Block] = []
        page = None
        for _ in range(_NODES_BEFORE):
            node = self._last_up_to(domain, key)
            if node is None or node.order[0] != domain:
                return blocks
            node_key = node.order[1]
            if blocks and node_key & _PAGE_MASK != page:
                return blocks
            page = node_key & _PAGE_MASK
            blocks += self._blocks_of(node)
            if not node_key:
                return blocks
            key = node_key - 1
        raise _TooFar

    def _next_domain(self, domain: int) -> int | None:
        node = self._last_up_to(domain, _KEY_MAX) or self._node(self._tables.head)
        following = self._following(node, 0)
        return following.order[0] if following else None

    def _last_up_to(self, domain: int, key: int) -> Node | None:
        """The last node whose (domain, key) is not above the one given; None if all are."""
        head = node = self._node(self._tables.head)
        steps = 0
        for level in reversed(range(LEVELS)):
            following = self._following(node, level)
            while following is not None and following.order <= (domain, key):
                node = following
                following = self._following(node, level)
                steps += 1
                if steps > _SEARCH_MAX:
                    raise LayoutError("the skiplist's levels are damaged: a search does not end")
        return None if node is head else node

    def _following(self, node: Node, level: int) -> Node | None:
        """The next node on that level, None at its end. The list must rise, so no walk goes in a circle."""
        address: int
        if level == 0:
            address = node.fields["next"]
        elif level < node.fields["height"]:
            address = self._word(node.fields["tower"] + 8 * (level - 1))
        else:
            return None
        if not address:
            return None
        following = self._node(address)
        if following.order <= node.order:
            raise LayoutError(f"the skiplist is damaged at {address:#x}: it does not rise")
        return following

    def _node(self, address: int) -> Node:
        node = self._nodes_read.get(address)
        if node is None:
            if len(self._nodes_read) >= _NODES_KEPT:
                self._nodes_read.clear()
            node = self._nodes_read[address] = self._read_node(address)
        return node

    def _read_node(self, address: int) -> Node:
        try:
            fields = NODE.unpack(self._tables.order, self._read(address, NODE.size))
        except Unreadable:
            raise LayoutError(f"the skiplist's node at {address:#x} cannot be read") from None
        is_head = address == self._tables.head
        return Node((-1, -1) if is_head else (fields["domain"], fields["key"]), fields)

    def _word(self, address: int) -> int:
        try:
            return words(memoryview(self._read(address, 8)).cast("B"), self._tables.byteorder)[0]
        except Unreadable:
            raise LayoutError(f"the skiplist's tower at {address:#x} cannot be read") from None

    def _blocks_of(self, node: Node) -> list[Block]:
        """The live blocks of one node, line by line. Those that cannot be read are left out, with a note."""
        key, domain, blocks = node.fields["key"], node.fields["domain"], []
        for offset, entry in self._entries(node.fields["page"]):
            site = self._site(entry >> SIZE_BITS)
            size = entry & SIZE_MASK | site.size_high << SIZE_BITS
            blocks.append(Block(key + offset & _KEY_MAX, size, domain, site))
        return blocks

    def _entries(self, page: int) -> Iterator[tuple[int, int]]:
        """All live entries of a page, with the offset from the node's key; none of one that is NULL."""
        address = self._lines_of(page) if page else 0
        if not address:
            return
        lines = lines_at(address)
        try:
            if not lines:
                raise Unreadable(address, 0)
            data = self._read(lines.start, lines.end - lines.start)
        except Unreadable:
            self._tables.note(_MISSING_ENTRIES)
            return
        for offset, entry, is_near in live_slots(lines.width, memoryview(data).cast("B"), self._tables.byteorder):
            if is_near:
                yield offset, lines.width.widen(entry)
            else:
                self._tables.note(_MISSING_ENTRIES)

    def _lines_of(self, page: int) -> int:
        try:
            lines: int = PAGE.unpack(self._tables.order, self._read(page, PAGE.size))["lines"]
        except Unreadable:
            self._tables.note(_MISSING_ENTRIES)
            return 0
        return lines

    def _site(self, number: int) -> Site:
        site = self._sites.get(number)
        if site is None:
            site = self._sites[number] = self._tables.site(number)
        return site
