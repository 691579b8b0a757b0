# SPDX-License-Identifier: Apache-2.0
"""The parts of a chain being built: each slot's unit and maps, from the kernel or the object file."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from xdpchain.advice import Advice, Do, advise
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.bytecode.opcodes import STACK
from xdpchain.bytecode.sites import VerdictSite
from xdpchain.errors import InvalidInput, LinkRefused, NotFound, XdpChainError
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component, ObjectRef
from xdpchain.model.running import Running
from xdpchain.model.sharing import loading_order
from xdpchain.model.slot import Slot
from xdpchain.objects.verdicts import sites_with_calls
from xdpchain.sys import blobs, bpf
from xdpchain.sys.clones import clone_map

from .compile import Compiled, compile_component, open_maps
from .counting import assign_rows
from .loaded_elsewhere import keep_load, load_alike
from .verifier_words import OWN_TYPES

__all__ = [
    "CALL_ROOM",
    "Part",
    "gather_parts",
    "keeping_own_types",
    "kept_maps",
    "object_bytes",
    "shared_maps",
    "shown_sites",
    "too_deep",
    "use_linkage",
]


@dataclass
class Part:
    """A slot to be linked. ``partial`` names the maps whose copies lack elements."""

    slot: Slot
    unit: LinkableProgram
    maps: dict[str, bpf.Fd]
    pins: tuple[tuple[str, str], ...] = ()
    partial: tuple[str, ...] = ()


def gather_parts(
    candidate: Chain, running: Running, held: contextlib.ExitStack, *, cloning: bool = False
) -> list[Part]:
    """Units and open maps of all slots: read from the kernel for those that run, compiled for the rest.

    With ``cloning`` every map is a copy; slots that share a map share its copy.
    """
    gathering = _Gathering(candidate, running, cloning, held)
    rows = assign_rows(candidate, running)
    slots = candidate.slots
    parts = {place: gathering.part(slots[place], rows[place]) for place in loading_order(slots)}
    return [parts[place] for place in range(len(slots))]


class _Gathering:
    def __init__(self, candidate: Chain, running: Running, cloning: bool, held: contextlib.ExitStack) -> None:
        self._place = running.device.netns_inode, running.interface.ifindex
        self._linkage = candidate.linkage
        self._frags = all(slot.component.frags for slot in candidate.slots)
        self._cloning = cloning
        self._held = held
        self._instances: dict[str, dict[str, bpf.Fd]] = {}
        self._maps_of: dict[str, Mapping[str, bpf.Fd]] = {}
        self._copies: dict[int, bpf.Fd] = {}
        self._partial: set[int] = set()

    def part(self, slot: Slot, row: int) -> Part:
        part = self._part(slot, row)
        self._maps_of[slot.key] = part.maps
        return part

    def _part(self, slot: Slot, row: int) -> Part:
        component = slot.component
        maps = self._maps(component)
        partial = tuple(ref.name for ref in component.maps if ref.id in self._partial)
        unit = self._unit(component)
        if unit is not None:
            kept = replace(slot, row=row, program=None)
            return Part(kept, self._judged(unit), maps, partial=partial)
        compiled = self._compile(component, maps)
        used = {ref.name: compiled.maps[ref.name] for ref in compiled.component.maps}
        loaded = replace(slot, row=row, program=None, component=compiled.component)
        return Part(loaded, self._judged(compiled.unit), used, compiled.pins, partial)

    def _judged(self, unit: LinkableProgram) -> LinkableProgram:
        """The kernel runs no trials of programs that are bound to a device."""
        return unit.unbound() if self._cloning and unit.device_calls else unit

    def _maps(self, component: Component) -> dict[str, bpf.Fd]:
        maps = open_maps(component.maps)
        for fd in maps.values():
            self._held.enter_context(fd)
        if self._cloning:
            return {ref.name: self._copy(ref.id, maps[ref.name]) for ref in component.maps}
        return maps

    def _copy(self, map_id: int, fd: bpf.Fd) -> bpf.Fd:
        if map_id not in self._copies:
            try:
                copy, whole = clone_map(fd)
            except bpf.BpfError as error:
                raise bpf.refusal(error, "a map can't be copied for a trial") from error
            self._copies[map_id] = self._held.enter_context(copy)
            if not whole:
                self._partial.add(map_id)
        return self._copies[map_id]

    def _unit(self, component: Component) -> LinkableProgram | None:
        if component.unit_map is None:
            return None
        try:
            unit = blobs.decoded(component.unit_map, LinkableProgram.decode)
        except bpf.BpfError as error:
            raise bpf.refusal(error, f"the linkable form of {component.name} can't be read") from error
        # A program array and the program that uses it must agree on the frags flag, and the programs in it
        # use the maps that they were loaded with. In both cases the arrays must be new.
        stale = component.callees and (self._cloning or unit.frags != self._frags)
        return None if stale else unit

    def _compile(self, component: Component, maps: dict[str, bpf.Fd]) -> Compiled:
        if component.object is None:
            raise LinkRefused(
                f"{component.name} can't be linked ({self._linkage})",
                "another tool loaded it, and its object file is not known",
                advise(Do.MEND, "Load it again from its object file") | advise(Do.CHOOSE_LINKAGE, "freplace"),
            )
        kept = kept_maps(component, maps)
        siblings = self._instances.setdefault(component.instance, {}) if component.instance else {}
        data, frags = object_bytes(component.object), self._frags and component.frags
        reuse = siblings | kept | shared_maps(component, self._maps_of)
        compiled = None if reuse or self._cloning else load_alike(component, data, frags, self._place)
        if compiled is None:
            compiled = compile_component(component, data, reuse, frags=frags, isolated=self._cloning)
            self._held.callback(compiled.close)
            if not self._cloning:
                keep_load(component, data, frags, self._place, compiled)
        else:
            self._held.callback(compiled.close)
        siblings.update(compiled.maps)
        return compiled


def kept_maps(component: Component, maps: Mapping[str, bpf.Fd]) -> dict[str, bpf.Fd]:
    """The maps of a running component that a new load of it takes over."""
    # A program array holds programs, not state, and is filled from the object: each load gets its own.
    return {
        name: fd
        for name, fd in maps.items()
        if not (component.callees and bpf.map_info(fd).type == bpf.MapType.PROG_ARRAY)
    }


CALL_ROOM = {Linkage.STATIC: 16, Linkage.TAILCALL: 32}
"""Most stack bytes that a linkage needs if a component stays a function or program."""


def use_linkage(slots: int, *linkages: Linkage) -> Advice:
    """To use one of these linkages, if it supports that many slots."""
    return advise(Do.CHOOSE_LINKAGE, *(linkage for linkage in linkages if slots <= linkage.facts.most_slots))


def too_deep(parts: Sequence[Part], slots: int, other: Linkage) -> Advice:
    """What to do if the components' stacks are too deep for a linkage: use one with room for a chain of this
    many slots (``other`` if it fits, or freplace, in which each has its own stack), or use less stack.
    """
    fits = all(sum(part.unit.stack) + CALL_ROOM[other] <= STACK for part in parts)
    linkages = (Linkage.FREPLACE, other) if fits else (Linkage.FREPLACE,)
    less = "Move large variables from the stack into a per-CPU map"
    return use_linkage(slots, *linkages) | advise(Do.MEND, less)


def keeping_own_types(parts: Iterable[Part], verdict: str) -> str:
    """Why the verifier refuses parts whose objects are stored in maps, if that is the reason; else ""."""
    if not OWN_TYPES.search(verdict):
        return ""
    names = ", ".join(part.slot.name for part in parts if part.unit.type_ids)
    return names and (
        f"maps keep objects of its own types that {names} makes (bpf_obj_new), and in a chain its types are "
        f"no longer those of the maps ({verdict})"
    )


def shared_maps(component: Component, maps_of: Mapping[str, Mapping[str, bpf.Fd]]) -> dict[str, bpf.Fd]:
    """The maps that a component takes from other slots; ``maps_of`` has each slot's maps by its key. Raises
    NotFound.
    """
    kept = {ref.name for ref in component.maps}
    found = {}
    for share in component.shares:
        if share.slot in maps_of and share.theirs in maps_of[share.slot]:
            found[share.name] = maps_of[share.slot][share.theirs]
        elif share.name not in kept:
            raise NotFound(f"{component.name} can't use the map {share.theirs}", "its owner does not have it")
    return found


def shown_sites(
    unit: LinkableProgram, sites: Sequence[VerdictSite], component: Component
) -> tuple[VerdictSite, ...]:
    """A component's sites as they are shown: with the calls that lead to inlined ones, if its object file is
    known and has the DWARF for it.
    """
    with contextlib.suppress(XdpChainError):
        if component.object is not None:
            return sites_with_calls(unit, sites, object_bytes(component.object))
    return tuple(sites)


def object_bytes(source: ObjectRef) -> bytes:
    """The bytes of an object file, from memory or from the map that carries them. Raises NotFound if that map
    is gone, InvalidInput.
    """
    if source.data is not None:
        return source.data
    if source.map_id is None:
        raise InvalidInput(f"the object file {source.path or source.sha256[:12]} is not available")
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
