# SPDX-License-Identifier: Apache-2.0
"""A running chain as a spec. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

from xdpchain.model.chain import Chain
from xdpchain.model.component import Component
from xdpchain.model.interface import WantedMode
from xdpchain.model.slot import Slot

from .values import InterfaceSpec, SlotSpec

__all__ = ["families", "merged", "spec_of"]


def spec_of(
    chain: Chain | None, name: str, netns: str | None = None, paths: Mapping[str, str] | None = None
) -> InterfaceSpec:
    """What an interface runs (None: nothing), as a spec. ``paths`` says where object files are, by hash, in
    place of where they were loaded from.
    """
    if chain is None or not chain.slots:
        return InterfaceSpec((name,), (), netns)
    written = [_slot(slot, paths or {}) for slot in chain.slots]
    instances = _instances(chain.slots, written)
    written = [replace(slot_spec, instance=name) for slot_spec, name in zip(written, instances, strict=True)]
    slots = _routed(chain.slots, written)
    # The dispatcher's protocol version follows the libxdp installed where the spec is applied.
    mode = WantedMode(chain.mode.value)
    return InterfaceSpec((name,), slots, netns, chain.linkage, mode, chain.counters)


def _slot(slot: Slot, paths: Mapping[str, str]) -> SlotSpec:
    component = slot.component
    config = SlotSpec(
        program=component.name,
        priority=slot.priority,
        actions=slot.actions,
        shadow=slot.shadow,
        off=slot.off,
        labels=slot.labels,
        policy=slot.policy,
        globals=tuple(sorted((variable.name, variable.text) for variable in component.globals)),
        map_entries=tuple(sorted(component.map_entries)),
        entries=slot.entries,
    )
    if component.object is None:
        return replace(config, tag=component.tag)
    source = component.object
    path = paths.get(source.sha256) or source.path
    return replace(config, object=path, sha256=source.sha256, pin_path=component.pin_root)


def _routed(slots: Sequence[Slot], written: Sequence[SlotSpec]) -> tuple[SlotSpec, ...]:
    """The slots with their routes and the maps they use, and with names of their own for slots that are
    referred to and whose program is not unique.
    """
    places = {slot.key: i for i, slot in enumerate(slots)}
    named = list(written)
    routed = {route.target for slot in slots for route in slot.routes}
    owners = {share.slot for slot in slots for share in slot.component.shares}
    for place in sorted(places[key] for key in (routed | owners) & places.keys()):
        names = [slot_spec.name for slot_spec in named]
        if names.count(named[place].name) > 1:
            named[place] = replace(named[place], given_name=_unlike(named[place].program, names))
    return tuple(
        replace(
            slot_spec,
            routes=tuple((r.code, named[places[r.target]].name) for r in slot.routes if r.target in places),
            use_maps=tuple(
                (s.name, named[places[s.slot]].name, s.theirs)
                for s in slot.component.shares
                if s.slot in places
            ),
        )
        for slot, slot_spec in zip(slots, named, strict=True)
    )


def families(slots: Sequence[Slot]) -> list[int]:
    """A number for each slot, equal for slots that share maps, directly or through others: they were loaded
    together, or use the same maps. A slot that another tool loaded is alone.
    """
    family = list(range(len(slots)))
    for i, slot in enumerate(slots):
        for j in range(i):
            if family[i] != family[j] and _share(slot.component, slots[j].component):
                family = [family[j] if index == family[i] else index for index in family]
    return family


def _share(component: Component, other: Component) -> bool:
    if component.object is None or other.object is None:
        return False
    if component.instance and component.instance == other.instance:
        return True
    return not _own_maps(component).isdisjoint(_own_maps(other))


def _own_maps(component: Component) -> frozenset[int]:
    taken = {share.name for share in component.shares}
    return frozenset(ref.id for ref in component.maps if ref.name not in taken)


def _instances(slots: Sequence[Slot], written: Sequence[SlotSpec]) -> list[str | None]:
    """A name for each family, None for a slot that is alone."""
    family = families(slots)
    names: dict[int, str] = {}
    for slot_spec, family_index in zip(written, family, strict=True):
        if family.count(family_index) > 1 and family_index not in names:
            name = PurePath(slot_spec.object).stem if slot_spec.object else slot_spec.program
            names[family_index] = _unlike(name, names.values())
    return [names.get(family_index) for family_index in family]


def _unlike(wanted: str, taken: Iterable[str]) -> str:
    names = set(taken)
    name, count = wanted, 1
    while name in names:
        count += 1
        name = f"{wanted}-{count}"
    return name


def merged(entries: Sequence[InterfaceSpec]) -> tuple[InterfaceSpec, ...]:
    """The same, with interfaces of a namespace that run the same combined into one entry."""
    found: dict[InterfaceSpec, list[str]] = {}
    for entry in entries:
        found.setdefault(replace(entry, names=()), []).extend(entry.names)
    return tuple(replace(entry, names=tuple(names)) for entry, names in found.items())
