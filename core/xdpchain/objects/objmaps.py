# SPDX-License-Identifier: Apache-2.0
"""The maps that an object file defines: those in ``.maps``, and one for each section of global variables.

Read from BTF as in libbpf: the member ``type`` of a map's struct is a pointer to an array whose length is the
map type, and so on (``__uint``, ``__type``, ``__array``, ``__ulong`` of bpf_helpers.h).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from xdpchain.frozen import frozen

from . import btf_types as types
from .btf import Btf
from .elf import Elf, Section, Symbol, bad_object, readable

__all__ = [
    "KCONFIG",
    "MAP_TYPES",
    "MapSpec",
    "Variable",
    "is_data_section",
    "read_maps",
    "read_variables",
]

MAP_TYPES: Final = (
    "unspec",
    "hash",
    "array",
    "prog_array",
    "perf_event_array",
    "percpu_hash",
    "percpu_array",
    "stack_trace",
    "cgroup_array",
    "lru_hash",
    "lru_percpu_hash",
    "lpm_trie",
    "array_of_maps",
    "hash_of_maps",
    "devmap",
    "sockmap",
    "cpumap",
    "xskmap",
    "sockhash",
    "cgroup_storage",
    "reuseport_sockarray",
    "percpu_cgroup_storage",
    "queue",
    "stack",
    "sk_storage",
    "devmap_hash",
    "struct_ops",
    "ringbuf",
    "inode_storage",
    "task_storage",
    "bloom_filter",
    "user_ringbuf",
    "cgrp_storage",
    "arena",
    "insn_array",
)
"""Names of ``enum bpf_map_type`` (uapi/linux/bpf.h) by number, spelled as bpftool does."""

ARRAY: Final = 2
PROG_ARRAY: Final = 3
MAPS_OF_MAPS: Final = (12, 13)
MAX_MAPS: Final = 1 << 12
MAX_MEMBERS: Final = 64
"""Most members in a map's definition; libbpf knows a dozen."""
MAX_VALUES: Final = 1 << 14
"""Most initial values that are read, over all maps."""
BPF_F_RDONLY_PROG: Final = 1 << 7
BPF_F_MMAPABLE: Final = 1 << 10
KCONFIG: Final = ".kconfig"
_DATA: Final = (".data", ".rodata", ".bss")
_POINTER: Final = 8


@frozen
class MapSpec:
    """A map as the object defines it.

    Sizes are in bytes; ``key_type`` and ``value_type`` are IDs in the object's BTF. ``kind``: ``btf`` for a
    definition in ``.maps``, ``data`` for a section of global variables (which gives it its name).
    ``max_entries`` and ``flags`` are as written: libbpf rounds a ring buffer's up to pages, and sets that of
    a perf event array to the number of CPUs if missing. ``pinning``: the object wants it pinned by name.
    ``inner``: the template of the maps in this map. ``values``: initial values, as index and name of a
    program or map.
    """

    name: str
    kind: Literal["btf", "data"]
    section: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    pinning: bool = False
    inner: MapSpec | None = None
    values: tuple[tuple[int, str], ...] = ()
    key_type: int | None = None
    value_type: int | None = None

    @property
    def type_name(self) -> str:
        """The map type as bpftool spells it, or its number if it is not in our table."""
        return MAP_TYPES[self.type] if self.type < len(MAP_TYPES) else f"type {self.type}"


@frozen
class Variable:
    """A global variable, ``offset`` bytes into its section; ``type_id`` is from the object's BTF."""

    name: str
    section: str
    type_id: int
    offset: int
    size: int


def is_data_section(name: str) -> bool:
    """Whether libbpf creates a map for the section with this name."""
    return name in _DATA or name.startswith((".data.", ".rodata.", ".bss."))


def read_maps(elf: Elf, btf: Btf | None) -> tuple[MapSpec, ...]:
    """The maps in libbpf's order: definitions, sections of variables, ``.kconfig``. Raises InvalidInput."""
    if any(section.name == "maps" or section.name.startswith("maps/") for section in elf.sections):
        raise bad_object(
            'it defines maps in the section "maps", which libbpf 1.0 and later does not support',
            "Define them with BTF in the section .maps: see bpf_helpers.h",
        )
    return (
        *_defined_maps(elf, btf),
        *(_data_map(section, btf) for section in _data_sections(elf)),
        *_kconfig(btf),
    )


