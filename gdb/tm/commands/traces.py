"""traces.py: tm-traces, the live blocks one by one."""

from __future__ import annotations

import heapq
from typing import Callable, Iterable, Mapping, Tuple

import gdb

from .. import domains
from ..model import Frame, format_size
from ..reader import Kind, Listing, Survey
from .arguments import Arguments, one_of, parse
from .command import Command, tracing_reader
from .rows import ShortNames, count, frame_text, notes, print_table
from .terminal import Styles
from .view import look, remarks

_Order = Callable[[int, Kind], Tuple[int, ...]]
ORDERS: dict[str, _Order] = {
    "size": lambda address, kind: (-kind.size, address),
    "address": lambda address, kind: (address, kind.domain),
    "site": lambda address, kind: (kind.site_index, address),
    "domain": lambda address, kind: (kind.domain, address),
}


class Traces(Command):
    """The live blocks one by one, the largest first.
Usage: tm-traces [-sort KEY] [-limit N] [-site N] [-domain D]

  -sort KEY
    Order by size (largest first), address, site or domain.
  -limit N
    Print N blocks, 10 unless given (set tm limit). 0 or unlimited prints all.
  -site N
    Only blocks from that site, which is a place together with its callers. The
    numbers are those that are shown.
  -domain D
    Only blocks of that domain; D is its number or its name.

A row has a block's address, its size, and the innermost frame that is no
wrapper of malloc (set tm wrappers). tm-filter chooses the blocks. x and print
show what lies in one, tm-traceback who allocated it. Works on a live process
and on a core.

Example:
  (gdb) tm-traces -limit 2
  process 4711 (server), started by GDB: 45.6 MiB in 12,345 blocks
  Address         Size (B)  Site  From
  0x7ffff7a00010   640,000    12  item_create at server.c:212
  0x55555557b2a0     4,096     3  main at server.c:290
  ... 12,343 more: 45.0 MiB
  Total: 45.6 MiB in 12,345 blocks
  (gdb) tm-traceback 0x7ffff7a00010
  (gdb) tm-traces -site 12 -sort address -limit unlimited"""

    name = "tm-traces"
    options = ("-sort", "-limit", "-site", "-domain")
    repeats = True

    def run(self, argument: str) -> None:
        arguments = parse(argument, self.options)
        if arguments.words:
            raise gdb.GdbError(f'"{arguments.words[0]}" is no option: tm-traces takes {", ".join(self.options)}')
        order = _order(arguments.text("-sort"))
        reader = tracing_reader()
        survey = reader.survey(with_addresses=True)
        names = domains.names_in(survey.snapshot.info)
        chosen, which = _choice(arguments, survey, names)
        view = look(survey.snapshot, "lineno")
        survey = survey._replace(snapshot=view.snapshot)
        blocks = reader.blocks(survey, chosen & set(view.snapshot.rows.site_indexes))
        total = f"{format_size(blocks.size, False)} in {count(len(blocks.addresses), 'block')}"
        print(f"{reader.process.description()}: {total}{which}{remarks([view])}")
        notes([*view.notes, *(note for note in reader.notes if note not in view.notes)])
        missing = sum(number for index, _, number in view.snapshot.rows.totals() if index in chosen)
        missing -= len(blocks.addresses)
        notes([f"{count(missing, 'more block')} cannot be listed: where they lie is not known"] if missing > 0 else [])
        _print_blocks(blocks, order, arguments.limit, survey, names)
        print(f"Total: {total}")

    def values(self, option: str) -> Iterable[str]:
        return ORDERS if option == "-sort" else super().values(option)


def _order(word: str | None) -> _Order:
    return ORDERS["size" if word is None else one_of(word, ORDERS, "key to sort by")]


def _choice(arguments: Arguments, survey: Survey, names: Mapping[int, str]) -> tuple[set[int], str]:
    """The indexes of the sites that -site and -domain choose, and how the headline says it."""
    number, word = arguments.number("-site"), arguments.text("-domain")
    domain = None if word is None else domains.number_of(word, names)
    if word is not None and domain is None:
        raise gdb.GdbError(f'no domain with live blocks is named "{word}": tm-stats domain shows those that there are')
    chosen = {index for index, site in enumerate(survey.sites)
              if (number is None or site.number == number) and (domain is None or site.domain == domain)}
    if number is not None and not any(site.number == number for site in survey.sites):
        raise gdb.GdbError(f"no live block is from site {number}: tm-traces shows the numbers of those that there are")
    which = "" if number is None else f" from site {number}"
    which += "" if domain is None else f" of {domains.shown(domain, names)}"
    return chosen, which


def _print_blocks(blocks: Listing, order: _Order, limit: int | None, survey: Survey, names: Mapping[int, str]) -> None:
    shown = _first(blocks, order, limit)
    if shown:
        sites = survey.snapshot.rows.sites
        frames = {kind.site_index: sites[kind.site_index].innermost for _, kind in shown}
        styles = Styles()
        short = ShortNames((frame[0] for frame in frames.values() if frame), styles)
        texts = {index: frame_text(Frame(frame), short) if frame else "<unknown>" for index, frame in frames.items()}
        has_domains = any(kind.domain for _, kind in shown)
        header = ["Address", "Size (B)", "Site", *(["Domain"] if has_domains else []), "From"]
        cells = [[styles("address", f"{address:#x}"), f"{kind.size:,}", _number(survey, kind),
                  *([domains.shown(kind.domain, names)] if has_domains else []), texts[kind.site_index]]
                 for address, kind in shown]
        print_table([header, *cells], "<>><<" if has_domains else "<>><")
    left_out = len(blocks.addresses) - len(shown)
    if left_out:
        size = blocks.size - sum(kind.size for _, kind in shown)
        print(f"... {left_out:,} more: {format_size(size, False)}")


def _first(blocks: Listing, order: _Order, limit: int | None) -> list[tuple[int, Kind]]:
    """The address and the kind of the blocks that are to be shown."""
    def key(block: tuple[int, int]) -> tuple[int, ...]:
        return order(block[0], blocks.kinds[block[1]])

    every = zip(blocks.addresses, blocks.entries)
    chosen = sorted(every, key=key) if limit is None else heapq.nsmallest(limit, every, key=key)
    return [(address, blocks.kinds[entry]) for address, entry in chosen]


def _number(survey: Survey, kind: Kind) -> str:
    """The number of a block's site, as -site takes it."""
    number = survey.sites[kind.site_index].number
    return str(number) if number >= 0 else "?"


def register() -> None:
    Traces()
