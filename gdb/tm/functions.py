"""functions.py: the convenience functions $tm_traced, $tm_peak, $tm_count, $tm_size and $tm_base, for expressions.

They must be quick, since a breakpoint's condition may ask them at every hit, and an error would stop the program there.
"""

from __future__ import annotations

from typing import Sequence

import gdb

from .errors import in_one_line
from .memory import LayoutError
from .process import in_c
from .reader import Reader
from .skiplist import Block

# The program's other threads may run while a condition is evaluated, and change what is being read.
_ATTEMPTS = 5


class _Function(gdb.Function):
    """A function's docstring is its text in `help function`."""

    name = ""
    parameters: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__(self.name)

    def answer(self, arguments: Sequence[gdb.Value]) -> gdb.Value:
        """What the function gives for as many arguments as it has parameters. May raise RuntimeError and ValueError."""
        raise NotImplementedError

    def invoke(self, *arguments: gdb.Value) -> gdb.Value:
        if len(arguments) != len(self.parameters):
            expected = "one argument" if self.parameters else "no arguments"
            raise gdb.GdbError(f"${self.name}({', '.join(self.parameters)}) takes {expected}, not {len(arguments)}")
        with in_one_line(f"${self.name}"):
            return self.answer(arguments)


class _Figure(_Function):
    """One number for the whole program."""

    def figure(self, reader: Reader) -> int:
        raise NotImplementedError

    def answer(self, arguments: Sequence[gdb.Value]) -> gdb.Value:
        return _number(self.figure(Reader()))


class _Lookup(_Function):
    """Something of the block that holds an address."""

    parameters = ("ptr",)

    def of(self, block: Block | None) -> gdb.Value:
        raise NotImplementedError

    def answer(self, arguments: Sequence[gdb.Value]) -> gdb.Value:
        return self.of(_block_holding(arguments[0]))


class Traced(_Figure):
    """Bytes in the program's live traced blocks, in all domains.
Usage: $tm_traced()

0 while the program is not tracing. It reads a few words of the program, however
many blocks there are, so it may stand in a breakpoint's condition. tm-info shows
the same figure as Current. It is an error where there is no process, or no
runtime in it.

Example:
  (gdb) break handle_request if $tm_traced() > 100*1024*1024"""

    name = "tm_traced"

    def figure(self, reader: Reader) -> int:
        return reader.state.current


class Peak(_Figure):
    """The most bytes that the program's live traced blocks ever had.
Usage: $tm_peak()

Ever: since tracing began, tm-clear or tm-reset-peak; 0 while the program is not
tracing. As quick as $tm_traced(). Where several threads allocate, tm-info tells
how far off it may be.

Example:
  (gdb) print $tm_peak() - $tm_traced()"""

    name = "tm_peak"

    def figure(self, reader: Reader) -> int:
        return reader.state.peak


class Count(_Figure):
    """How many live traced blocks the program has, in all domains.
Usage: $tm_count()

0 while the program is not tracing. As quick as $tm_traced().

Example:
  (gdb) break worker_exit if $tm_count() > 1000"""

    name = "tm_count"

    def figure(self, reader: Reader) -> int:
        return reader.state.blocks


class Size(_Lookup):
    """The size of the live traced block that holds an address.
Usage: $tm_size(ptr)

PTR is what tm-traceback takes: a pointer, a number, or an object in memory whose
address is meant. An address inside a block counts. The size is what the program
asked for; it is 0 where no traced block holds the address, and for a block of
malloc(0): $tm_base(ptr) tells these apart.

Example:
  (gdb) break free if $tm_size($rdi) > 4096
  (gdb) print $tm_size(item->body)"""

    name = "tm_size"

    def of(self, block: Block | None) -> gdb.Value:
        return _number(block.size if block else 0)


class Base(_Lookup):
    """Where the live traced block starts that holds an address.
Usage: $tm_base(ptr)

PTR is what tm-traceback takes: a pointer, a number, or an object in memory whose
address is meant. It gives a void *; a null pointer where no traced block holds the
address.

Example:
  (gdb) print *(struct item *) $tm_base(cursor)
  (gdb) print $tm_base(cursor) == cursor"""

    name = "tm_base"

    def of(self, block: Block | None) -> gdb.Value:
        return in_c(f"(void *) {block.address if block else 0:#x}")


def _block_holding(pointer: gdb.Value) -> Block | None:
    for attempt in range(1, _ATTEMPTS + 1):
        reader = Reader()
        address = reader.address_of(pointer)
        try:
            block = reader.block_holding(address)
        except LayoutError:
            if attempt < _ATTEMPTS:
                continue
            raise
        if block is None:
            _refuse_damage(reader.tables.notes)
        return block
    return None


def _number(number: int) -> gdb.Value:
    """As a signed long long: sums and differences of sizes neither wrap nor overflow."""
    architecture = gdb.selected_inferior().architecture().name()
    kind = _number_types.get(architecture)
    if kind is None:
        kind = _number_types[architecture] = in_c("0ll").type
    return gdb.Value(number).cast(kind)


_number_types: dict[str, gdb.Type] = {}


def _refuse_damage(notes: list[str]) -> None:
    """A number cannot say what it lacks."""
    if notes:
        raise LayoutError(f"{notes[0]}; tm-info counts what is left")


def register() -> None:
    for function in (Traced, Peak, Count, Size, Base):
        function()
