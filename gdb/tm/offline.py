"""offline.py: frames of a raw snapshot, by the files of the program that wrote it, without the program.

A program counter belongs to a module by the snapshot's module table. The module's file is used where it is at hand
and has the build-id that the program had; what could not be found is said in notes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import Iterable, Mapping, Sequence, overload

from . import stacks
from .elf import ElfFile
from .layout import ADDRESS_MASK, Module, Site
from .lines import Answer, Found, Question, ask, shown_paths
from .stacks import LazySite, Place, RawFrame, SiteTable, Stacks, bare_frame, signal_place, unloaded_place

_DEBUG_DIRECTORY = "/usr/lib/debug/.build-id"


class RawSites(Sequence[Site]):
    """The sites of a raw snapshot in columns, each made once it is asked for."""

    def __init__(self, domains: Sequence[int], totals: Sequence[int], depths: Sequence[int], ages: Sequence[int],
                 pcs: array[int]) -> None:
        """Columns of one length but `pcs`, which has as many as the depths sum up to. A total of 0: the walk was
        cut."""
        self.domains = domains
        self.pcs = pcs
        self._totals = totals
        self._ages = ages
        self._starts = array("Q", accumulate(depths, initial=0))

    def __len__(self) -> int:
        return len(self.domains)

    @overload
    def __getitem__(self, index: int) -> Site: ...

    @overload
    def __getitem__(self, index: slice) -> list[Site]: ...

    def __getitem__(self, index: int | slice) -> Site | list[Site]:
        chosen = range(len(self))[index]
        if isinstance(chosen, range):
            return [self[number] for number in chosen]
        pcs = tuple(self.pcs[self._starts[chosen]:self._starts[chosen + 1]])
        return Site(self.domains[chosen], pcs, not self._totals[chosen], 0, self._ages[chosen])

    def innermost_pcs(self) -> set[int]:
        return {self.pcs[start] for start, end in zip(self._starts, self._starts[1:]) if start < end}


class Modules:
    """Which module lay where. `unload` of a mapped one does not matter."""

    def __init__(self, mapped: Iterable[Module], unloaded: Iterable[Module]) -> None:
        self.mapped = sorted(mapped)
        self.unloaded = sorted(unloaded, key=lambda module: module.unload)
        self._starts = [module.start for module in self.mapped]
        self._unloads = [module.unload for module in self.unloaded]
        self._bounds = sorted({bound for module in self.unloaded for bound in (module.start, module.end)})
        # By the number of bounds before it: the numbers of the unloaded modules that a range lies in.
        self._covering: dict[int, array[int]] = {}

    def mapped_at(self, pc: int) -> Module | None:
        index = bisect_right(self._starts, pc) - 1
        return self.mapped[index] if index >= 0 and pc < self.mapped[index].end else None

    def unloaded_at(self, pc: int, unloads: int) -> Module | None:
        """The module that lay at `pc` after that many unloads and was unloaded later."""
        bounds = bisect_right(self._bounds, pc)
        if bounds not in self._covering:
            self._covering[bounds] = array("I", (number for number, module in enumerate(self.unloaded)
                                                 if module.start <= pc < module.end))
        covering = self._covering[bounds]
        index = bisect_left(covering, bisect_left(self._unloads, unloads))
        return self.unloaded[covering[index]] if index < len(covering) else None


class _Files:
    """What is at hand of a module's file."""

    def __init__(self, module: Module) -> None:
        self.own = ElfFile(module.path, module.build_id)
        self._debug = self.own
        digits = module.build_id.hex()
        if len(digits) > 2:
            debug = ElfFile(f"{_DEBUG_DIRECTORY}/{digits[:2]}/{digits[2:]}.debug", module.build_id)
            if not debug.problem:
                self._debug = debug

    @property
    def is_known(self) -> bool:
        return not self._debug.problem

    def question(self, addresses: Sequence[int]) -> Question:
        return Question((self._debug if self.own.problem else self.own).path, self._debug.path, addresses)

    def function_at(self, address: int) -> Found:
        found = self._debug.function_at(address)
        return Found((), *found) if found else Found(())

    def has_code(self, address: int, codes: Mapping[str, tuple[bytes, ...]]) -> bool:
        """Whether one of these instruction sequences, by architecture, lies at the file's own `address`."""
        return any(self.own.code_at(address, len(code)) == code for code in codes.get(self.own.architecture, ()))


