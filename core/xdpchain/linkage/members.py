# SPDX-License-Identifier: Apache-2.0
"""Components as members of a threaded program (`threading`), and the BTF records that describe it to the
kernel.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import chain
from operator import index as index_of
from typing import SupportsIndex

from xdpchain.bytecode.exit_sites import NOWHERE, ExitSites, exit_sites
from xdpchain.bytecode.instructions import Instruction, decode, function_starts
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.bytecode.main_function import main_length, main_stack, own_tail_calls
from xdpchain.bytecode.unfolding import Exit, Unfolded, unfold
from xdpchain.bytecode.weaving import LineRecord, complete_lines
from xdpchain.frozen import frozen
from xdpchain.model.flow import code_of, kind_of
from xdpchain.objects.verdicts import sites_of_linkable
from xdpchain.sys.libbpf import merge_btf

from .threaded import Code, Form, Member, Threaded

_END = 1 << 30
"""Beyond all instructions."""

__all__ = ["Described", "Exits", "described", "exits_of", "is_called", "member_of", "of_itself", "patched"]


def patched(unit: LinkableProgram, maps: Mapping[str, SupportsIndex], shift: int = 0) -> Code:
    """A unit's instructions with these map descriptors; ``shift`` was added to its type IDs."""
    lines = list(decode(unit.instructions))
    for index, name in unit.references:
        lines[index] = lines[index]._replace(immediate=index_of(maps[name]))
    for index in unit.type_ids if shift else ():
        lines[index] = lines[index]._replace(immediate=lines[index].immediate + shift)
    return Code(tuple(lines), function_starts(unit.instructions))


def is_called(unit: LinkableProgram) -> bool:
    """Whether the main function must stay a function: if it makes tail calls, an inlined copy would let the
    tail-called program return straight to the kernel.
    """
    return own_tail_calls(unit.instructions) or not unit.stack


@dataclass(frozen=True)
class Exits:
    """A component's main function, unfolded (None: it is called), and how its exits identify its sites."""

    unfolded: Unfolded | None
    sites: ExitSites = NOWHERE

    @cached_property
    def kinds(self) -> Mapping[int, frozenset[int | None]]:
        """The kinds of codes it may return, and for each the sites that may decide it."""
        found: dict[int, set[int | None]] = {}
        for end in self.unfolded.exits if self.unfolded is not None else (Exit(None),):
            for kind in kind_of(end.code):
                code = end.code if end.code is not None else code_of(kind)
                found.setdefault(kind, set()).add(self.sites.site(end, code))
        return {kind: frozenset(sites) for kind, sites in found.items()}


@lru_cache(maxsize=64)
def exits_of(unit: LinkableProgram, *, sited: bool) -> Exits:
    """A unit's exits, with what tells its sites apart if ``sited``. Cached for long-lived processes: an edit
    leaves most of a chain's components unchanged.
    """
    if is_called(unit):
        return Exits(None)
    able = exit_sites(sites_of_linkable(unit)) if sited else ()
    unfolded = unfold(_main(unit), marks=[form.marks for form in able])
    return Exits(unfolded, next((form for form in able if form.marks == unfolded.marks), NOWHERE))


def _main(unit: LinkableProgram) -> Sequence[Instruction]:
    return decode(unit.instructions)[: main_length(unit.instructions)]


def member_of(
    unit: LinkableProgram, maps: Mapping[str, SupportsIndex], form: Form, exits: Exits, shift: int = 0
) -> Member:
    """A component in one of the forms; ``shift`` was added to its type IDs."""
    code, unfolded = patched(unit, maps, shift), exits.unfolded
    if form is Form.CALLS or unfolded is None:
        return Member(code, 0, None)
    if form is Form.INLINED:
        unfolded = unfold(_main(unit), reach=0)
    stack = main_stack(unit.instructions, unit.stack[0])
    return Member(code, stack, unfolded, exits.sites)


