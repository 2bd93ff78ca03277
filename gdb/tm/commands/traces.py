"""traces.py: tm-traces, the live blocks one by one."""

from __future__ import annotations

import heapq
from typing import Callable, Mapping, Sequence

import gdb

from .. import domains
from ..model import Frame, format_size
from ..reader import Listed, Survey
from .arguments import Arguments, parse
from .command import Command, complete_word, tracing_reader
from .rows import ShortNames, count, frame_text, notes, print_table
from .view import look, remarks

_OPTIONS = ("-sort", "-limit", "-site", "-domain")
_ORDERS: dict[str, Callable[[Listed], tuple[int, ...]]] = {
    "size": lambda block: (-block.size, block.address),
    "address": lambda block: (block.address, block.domain),
    "site": lambda block: (block.site_index, block.address),
    "domain": lambda block: (block.domain, block.address),
}


class Traces(Command):
    """The live blocks one by one, the largest first: address, size, and where each was allocated.
Usage: tm-traces [-sort size|address|site|domain] [-limit N] [-site N] [-domain D]

  -sort KEY    orders by size (largest first), address, site or domain.
  -limit N     prints N blocks; 0 or unlimited prints all.
  -site N      only blocks from that site, a place together with its callers; the numbers are those shown.
  -domain D    only blocks of that domain; D is its number or its name.

tm-filter holds here, too. x/ and print show what lies in a block, tm-traceback who allocated it.

Example:
  (gdb) tm-traces -limit 2
  process 4711 (server), started by GDB: 45.6 MiB in 12,345 blocks
  Address         Size (B)  Site  From
  0x7ffff7a00010   640,000    12  item_create at server.c:212
  0x55555557b2a0     4,096     3  main at server.c:290
  ... 12,343 more: 45.0 MiB
  Total: 45.6 MiB in 12,345 blocks"""

    name = "tm-traces"

    def run(self, argument: str) -> None:
        arguments = parse(argument, _OPTIONS)
        if arguments.words:
            raise gdb.GdbError(f"{arguments.words[0]} is no option: tm-traces takes {', '.join(_OPTIONS)}")
        order = _order(arguments.text("-sort"))
        reader = tracing_reader()
        survey = reader.survey()
        names = domains.names_in(survey.snapshot.info)
        is_chosen, which = _choice(arguments, survey, names)
        view = look(survey.snapshot, "lineno")
        seen = survey._replace(snapshot=view.snapshot)
        chosen = [block for block in reader.blocks(seen) if is_chosen(block)]
        total = f"{format_size(sum(block.size for block in chosen), False)} in {count(len(chosen), 'block')}"
        print(f"{reader.process.description()}: {total}{which}{remarks([view])}")
        notes([*view.notes, *(note for note in reader.notes if note not in view.notes)])
        _print_blocks(chosen, order, arguments.limit, seen, names)
        print(f"Total: {total}")

    def complete(self, text: str, word: str) -> list[str]:
        words = text.split() if text.endswith(" ") else text.split()[:-1]
        return complete_word(text, word, _ORDERS if words[-1:] == ["-sort"] else _OPTIONS)


def _order(word: str | None) -> Callable[[Listed], tuple[int, ...]]:
    if word is not None and word not in _ORDERS:
        raise gdb.GdbError(f"cannot sort by {word}: use one of {', '.join(_ORDERS)}")
    return _ORDERS[word or "size"]


def _choice(arguments: Arguments, survey: Survey, names: Mapping[int, str]) -> tuple[Callable[[Listed], bool], str]:
    """What -site and -domain choose, and how the headline says it."""
    number, word = arguments.number("-site"), arguments.text("-domain")
    domain = None if word is None else domains.number_of(word, names)
    if word is not None and domain is None:
        raise gdb.GdbError(f"no domain with live blocks is named {word}: tm-stats domain shows those that there are")
    indexes = {index for index, site in enumerate(survey.sites)
               if (number is None or site.number == number) and (domain is None or site.domain == domain)}
    if number is not None and not any(site.number == number for site in survey.sites):
        raise gdb.GdbError(f"no live block is from site {number}: tm-traces shows the numbers of those that there are")
    which = "" if number is None else f" from site {number}"
    which += "" if domain is None else f" of {domains.shown(domain, names)}"
    return lambda block: block.site_index in indexes, which


def _print_blocks(blocks: Sequence[Listed], order: Callable[[Listed], tuple[int, ...]], limit: int | None,
                  survey: Survey, names: Mapping[int, str]) -> None:
    shown = sorted(blocks, key=order) if limit is None else heapq.nsmallest(limit, blocks, key=order)
    if shown:
        sites = survey.snapshot.rows.sites
        frames = {block.site_index: sites[block.site_index].innermost for block in shown}
        short = ShortNames(frame[0] for frame in frames.values() if frame)
        texts = {index: frame_text(Frame(frame), short) if frame else "<unknown>" for index, frame in frames.items()}
        has_domains = any(block.domain for block in shown)
        header = ["Address", "Size (B)", "Site", *(["Domain"] if has_domains else []), "From"]
        print_table([header, *(_cells(block, survey, names, has_domains, texts) for block in shown)],
                    "<>><<" if has_domains else "<>><")
    if len(shown) < len(blocks):
        size = sum(block.size for block in blocks) - sum(block.size for block in shown)
        print(f"... {len(blocks) - len(shown):,} more: {format_size(size, False)}")


def _cells(block: Listed, survey: Survey, names: Mapping[int, str], has_domains: bool,
           texts: Mapping[int, str]) -> list[str]:
    number = survey.sites[block.site_index].number
    return [f"{block.address:#x}", f"{block.size:,}", str(number) if number >= 0 else "?",
            *([domains.shown(block.domain, names)] if has_domains else []), texts[block.site_index]]


def register() -> None:
    Traces()
