# SPDX-License-Identifier: Apache-2.0
"""The maps of a slot: shape, number of entries, pins, and other users."""

from __future__ import annotations

from typing import Final

from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.errors import InvalidInput, NotFound, XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.component import Component, MapRef
from xdpchain.model.running import Running
from xdpchain.objects.btf import Btf
from xdpchain.sys import blobs, bpf
from xdpchain.sys.pinned import find_pins

from .entries import Shape, btf_of
from .table import MapTable

__all__ = ["MapSummary", "definitions_of", "map_refs", "maps_of", "open_map"]

COUNTED: Final = 10_000
"""Most elements that are counted."""


@frozen
class MapSummary:
    """A map in the list. ``entries``: their number, None if unknown (``complete``: all were counted);
    ``pins``: paths; ``users``: descriptions of the other programs and slots that use it.
    """

    shape: Shape
    entries: int | None
    complete: bool
    pins: tuple[str, ...]
    users: tuple[str, ...]


def map_refs(running: Running, slot: int | None = None) -> tuple[MapRef, ...]:
    """The maps of a slot, by name and ID; with ``slot`` None, those of a single program without a chain.

    Raises NotFound.
    """
    chain = running.chain or running.shown
    if chain is not None and chain.slots:
        if slot is None or not 0 <= slot < len(chain):
            raise NotFound(f"{running.interface} has no slot {slot}", f"it has slots 0 to {len(chain) - 1}")
        return chain.slots[slot].component.maps
    if running.hook is None:
        raise NotFound(f"no program runs on {running.interface}")
    refs = []
    try:
        with bpf.prog_by_id(running.hook.prog_id) as program:
            for map_id in bpf.prog_map_ids(program):
                with bpf.map_by_id(map_id) as fd:
                    refs.append(MapRef(bpf.map_info(fd).name, map_id))
    except OSError as error:
        raise bpf.refusal(error, f"the maps of {running.hook.name} can't be read") from error
    return tuple(refs)


def maps_of(running: Running, slot: int | None = None) -> tuple[MapSummary, ...]:
    """The maps of a slot, without those that disappeared meanwhile. Raises NotFound, PermissionDenied."""
    refs = map_refs(running, slot)
    pins = find_pins(of_chains=False).maps if refs else {}
    users = _users(running, slot, {ref.id for ref in refs})
    definitions = _definitions(running, slot) if refs else None
    summaries = []
    for ref in refs:
        try:
            with MapTable(ref.id, ref.name, running.interface.netns, definitions) as table:
                entries, complete = (None, False) if table.shape.closed else table.count(COUNTED)
                summaries.append(
                    MapSummary(
                        table.shape, entries, complete, pins.get(ref.id, ()), tuple(users.get(ref.id, ()))
                    )
                )
        except NotFound:
            continue
    return tuple(summaries)


def open_map(running: Running, slot: int | None, name: str) -> MapTable:
    """Open a slot's map by name or ID. Raises NotFound, InvalidInput (an ambiguous name)."""
    refs = map_refs(running, slot)
    found = [ref for ref in refs if ref.name == name or str(ref.id) == name]
    if not found:
        there = ", ".join(ref.name for ref in refs)
        raise NotFound(f"there is no map {name!r}", f"the maps are {there}" if there else "there are none")
    if len(found) > 1:
        ids = ", ".join(str(ref.id) for ref in found)
        raise InvalidInput(f"{name!r} matches {len(found)} maps", f"their ids are {ids}", "Give the id")
    return MapTable(found[0].id, found[0].name, running.interface.netns, _definitions(running, slot))


def _definitions(running: Running, slot: int | None) -> Btf | None:
    """The BTF of the slot's program."""
    chain = running.chain or running.shown
    if chain is not None and slot is not None:
        return definitions_of(chain.slots[slot].component)
    return _btf_of_program(running.hook.prog_id) if running.hook else None


def definitions_of(component: Component) -> Btf | None:
    """The BTF of a loaded component, from its linkable form or its program; None if unavailable, leaving only
    the maps' own types.
    """
    if component.unit_map is None:
        return _btf_of_program(component.id) if component.id else None
    try:
        with bpf.map_by_id(component.unit_map) as fd:
            raw = LinkableProgram.decode(blobs.read(fd)).btf
        return Btf.parse(raw) if raw else None
    except (OSError, XdpChainError):
        return None


def _btf_of_program(prog_id: int) -> Btf | None:
    try:
        with bpf.prog_by_id(prog_id) as program:
            info = bpf.prog_info(program)
    except OSError:
        return None
    return btf_of(info.btf_id) if info.btf_id else None


def _users(running: Running, slot: int | None, ids: set[int]) -> dict[int, list[str]]:
    """Other users of these maps: the chain's other slots, and programs outside the chain."""
    users: dict[int, list[str]] = {}
    chain = running.chain or running.shown
    own = {hook.prog_id for hook in running.hooks}
    for i, other in enumerate(chain or ()):
        if other.id is not None:
            own.add(other.id)
        if i != slot:
            for ref in other.component.maps:
                if ref.id in ids:
                    users.setdefault(ref.id, []).append(f"slot {i} ({other.name})")
    try:
        for prog_id in bpf.ids(bpf.Command.PROG_GET_NEXT_ID):
            if prog_id in own:
                continue
            try:
                with bpf.prog_by_id(prog_id) as program:
                    for used in ids.intersection(bpf.prog_map_ids(program)):
                        name = bpf.prog_info(program).name
                        users.setdefault(used, []).append(f"program {prog_id} ({name})")
            except OSError:  # gone meanwhile
                continue
    except (OSError, XdpChainError):
        pass  # not permitted to list programs: no other users are known
    return users