@frozen
class Described:
    """BTF, the function types by (owner, old index), each owner's source lines, and what was added to each
    owner's type IDs and string offsets.
    """

    btf: bytes
    functions: Mapping[Hashable, int]
    lines: Mapping[Hashable, Sequence[LineRecord]]
    shifts: Mapping[Hashable, int] = field(default_factory=dict)
    strings: Mapping[Hashable, int] = field(default_factory=dict)

    def knowing(self, functions: Mapping[Hashable, int]) -> Described:
        """With the types of these functions in addition, or in the place of others."""
        return replace(self, functions={**self.functions, **functions})

    def func_info(self, threaded: Threaded) -> bytes:
        """The kernel's func_info records."""
        return b"".join(struct.pack("<II", *record) for record in self._functions(threaded).items())

    def line_info(self, threaded: Threaded) -> bytes:
        """The kernel's line_info records."""
        lines = complete_lines(self._lines(threaded), self._functions(threaded))
        return struct.pack(f"<{4 * len(lines)}I", *chain.from_iterable(lines))

    def _functions(self, threaded: Threaded) -> dict[int, int]:
        """The types of a program's functions by instruction index, in order."""
        labels = threaded.assembled.labels
        placed = {labels[name]: type_id for name, type_id in self.functions.items() if name in labels}
        return dict(sorted((placed | {0: self.functions["main"]}).items()))

    def _lines(self, threaded: Threaded) -> list[LineRecord]:
        """The instruction at which each source line begins."""
        found: list[LineRecord] = []
        starts = {owner: [line.insn for line in lines] for owner, lines in self.lines.items()}
        before: Hashable = None
        low = high = 0  # the old indices of the same owner that are the same line's
        for index, (owner, at) in sorted(threaded.origins.items()):
            if owner == before and low <= at < high:
                continue
            own = starts.get(owner, [])
            place = bisect_right(own, at)
            before, low, high = owner, own[place - 1] if place else 0, [*own[place : place + 1], _END][0]
            if place:
                line, by = self.lines[owner][place - 1], self.strings.get(owner, 0)
                here = LineRecord(index, line.file + by, line.text + by, line.place)
                if not found or found[-1][1:] != here[1:]:
                    found.append(here)
        return found


def described(
    units: Mapping[Hashable, LinkableProgram],
    functions: Sequence[tuple[str, int, int]] = (),
    donor: bytes = b"",
) -> tuple[Described, tuple[int, ...]]:
    """One BTF for the code of several owners, and what became of their types in it; it lacks the type of
    "main". ``functions`` (`merge_btf`) are added, with prototypes of ``donor``, which comes first; their ids
    are returned as well.
    """
    types = [donor] * bool(donor) + [unit.btf for unit in units.values() if unit.btf]
    merged = merge_btf(types, list(functions), strings=any(unit.lines for unit in units.values()))
    moved = iter(zip(merged.shifts, merged.strings or (0,) * len(types), strict=True))
    if donor:
        next(moved)
    records: dict[Hashable, int] = {}
    shifts: dict[Hashable, int] = {}
    strings: dict[Hashable, int] = {}
    for owner, unit in units.items():
        shifts[owner], strings[owner] = next(moved) if unit.btf else (0, 0)
        records |= {(owner, at): type_id + shifts[owner] for at, type_id in unit.functions}
    lines = {owner: unit.lines for owner, unit in units.items()}
    return Described(merged.data, records, lines, shifts, strings), merged.functions


def of_itself(units: Mapping[Hashable, LinkableProgram]) -> Described:
    """What the kernel is told of the component 0 as a program of its own, whose type is that of its main
    function; ``units`` is that and what it takes along.
    """
    unit = units[0]
    if len(units) == 1:  # nothing moves
        types = Described(unit.btf, {(0, at): type_id for at, type_id in unit.functions}, {0: unit.lines})
    else:
        types, _ = described(units)
    return types.knowing({"main": types.functions[0, 0]})
