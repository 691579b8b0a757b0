# SPDX-License-Identifier: Apache-2.0
"""The calls that a compiler replaced by the function's own code, from an object file's DWARF. Pure.

.BTF.ext has one line per instruction, that of the innermost function; where it was called from stands in the
DWARF alone (DW_TAG_inlined_subroutine), which objects may lack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from xdpchain.bytecode.instructions import SIZE
from xdpchain.bytecode.sites import InlinedCall, SourceLine, SourceMap, VerdictSite
from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from . import dwarf
from .dwarf import Dwarf, NoDwarf
from .elf import Elf
from .objrefs import ObjectFunction, read_functions

__all__ = ["Inlining", "inlining_of", "with_calls"]

MOST_CALLS = 20_000
MOST_PLACES = 16
"""Of one line, that are told."""


@frozen
class _Region:
    """Code that came from an inlined call: bytes of a section."""

    section: int
    start: int
    end: int
    depth: int
    call: InlinedCall


@frozen
class Inlining:
    """The inlined calls of an object file."""

    regions: tuple[_Region, ...]

    def calls(self, section: int, offset: int) -> tuple[InlinedCall, ...]:
        """The calls by which the instruction at an offset (bytes) got there, the innermost first."""
        return tuple(
            region.call
            for region in self.regions
            if region.section == section and region.start <= offset < region.end
        )


def with_calls(sites: Sequence[VerdictSite], source: SourceMap, data: bytes) -> tuple[VerdictSite, ...]:
    """The sites with the calls that lead to inlined ones, from the object file ``data`` that the program was
    built from; without, where that does not tell. ``source`` says where in its functions an instruction is.
    """
    try:
        inlining = inlining_of(data)
        if not sites or not inlining.regions:
            return tuple(sites)
        functions: dict[str, ObjectFunction | None] = {}
        for function in read_functions(Elf.parse(data)):
            functions[function.name] = None if function.name in functions else function  # ambiguous
    except InvalidInput:
        return tuple(sites)
    texts = {(line.file, line.number): line for _, line in source.lines}

    def calls(insn: int) -> tuple[InlinedCall, ...]:
        function = functions.get(source.function(insn))
        if function is None:
            return ()
        found = inlining.calls(function.section, function.start + SIZE * source.offset(insn))
        return tuple(
            replace(call, line=texts.get((call.line.file, call.line.number), call.line)) for call in found
        )

    annotated = []
    for site in sites:
        insns = [edge.source for edge in site.edges] or [site.insn]
        paths = dict.fromkeys(path for insn in insns if (path := calls(insn)))
        annotated.append(replace(site, called_from=tuple(paths)[:MOST_PLACES]))
    return tuple(annotated)


@lru_cache(maxsize=16)
def inlining_of(data: bytes) -> Inlining:
    """The inlined calls of an object file; none if it has no DWARF, or none that can be read. Raises
    InvalidInput if it is no object file.
    """
    if b".debug_info" not in data:
        return Inlining(())
    try:
        regions = [region for unit in Dwarf(Elf.parse(data)).units() for region in _regions(unit)]
    except NoDwarf:
        return Inlining(())
    return Inlining(tuple(sorted(regions, key=lambda region: -region.depth)))


def _regions(unit: dwarf.Unit) -> list[_Region]:
    names: dict[int, dwarf.Entry] = {}
    calls: list[dwarf.Entry] = []
    for entry in unit.entries():
        if entry.tag == dwarf.SUBPROGRAM:
            names[entry.at] = entry
        elif entry.tag == dwarf.INLINED:
            calls.append(entry)
            if len(calls) > MOST_CALLS:
                raise NoDwarf("it has too many calls")
    files = unit.files() if calls else []
    regions = []
    for entry in calls:
        line, number = unit.number(entry, dwarf.CALL_LINE), unit.number(entry, dwarf.CALL_FILE)
        if line is None or number is None or not 0 <= number < len(files):
            continue
        place = SourceLine.clean(files[number], line, "")
        call = InlinedCall.clean(_name(unit, names, entry), place)
        regions += [
            _Region(start.section, start.offset, end.offset, entry.depth, call)
            for start, end in unit.ranges(entry)
        ]
    return regions


def _name(unit: dwarf.Unit, names: dict[int, dwarf.Entry], entry: dwarf.Entry) -> str:
    """The inlined function's name; empty if it is not known."""
    for _ in range(4):
        origin = unit.reference(entry, dwarf.ORIGIN) or unit.reference(entry, dwarf.SPECIFICATION)
        found = names.get(origin) if origin is not None else None
        if found is None:
            return ""
        if name := unit.text(found, dwarf.NAME):
            return name
        entry = found
    return ""
