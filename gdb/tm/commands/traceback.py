"""traceback.py: tm-traceback, where a block was allocated."""

from __future__ import annotations

from typing import Mapping

import gdb

from .. import domains
from ..model import Traceback
from ..reader import Reader
from ..skiplist import Block
from .command import Command, tracing_reader
from .rows import ShortNames, newer_sources, notes, print_traceback


class BlockTraceback(Command):
    """Where the block that holds an address was allocated, the innermost frame first.
Usage: tm-traceback EXPR

EXPR is a pointer, a number, or an object in memory whose address is meant. An address inside a block counts.

Example:
  (gdb) tm-traceback item->body + 24
  0x55555557b2b8 is 24 bytes into the 640-byte block at 0x55555557b2a0
  #0  item_create at server.c:212
          item->body = malloc(size);
  #1  main at server.c:300
          item = item_create(640);"""

    name = "tm-traceback"

    def run(self, argument: str) -> None:
        if not argument.strip():
            raise gdb.GdbError("an address is missing: tm-traceback EXPR, as in tm-traceback item->body")
        reader = tracing_reader()
        address = address_of(reader, argument)
        block = reader.block_holding(address)
        if block is None:
            print(f"{address:#x} is in no traced block: freed, allocated before tracing began, or not of the heap")
        else:
            print(_place_in(block, address, reader.tables.domain_names()))
            frames, depth = reader.traceback_of(block)
            traceback = Traceback(frames, depth)
            print_traceback(traceback, ShortNames(frame.filename for frame in traceback))
            notes(newer_sources(traceback))
            if not frames:
                print("(no frame of its traceback is known)")
            elif depth is None:
                print(f"(the stack was deeper than the {len(block.site.pcs)} program counters that were kept)")
        notes(reader.notes)


def address_of(reader: Reader, expression: str) -> int:
    """The address that an expression means; GdbError if it means none."""
    try:
        return reader.address_of(gdb.parse_and_eval(expression))
    except (gdb.error, ValueError) as error:
        raise gdb.GdbError(f"cannot take {expression} for an address: {str(error).rstrip('.')}") from None


def _place_in(block: Block, address: int, names: Mapping[int, str]) -> str:
    domain = f" of {domains.shown(block.domain, names)}" if block.domain else ""
    offset = address - block.address
    if offset == 0:
        return f"{address:#x} is the start of a {block.size}-byte block{domain}"
    return (f"{address:#x} is {offset} byte{'' if offset == 1 else 's'} into the {block.size}-byte block{domain} "
            f"at {block.address:#x}")


def register() -> None:
    BlockTraceback(gdb.COMPLETE_EXPRESSION)