def read_variables(elf: Elf, btf: Btf | None) -> tuple[Variable, ...]:
    """The global variables that have types, by section and offset. Raises InvalidInput."""
    variables = []
    if btf is None:
        return ()
    for section in _data_sections(elf):
        for datasec in btf.datasecs(section.name):
            for variable, placement in btf.variables(datasec):
                offset = placement.offset
                if variable.linkage is not types.Linkage.STATIC:
                    offset = _symbol(elf, section, variable.name).value
                size = placement.size or btf.size_of(variable.type_id)
                if offset + size > section.size:
                    raise bad_object(f"its variable {variable.name!r} lies outside section {section.name}")
                variables.append(Variable(variable.name, section.name, variable.type_id, offset, size))
    return tuple(sorted(variables, key=lambda variable: (variable.section, variable.offset)))


# -- sections of variables --------------------------------------------------------------------------------


def _data_sections(elf: Elf) -> list[Section]:
    """The data sections that become maps: libbpf skips empty ones."""
    sections: dict[str, Section] = {}
    for section in elf.sections:
        if is_data_section(section.name) and section.size and section.type in ("SHT_PROGBITS", "SHT_NOBITS"):
            if section.name in sections:
                raise bad_object(f"it has two sections {section.name}")
            sections[readable(section.name, "a section")] = section
    return list(sections.values())


def _data_map(section: Section, btf: Btf | None) -> MapSpec:
    if section.size >= 1 << 32:
        raise bad_object(f"its section {section.name} has {section.size} bytes")
    flags = BPF_F_RDONLY_PROG if section.name.startswith(".rodata") else 0
    datasec = btf.datasec(section.name) if btf else None
    # libbpf makes a section mmapable only if it has non-static variables
    if (
        btf
        and datasec
        and any(variable.linkage is not types.Linkage.STATIC for variable, _ in btf.variables(datasec))
    ):
        flags |= BPF_F_MMAPABLE
    value_type = datasec.id if datasec else None
    return MapSpec(
        section.name, "data", section.name, ARRAY, 4, section.size, 1, flags, value_type=value_type
    )


def _kconfig(btf: Btf | None) -> tuple[MapSpec, ...]:
    """The map of kernel configuration values that the object uses (``extern ... __kconfig``)."""
    datasec = btf.datasec(KCONFIG) if btf else None
    if btf is None or datasec is None:
        return ()
    externs = []
    for variable, _ in btf.variables(datasec):
        resolved = btf.resolve(variable.type_id)
        size = btf.size_of(variable.type_id)
        alignment = btf.size_of(resolved.element) if isinstance(resolved, types.Array) else size
        externs.append((-alignment, size))
    end = 0
    for negative, size in sorted(externs):  # libbpf: largest alignment first, then the smaller
        end += -end % max(-negative, 1) + size
    return (MapSpec(KCONFIG, "data", KCONFIG, ARRAY, 4, end, 1, BPF_F_RDONLY_PROG | BPF_F_MMAPABLE),)


# -- definitions in .maps --------------------------------------------------------------------------------


def _defined_maps(elf: Elf, btf: Btf | None) -> tuple[MapSpec, ...]:
    section = elf.section(".maps")
    if section is None or not section.size:
        return ()
    if len(elf.relocations.get(section.index, ())) > MAX_VALUES:
        raise bad_object(f"its maps have more than {MAX_VALUES} initial values")
    datasec = btf.datasec(".maps") if btf else None
    if btf is None or datasec is None:
        raise bad_object(
            "it has maps but no type information (BTF) that describes them", "Build it with clang -g"
        )
    if len(datasec.variables) > MAX_MAPS:
        raise bad_object(f"it has more than {MAX_MAPS} maps")
    placed = []
    for variable, placement in btf.variables(datasec):
        readable(variable.name, "a map")
        if variable.linkage is not types.Linkage.GLOBAL:
            raise bad_object(
                f"its map {variable.name!r} is {variable.linkage.name.lower()}, which libbpf does not support"
            )
        offset, size = _symbol(elf, section, variable.name).value, placement.size
        if offset + size > section.size:
            raise bad_object(f"its map {variable.name!r} lies outside section .maps")
        placed.append((offset, size, variable))
    return tuple(
        _with_values(
            _definition(btf, variable.name, variable.type_id),
            elf,
            section,
            offset,
            size,
            btf,
            variable.type_id,
        )
        for offset, size, variable in sorted(placed, key=lambda place: place[0])
    )


