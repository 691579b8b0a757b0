# SPDX-License-Identifier: Apache-2.0
"""The maps and functions that the code of an object file refers to.

References are relocations (maps, functions in other sections, addresses of callbacks) and calls within a
section, which the assembler has already resolved. Instructions: the kernel's
Documentation/bpf/standardization/instruction-set.rst.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.instructions import SIZE, Instruction, decode
from xdpchain.frozen import frozen

from .elf import SHF_EXECINSTR, Elf, Section, Symbol, bad_object, readable
from .objmaps import KCONFIG, MapSpec, is_data_section

__all__ = ["INSN_SIZE", "ObjectFunction", "References", "reached_programs", "read_functions"]

INSN_SIZE: Final = SIZE
MAX_FUNCTIONS: Final = 1 << 12


@frozen
class ObjectFunction:
    """A function of the object; ``start`` and ``size`` are bytes within section number ``section``."""

    name: str
    section: int
    section_name: str
    start: int
    size: int
    local: bool


def read_functions(elf: Elf) -> tuple[ObjectFunction, ...]:
    """All functions in libbpf's order: by section, then in symbol order. Raises InvalidInput."""
    code = {
        section.index: section
        for section in elf.sections
        if section.type == "SHT_PROGBITS" and section.flags & SHF_EXECINSTR and section.size
    }
    found: dict[int, list[ObjectFunction]] = {index: [] for index in code}
    used = dict.fromkeys(code, 0)
    for symbol in elf.symbols:
        if symbol.type != "func" or symbol.section not in code:
            continue
        function = _function(symbol, code[symbol.section])
        found[symbol.section].append(function)
        # Functions should not overlap; this also bounds the time for reading their code.
        used[symbol.section] += symbol.size
        if used[symbol.section] > 4 * code[symbol.section].size:
            raise bad_object(f"the functions in its section {code[symbol.section].name!r} overlap")
    functions = tuple(function for inside in found.values() for function in inside)
    if len(functions) > MAX_FUNCTIONS:
        raise bad_object(f"it has {len(functions)} functions; at most {MAX_FUNCTIONS} are read")
    return functions


def _function(symbol: Symbol, section: Section) -> ObjectFunction:
    name = readable(symbol.name, "a function")
    if symbol.size == 0 or symbol.size % INSN_SIZE or symbol.value % INSN_SIZE:
        raise bad_object(f"its function {name!r} is not a whole number of instructions")
    if symbol.value + symbol.size > section.size:
        raise bad_object(f"its function {name!r} does not fit into its section {section.name!r}")
    section_name = readable(section.name, "a section")
    return ObjectFunction(name, section.index, section_name, symbol.value, symbol.size, symbol.local)


class _Direct(NamedTuple):
    """A function's direct references; ``sites`` are (offset within the section, function)."""

    maps: tuple[str, ...]
    calls: tuple[ObjectFunction, ...]
    sites: tuple[tuple[int, ObjectFunction], ...]
    kfuncs: tuple[str, ...]


