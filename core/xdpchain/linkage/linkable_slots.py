# SPDX-License-Identifier: Apache-2.0
"""The parts of a chain in the making: each slot's unit and maps, from the kernel or the object file."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from xdpchain.advice import Do, advise
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.errors import InvalidInput, LinkRefused
from xdpchain.model.chain import Chain, Component, ObjectRef, Slot
from xdpchain.model.running import Running
from xdpchain.sys import blobs, bpf
from xdpchain.sys.clones import clone_map

from .compile import Compiled, compile_component, open_maps
from .counting import assign_rows

__all__ = ["Part", "gather_parts", "kept_maps", "object_bytes"]


@dataclass
class Part:
    """A slot on its way into a dispatcher. ``partial`` names the maps whose copies lack elements."""

    slot: Slot
    unit: LinkableProgram
    maps: dict[str, bpf.Fd]
    pins: tuple[tuple[str, str], ...] = ()
    partial: tuple[str, ...] = ()


def gather_parts(
    candidate: Chain, running: Running, held: contextlib.ExitStack, *, cloning: bool = False
) -> list[Part]:
    """Units and open maps of all slots: read from the kernel for those that run, compiled for the rest.

    With ``cloning`` every map is a copy; what two slots share, their copies share.
    """
    gathering = _Gathering(candidate, cloning, held)
    rows = assign_rows(candidate, running)
    return [gathering.part(slot, row) for slot, row in zip(candidate.slots, rows, strict=True)]


class _Gathering:
    def __init__(self, candidate: Chain, cloning: bool, held: contextlib.ExitStack) -> None:
        self._linkage = candidate.linkage
        self._frags = all(slot.component.frags for slot in candidate.slots)
        self._cloning = cloning
        self._held = held
        self._instances: dict[str, dict[str, bpf.Fd]] = {}
        self._copies: dict[int, bpf.Fd] = {}
        self._partial: set[int] = set()

    def part(self, slot: Slot, row: int) -> Part:
        slot = replace(slot, row=row, program=None)
        component = slot.component
        maps = self._maps(component)
        partial = tuple(ref.name for ref in component.maps if ref.id in self._partial)
        unit = self._unit(component)
        if unit is not None:
            return Part(slot, unit, maps, partial=partial)
        compiled = self._compile(component, maps)
        used = {ref.name: compiled.maps[ref.name] for ref in compiled.component.maps}
        fresh = replace(compiled.component, unit_map=None)
        return Part(replace(slot, component=fresh), compiled.unit, used, compiled.pins, partial)

    def _maps(self, component: Component) -> dict[str, bpf.Fd]:
        maps = open_maps(component.maps)
        for fd in maps.values():
            self._held.enter_context(fd)
        if self._cloning:
            return {ref.name: self._copy(ref.id, maps[ref.name]) for ref in component.maps}
        return maps

    def _copy(self, number: int, fd: bpf.Fd) -> bpf.Fd:
        if number not in self._copies:
            try:
                copy, whole = clone_map(fd)
            except bpf.BpfError as error:
                raise bpf.refusal(error, "a map can't be copied for a trial") from error
            self._copies[number] = self._held.enter_context(copy)
            if not whole:
                self._partial.add(number)
        return self._copies[number]

    def _unit(self, component: Component) -> LinkableProgram | None:
        if component.unit_map is None:
            return None
        try:
            unit = blobs.decoded(component.unit_map, LinkableProgram.decode)
        except bpf.BpfError as error:
            raise bpf.refusal(error, f"the linkable form of {component.name} can't be read") from error
        # A program array and the program that uses it must agree on the frags flag; and the programs in it
        # use the maps that they were loaded with. Either way, fresh arrays then.
        stale = component.callees and (self._cloning or unit.frags != self._frags)
        return None if stale else unit

    def _compile(self, component: Component, maps: dict[str, bpf.Fd]) -> Compiled:
        if component.object is None:
            raise LinkRefused(
                f"{component.name} can't be linked ({self._linkage})",
                "another tool loaded it, and its object file is not known",
                "Load it again from its object file, or use freplace linkage",
            )
        kept = kept_maps(component, maps)
        siblings = self._instances.setdefault(component.instance, {}) if component.instance else {}
        compiled = compile_component(
            component,
            object_bytes(component.object),
            siblings | kept,
            frags=self._frags and component.frags,
            isolated=self._cloning,
        )
        self._held.callback(compiled.close)
        siblings.update(compiled.maps)
        return compiled


def kept_maps(component: Component, maps: Mapping[str, bpf.Fd]) -> dict[str, bpf.Fd]:
    """Those of a running component's maps that a new load of it takes over."""
    # A program array holds programs, not state, and its object fills it: each load gets its own.
    return {
        name: fd
        for name, fd in maps.items()
        if not (component.callees and bpf.map_info(fd).type == bpf.MapType.PROG_ARRAY)
    }


def object_bytes(source: ObjectRef) -> bytes:
    """The bytes of an object file, from memory or from the map that carries them. Raises NotFound."""
    if source.data is not None:
        return source.data
    if source.map_id is None:
        raise InvalidInput(f"the object file {source.path or source.sha256[:12]} is not at hand")
    try:
        with bpf.map_by_id(source.map_id) as fd:
            data = blobs.read(fd)[: source.size]
    except bpf.BpfError as error:
        what = f"the object file {source.path or source.sha256[:12]} can't be read"
        raise bpf.refusal(error, what) from error
    if hashlib.sha256(data).hexdigest() != source.sha256:
        what = f"the object file {source.path or source.sha256[:12]} can't be used"
        raise InvalidInput(what, f"map {source.map_id} holds something else", advise(Do.REPLACE))
    return data