def _definition(btf: Btf, name: str, type_id: int, *, within: str = "") -> MapSpec:
    """The map that a struct type defines. ``within``: the name of the outer map if it defines inner maps."""
    definition = btf.resolve(type_id)
    if not isinstance(definition, types.Struct) or len(definition.members) > MAX_MEMBERS:
        raise bad_object(f"its map {name!r} is not defined by a struct as libbpf expects it")
    numbers = {"type": 0, "key_size": 0, "value_size": 0, "max_entries": 0, "map_flags": 0, "pinning": 0}
    key_type = value_type = inner = None
    for member in definition.members:
        if member.name in numbers:
            value = _number(btf, member.type_id)
            if not 0 <= value < 1 << 32:
                raise bad_object(f"the member {member.name} of its map {name!r} is {value}")
            if member.name in ("key_size", "value_size"):
                _agree(name, member.name, numbers[member.name], value)
            numbers[member.name] = value
        elif member.name in ("key", "value"):
            pointer = btf.resolve(member.type_id)
            if not isinstance(pointer, types.Pointer):
                raise bad_object(f"the member {member.name} of its map {name!r} is not a pointer")
            size = btf.size_of(pointer.target)
            _agree(name, f"{member.name}_size", numbers[f"{member.name}_size"], size)
            numbers[f"{member.name}_size"] = size
            if member.name == "key":
                key_type = pointer.target
            else:
                value_type = pointer.target
        elif member.name == "values":
            _agree(name, "value_size", numbers["value_size"], 4)
            numbers["value_size"] = 4
            if within:
                raise bad_object(f"its map {within!r} nests maps in maps in maps")
            inner = _inner(btf, name, member.type_id, numbers["type"])
        # Anything else (numa_node, map_extra, newer members) is left to libbpf at the load.
    if not numbers["type"] and not within:
        raise bad_object(f"its map {name!r} has no type")
    if numbers["pinning"] > 1 or (numbers["pinning"] and within):
        raise bad_object(f"its map {name!r} has an unknown pinning mode")
    return MapSpec(
        name,
        "btf",
        ".maps",
        numbers["type"],
        numbers["key_size"],
        numbers["value_size"],
        numbers["max_entries"],
        numbers["map_flags"],
        bool(numbers["pinning"]),
        inner,
        (),
        key_type,
        value_type,
    )


def _number(btf: Btf, type_id: int) -> int:
    """A number declared with ``__uint`` (array length) or ``__ulong`` (an enumeration's only value)."""
    spelled = btf.resolve(type_id)
    if isinstance(spelled, types.Enumeration) and len(spelled.values) == 1:
        return spelled.values[0].value
    return btf.declared_number(type_id)


def _agree(name: str, what: str, before: int, now: int) -> None:
    if before and before != now:
        raise bad_object(f"its map {name!r} has a {what} of both {before} and {now}")


def _inner(btf: Btf, name: str, type_id: int, map_type: int) -> MapSpec | None:
    """The template of inner maps, from ``values``; None for a program array."""
    values = btf.resolve(type_id)
    pointer = btf.resolve(values.element) if isinstance(values, types.Array) else None
    if not isinstance(pointer, types.Pointer):
        raise bad_object(f"the member values of its map {name!r} is not an array of pointers")
    if map_type == PROG_ARRAY:
        return None
    if map_type not in MAPS_OF_MAPS:
        raise bad_object(
            f"its map {name!r} has initial values, but is neither a program array nor a map of maps"
        )
    return _definition(btf, f"{name}.inner", pointer.target, within=name)


def _with_values(
    spec: MapSpec, elf: Elf, section: Section, offset: int, size: int, btf: Btf, type_id: int
) -> MapSpec:
    """``spec`` with its initial ``values``: relocations against programs or maps."""
    definition = btf.resolve(type_id)
    members = definition.members if isinstance(definition, types.Struct) else ()
    start = next((offset + member.bit_offset // 8 for member in members if member.name == "values"), None)
    if start is None:
        return spec
    values = []
    for relocation in elf.relocations_within(section.index, start, offset + size):
        if (relocation.offset - start) % _POINTER:
            raise bad_object(f"an initial value of its map {spec.name!r} is not aligned")
        name = readable(relocation.symbol.name, f"an initial value of map {spec.name}")
        wanted = "func" if spec.type == PROG_ARRAY else "object"
        if relocation.symbol.type != wanted or relocation.symbol.section < 0:
            raise bad_object(f"its map {spec.name!r} is initialised with {name!r}, which is not a {wanted}")
        values.append(((relocation.offset - start) // _POINTER, name))
    return replace(spec, values=tuple(sorted(values)))


def _symbol(elf: Elf, section: Section, name: str) -> Symbol:
    """The symbol of a global variable."""
    symbol = elf.globals.get((section.index, name))
    if symbol is None:
        raise bad_object(
            f"its type information names {name!r} in section {section.name}, and its symbols do not"
        )
    return symbol