class OfflineStacks(Stacks):
    """Frames of the sites of a raw snapshot. Lines are asked for all sites at once, first of innermost frames alone."""

    def __init__(self, sites: RawSites, modules: Modules) -> None:
        self._sites = sites
        self._modules = modules
        self._files: dict[tuple[str, bytes], _Files] = {}
        self._answers: dict[Module, Answer] = {}
        self._unanswered: set[Module] = set()  # nobody waits for these twice
        self._places: dict[tuple[int, int, bool], Place] = {}
        self._has_innermost = False
        self._has_all = False
        used = self._used_modules()
        self.build_ids = {module.path: module.build_id.hex() for module in used}
        self.notes = self._describe(used)  # grows as lines are asked for

    def innermost(self, site: Site) -> RawFrame | None:
        if not self._has_innermost:
            self._has_innermost = True
            self._ask(pc - 1 for pc in self._sites.innermost_pcs())
        return super().innermost(site)

    def frames(self, site: Site) -> tuple[stacks.Frames, int | None]:
        if not self._has_all:
            self._has_all = self._has_innermost = True
            self._ask(self._looked_up())
        return super().frames(site)

    def place(self, pc: int, unloads: int, was_interrupted: bool) -> Place:
        key = pc, unloads, was_interrupted
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self._find_place(*key)
        return place

    def is_thread_exit(self, pc: int) -> bool:
        return self._has_code(pc, stacks.THREAD_EXITS)

    def _used_modules(self) -> list[Module]:
        pcs = set(self._sites.pcs)
        used = {module for module in map(self._modules.mapped_at, pcs) if module}
        if self._modules.unloaded:
            at = {(pc, site.unloads) for site in self._sites for pc in site.pcs}
            used |= {module for module in (self._modules.unloaded_at(*one) for one in at) if module}
        return sorted(used)

    def _describe(self, used: Iterable[Module]) -> list[str]:
        """A sentence on all modules that have the same problem."""
        problems: dict[str, list[str]] = {}
        unchecked = []
        for module in used:
            files = self._files_of(module)
            if not files.is_known:
                problems.setdefault(files.own.problem, []).append(module.path)
            elif not module.build_id:
                unchecked.append(module.path)
        notes = [f"frames in {shown_paths(paths)} have no names: {problem}" for problem, paths in problems.items()]
        if unchecked:
            notes.append(f"nothing tells whether {shown_paths(unchecked)} changed since: no build-id")
        return notes

    def _files_of(self, module: Module) -> _Files:
        key = module.path, module.build_id
        if key not in self._files:
            self._files[key] = _Files(module)
        return self._files[key]

    def _looked_up(self) -> set[int]:
        """The addresses of all frames: in the call before a return address, or where a signal interrupted."""
        pcs = self._sites.pcs
        trampolines = {pc for pc in set(pcs) if self._has_code(pc, stacks.TRAMPOLINES)}
        interrupted = {pc for before, pc in zip(pcs, pcs[1:]) if before in trampolines} if trampolines else set()
        return {pc - 1 for pc in set(pcs)} | interrupted

    def _ask(self, addresses: Iterable[int]) -> None:
        """Fills _answers for these addresses of the program."""
        wanted: dict[Module, list[int]] = {}
        for address in addresses:
            module = self._modules.mapped_at(address)
            if module and module not in self._unanswered and self._files_of(module).is_known:
                own = address - module.bias & ADDRESS_MASK
                if own not in self._answers.setdefault(module, {}):
                    wanted.setdefault(module, []).append(own)
        answers, notes = ask([self._files_of(module).question(sorted(own)) for module, own in wanted.items()])
        for module, answer in zip(wanted, answers):
            if answer is None:
                self._unanswered.add(module)
            else:
                self._answers[module].update(answer)
        self.notes += (note for note in notes if note not in self.notes)

    def _has_code(self, pc: int, codes: Mapping[str, tuple[bytes, ...]]) -> bool:
        module = self._modules.mapped_at(pc)
        return module is not None and self._files_of(module).has_code(pc - module.bias & ADDRESS_MASK, codes)

    def _find_place(self, pc: int, unloads: int, was_interrupted: bool) -> Place:
        unloaded = self._modules.unloaded_at(pc, unloads)
        if unloaded:
            return unloaded_place(pc, unloaded, self._files_of(unloaded).own, was_interrupted)
        before = 0 if was_interrupted else 1
        module = self._modules.mapped_at(pc - before)
        if module is None:
            return Place((bare_frame(pc, None, None, None),), False)
        if self._has_code(pc, stacks.TRAMPOLINES):
            return signal_place(pc, module.path)
        address = pc - before - module.bias & ADDRESS_MASK
        found = self._found(module, address)
        if found.lines:
            return Place(tuple((*line, module.path, pc) for line in found.lines), False)
        offset = (found.offset if found.function else address) + before
        return Place((bare_frame(pc, module.path, found.function, offset),), False)

    def _found(self, module: Module, address: int) -> Found:
        return self._answers.get(module, {}).get(address) or self._files_of(module).function_at(address)


def symbolised(sites: RawSites, modules: Modules) -> tuple[list[LazySite], OfflineStacks]:
    """The sites, whose frames are looked up when they are asked for, and who looks them up."""
    by = OfflineStacks(sites, modules)
    table = SiteTable(by, sites)
    return [LazySite(table, number, domain) for number, domain in enumerate(sites.domains)], by