class References:
    """The graph of an object's references."""

    def __init__(
        self,
        elf: Elf,
        functions: Iterable[ObjectFunction],
        maps: Container[str],
        configuration: Container[str] = (),
    ) -> None:
        """``maps``: names of the object's maps; ``configuration``: of the variables in its ``.kconfig``."""
        self._elf = elf
        self._maps = maps
        self._configuration = configuration
        self._functions = {(function.section, function.start): function for function in functions}
        self._maps_at = {
            (symbol.section, symbol.value): symbol.name
            for symbol in elf.symbols
            if symbol.type == "object"
            and symbol.section >= 0
            and elf.sections[symbol.section].name == ".maps"
        }
        self._direct: dict[ObjectFunction, _Direct] = {}

    def maps(self, function: ObjectFunction) -> tuple[str, ...]:
        """The maps that a function and its callees refer to: names, or sections of global variables."""
        return tuple(
            dict.fromkeys(name for callee in self._reached(function) for name in self._of(callee).maps)
        )

    def helpers(self, function: ObjectFunction) -> frozenset[int]:
        """The kernel helpers (``BPF_FUNC_...``) that a function and its callees call, by number."""
        return frozenset(helper for callee in self._reached(function) for helper in self._helpers(callee))

    def reached(self, function: ObjectFunction) -> tuple[ObjectFunction, ...]:
        """The function and all that it calls, directly or not."""
        return tuple(self._reached(function))

    def sites(self, function: ObjectFunction) -> Mapping[int, ObjectFunction]:
        """The instructions (by index in the function) that call or refer to another function, and which."""
        return {(at - function.start) // INSN_SIZE: target for at, target in self._of(function).sites}

    def kfuncs(self, function: ObjectFunction) -> frozenset[str]:
        """The names of kernel functions that a function and its callees call."""
        return frozenset(name for callee in self._reached(function) for name in self._of(callee).kfuncs)

    def _reached(self, function: ObjectFunction) -> list[ObjectFunction]:
        """The function and all that it calls, directly or not."""
        order: list[ObjectFunction] = []
        seen = {function}
        pending = [function]
        while pending:
            order.append(pending.pop())
            fresh = [call for call in self._of(order[-1]).calls if call not in seen]
            seen.update(fresh)
            pending.extend(fresh)
        return order

    def _helpers(self, function: ObjectFunction) -> Iterator[int]:
        for line in self._code(function):
            if line.code == op.CALL and line.source == op.CALL_HELPER:
                yield line.immediate

    def _code(self, function: ObjectFunction) -> tuple[Instruction, ...]:
        section = self._elf.sections[function.section].data
        return decode(bytes(section[function.start : function.start + function.size]))

    def _of(self, function: ObjectFunction) -> _Direct:
        found = self._direct.get(function)
        if found is None:
            found = self._direct[function] = self._read(function)
        return found

    def _read(self, function: ObjectFunction) -> _Direct:
        code, end = self._code(function), function.start + function.size
        maps: dict[str, None] = {}
        calls: dict[int, tuple[int, int]] = {}
        kfuncs: dict[str, None] = {}
        relocated = set()
        for relocation in self._elf.relocations_within(function.section, function.start, end):
            relocated.add(relocation.offset)
            if relocation.offset % INSN_SIZE:
                raise bad_object(f"a relocation in its function {function.name!r} is not at an instruction")
            line = code[(relocation.offset - function.start) // INSN_SIZE]
            operation, immediate = line.code, line.immediate
            symbol = relocation.symbol
            if symbol.section < 0:  # outside the object; kernel symbols too, which are not maps
                if symbol.name in self._configuration:
                    maps[KCONFIG] = None
                elif operation == op.CALL:
                    kfuncs[symbol.name] = None
                continue
            target = self._elf.sections[symbol.section]
            if operation == op.CALL:
                # clang: imm -1 for a global function, the instruction's number less one for a static one
                calls[relocation.offset] = symbol.section, symbol.value + (immediate + 1) * INSN_SIZE
            elif operation == op.LD_IMM64 and target.flags & SHF_EXECINSTR:
                calls[relocation.offset] = symbol.section, symbol.value + immediate
            elif operation == op.LD_IMM64 and target.name == ".maps":
                maps[self._map(self._maps_at.get((symbol.section, symbol.value), ""), function)] = None
            elif operation == op.LD_IMM64 and is_data_section(target.name):
                maps[self._map(target.name, function)] = None
        for index, line in enumerate(code):
            offset = function.start + index * INSN_SIZE
            if line.code == op.CALL and line.source == op.CALL_FUNCTION and offset not in relocated:
                calls[offset] = function.section, offset + (line.immediate + 1) * INSN_SIZE
        sites = tuple((at, self._functions[key]) for at, key in calls.items() if key in self._functions)
        return _Direct(tuple(maps), tuple(dict.fromkeys(target for _, target in sites)), sites, tuple(kfuncs))

    def _map(self, name: str, function: ObjectFunction) -> str:
        if name not in self._maps:
            raise bad_object(f"its function {function.name!r} refers to a map that it does not have")
        return name


def reached_programs(
    program: str, maps_of: Mapping[str, tuple[str, ...]], specs: Mapping[str, MapSpec]
) -> tuple[str, ...]:
    """The other programs that a program can reach by tail calls through initialized program arrays.

    ``maps_of``: the maps that each program refers to. Program arrays in maps of maps are included.
    """
    reached: dict[str, None] = {}
    seen: set[str] = set()
    pending = list(reversed(maps_of.get(program, ())))
    while pending:
        name = pending.pop()
        spec = specs.get(name)
        if spec is None or name in seen:
            continue
        seen.add(name)
        for _, value in spec.values:
            if spec.inner is not None:
                pending.append(value)
            elif value in maps_of:
                reached[value] = None
                pending.extend(maps_of[value])
    reached.pop(program, None)
    return tuple(reached)
