# SPDX-License-Identifier: Apache-2.0
"""Whether and how a component redirects packets, as far as its code and maps show. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from xdpchain.bytecode.opcodes import Helper
from xdpchain.errors import InvalidInput, NotFound
from xdpchain.frozen import frozen
from xdpchain.model.component import Component

__all__ = ["RedirectUse", "redirect_use"]

TO_DEVICES = ("devmap", "devmap_hash")
ELSEWHERE = ("cpumap", "xskmap")


@frozen
class RedirectUse:
    """``devices``: names of the device maps it refers to; ``others``: of its cpumaps and xskmaps;
    ``anywhere``: it calls bpf_redirect(), so its targets can't be known. False if none of these is known.
    """

    devices: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    anywhere: bool = False

    def __bool__(self) -> bool:
        return bool(self.devices or self.others or self.anywhere)


def redirect_use(component: Component, types: Mapping[int, str]) -> RedirectUse:
    """A component's known redirects; ``types`` are running maps' types by ID, as bpftool spells them."""
    map_types = {ref.name: types[ref.id] for ref in component.maps if ref.id in types}
    data = component.object.data if component.object else None
    anywhere = False
    if data is not None:
        declared = _declared(data)
        map_types |= {name: declared[name] for name in component.uses if name in declared}
        anywhere = Helper.REDIRECT in _helpers(data, component.name)
    return RedirectUse(
        tuple(sorted(name for name, kind in map_types.items() if kind in TO_DEVICES)),
        tuple(sorted(name for name, kind in map_types.items() if kind in ELSEWHERE)),
        anywhere,
    )


@lru_cache(maxsize=64)
def _declared(data: bytes) -> dict[str, str]:
    """The type of each map of an object file, by name."""
    from .objfile import ObjectFile  # late: plans of running chains read no object file

    try:
        return {bpf_map.name: bpf_map.type_name for bpf_map in ObjectFile.parse(data).maps}
    except InvalidInput:
        return {}


@lru_cache(maxsize=64)
def _helpers(data: bytes, program: str) -> frozenset[int]:
    """The helpers that a program and its callees call, by number."""
    from .elf import Elf
    from .objfile import ObjectFile
    from .objrefs import References, read_functions

    try:
        source = ObjectFile.parse(data)
        elf = Elf.parse(data)
        functions = read_functions(elf)
        reached = {program, *source.program(program).callees}
        graph = References(elf, functions, {bpf_map.name for bpf_map in source.maps})
        return frozenset().union(
            *(graph.helpers(function) for function in functions if function.name in reached)
        )
    except (InvalidInput, NotFound):
        return frozenset()
