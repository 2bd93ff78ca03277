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
from .terminal import Styles


class BlockTraceback(Command):
    """Where the block that holds an address was allocated.
Usage: tm-traceback EXPR

EXPR is any of GDB's expressions: a pointer, a number, or an object in memory
whose address is meant. An address inside a block counts. The innermost frame
comes first. Works on a live process and on a core.

Example:
  (gdb) tm-traceback item->body + 24
  0x55555557b2b8 is 24 bytes into the 640-byte block at 0x55555557b2a0
  #0  item_create at server.c:212
          item->body = malloc(size);
  #1  main at server.c:300
          item = item_create(640);
  (gdb) tm-traceback *list
  (gdb) tm-traceback $rax"""

    name = "tm-traceback"
    repeats = True

    def run(self, argument: str) -> None:
        if not argument.strip():
            raise gdb.GdbError("an address is missing: tm-traceback EXPR, as in tm-traceback item->body")
        reader = tracing_reader()
        address = address_of(reader, argument)
        styles = Styles()
        block = reader.block_holding(address)
        if block is None:
            print(f"{styles('address', f'{address:#x}')} is in no traced block: freed, allocated before tracing began, "
                  "or not of the heap")
        else:
            print(_place_in(block, address, reader.tables.domain_names(), styles))
            frames, depth = reader.traceback_of(block)
            traceback = Traceback(frames, depth)
            print_traceback(traceback, ShortNames((frame.filename for frame in traceback), styles))
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
        raise gdb.GdbError(f'"{expression.strip()}" is no address: {str(error).rstrip(".")}') from None


def _place_in(block: Block, address: int, names: Mapping[int, str], styles: Styles) -> str:
    domain = f" of {domains.shown(block.domain, names)}" if block.domain else ""
    place, start = (styles("address", f"{number:#x}") for number in (address, block.address))
    offset = address - block.address
    if offset == 0:
        return f"{place} is the start of a {block.size}-byte block{domain}"
    return f"{place} is {offset} byte{'' if offset == 1 else 's'} into the {block.size}-byte block{domain} at {start}"


def register() -> None:
    BlockTraceback(gdb.COMPLETE_EXPRESSION)
