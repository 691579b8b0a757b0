# SPDX-License-Identifier: Apache-2.0
"""What a program can return, and which source lines decide it, from an object file or from a running
component's linkable form. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.instructions import SIZE, Instruction, decode, encode
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.bytecode.sites import SourceMap, VerdictSite, verdict_sites
from xdpchain.bytecode.weaving import LineRecord
from xdpchain.errors import NotFound
from xdpchain.frozen import frozen

from .btf import Btf
from .elf import Elf
from .kernel_calls import THROW, kernel_calls
from .objrefs import ObjectFunction, References, read_functions
from .source_lines import line_table, source_map

__all__ = [
    "ProgramVerdicts",
    "sites_name",
    "sites_of",
    "sites_of_linkable",
    "sites_with_calls",
    "source_of_linkable",
    "verdicts_of",
]


@frozen
class ProgramVerdicts:
    """A program's verdict sites. ``lined``: it has line information. ``throws``: it may also end with a code
    that it throws (bpf_throw), which no site shows.
    """

    name: str
    sites: tuple[VerdictSite, ...]
    lined: bool
    throws: bool = False


def verdicts_of(data: bytes, name: str) -> ProgramVerdicts:
    """The sites of a program in an object file, including the functions that it calls. Raises InvalidInput,
    NotFound.
    """
    from .inlined import with_calls  # late, here and below: loads use this module, and show no sites

    image, source = _linked(data, name)
    throws = THROW.encode() in data and THROW in kernel_calls(data, name)
    sites = with_calls(verdict_sites(image, source), source, data)
    return ProgramVerdicts(name, sites, bool(source.lines), throws)


def sites_of(
    image: bytes,
    btf: bytes,
    functions: tuple[tuple[int, int], ...],
    lines: tuple[LineRecord, ...],
    *,
    calls: bool = True,
) -> tuple[VerdictSite, ...]:
    """The sites of loaded instructions, with their func_info and line_info. Raises InvalidInput."""
    return verdict_sites(image, _source(btf, functions, lines), calls=calls)


def sites_of_linkable(program: LinkableProgram, *, calls: bool = True) -> tuple[VerdictSite, ...]:
    """The sites of a component in linkable form. Raises InvalidInput."""
    return verdict_sites(program.instructions, source_of_linkable(program), calls=calls)


def sites_with_calls(
    program: LinkableProgram, sites: Sequence[VerdictSite], data: bytes
) -> tuple[VerdictSite, ...]:
    """The sites of a component with the calls that lead to inlined ones, from its object file. Takes time:
    for what is shown. Raises InvalidInput.
    """
    from .inlined import with_calls

    return with_calls(sites, source_of_linkable(program), data)


def source_of_linkable(program: LinkableProgram) -> SourceMap:
    """The source lines of a component's instructions. Raises InvalidInput."""
    return _source(program.btf, program.functions, program.lines)


def _source(btf: bytes, functions: tuple[tuple[int, int], ...], lines: tuple[LineRecord, ...]) -> SourceMap:
    if not btf:
        return SourceMap()
    types = Btf.parse(btf)
    return source_map(types, [(at, types.type(type_id).name) for at, type_id in functions], lines)


def sites_name(program: LinkableProgram) -> str:
    """An identifier of a component's sites: equal for equal instructions."""
    return sha256(program.instructions).hexdigest()[:16]


@lru_cache(maxsize=16)
def _linked(data: bytes, name: str) -> tuple[bytes, SourceMap]:
    """A program followed by all functions that it calls, as libbpf would lay them out."""
    elf = Elf.parse(data)
    functions = read_functions(elf)
    entry = next((function for function in functions if function.name == name), None)
    if entry is None:
        raise NotFound(f"there is no program {name!r} in this object file")
    raw = elf.section(".BTF")
    btf = Btf.parse(raw.data) if raw is not None else None
    graph = References(elf, functions, _Any())
    reached = graph.reached(entry)
    starts: dict[ObjectFunction, int] = {}
    at = 0
    for function in reached:
        starts[function] = at
        at += function.size // SIZE
    lines: list[Instruction] = []
    for function in reached:
        lines += _resolved(elf, graph, function, starts)
    names = [(start, function.name) for function, start in starts.items()]
    if btf is None:
        return encode(lines), SourceMap(tuple(names))
    table = line_table(elf, btf)
    records = []
    for function, start in starts.items():
        first = function.start // SIZE
        for record in table.get(function.section_name, ()):
            if first <= record.insn < first + function.size // SIZE:
                records.append(record._replace(insn=record.insn - first + start))
    return encode(lines), source_map(btf, names, records)


class _Any:
    """Contains every name, since it does not matter here which maps exist."""

    def __contains__(self, name: object) -> bool:
        return True


def _resolved(
    elf: Elf, graph: References, function: ObjectFunction, starts: dict[ObjectFunction, int]
) -> list[Instruction]:
    """A function's instructions, with calls and function addresses resolved, and values that only the loader
    knows marked as such.
    """
    section = elf.sections[function.section].data
    lines = list(decode(bytes(section[function.start : function.start + function.size])))
    for relocation in elf.relocations_within(
        function.section, function.start, function.start + function.size
    ):
        at = (relocation.offset - function.start) // SIZE
        if lines[at].code == op.LD_IMM64:
            lines[at] = lines[at]._replace(source=op.IMM_MAP, immediate=0)
        elif lines[at].code == op.CALL and relocation.symbol.section < 0:
            lines[at] = lines[at]._replace(source=op.CALL_KFUNC, immediate=0)
    for at, target in graph.sites(function).items():
        distance = starts[target] - (starts[function] + at) - 1
        source = op.CALL_FUNCTION if lines[at].code == op.CALL else op.IMM_FUNCTION
        lines[at] = lines[at]._replace(source=source, immediate=distance)
    return lines
