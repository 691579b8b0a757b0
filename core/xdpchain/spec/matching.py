# SPDX-License-Identifier: Apache-2.0
"""Match a spec to what runs: the candidate differs from it only where it must. Pure.

A running slot is the one that the spec means if it runs the same program of the same object file (by hash)
with the same pins and global variables. It stays, and its maps and counters carry on, even if its priority or
actions change. A slot that runs another version of the program gets the new one and keeps its maps. Other
slots are added or removed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from xdpchain.errors import NotFound
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component, MapRef, SharedMap
from xdpchain.model.interface import Mode, WantedMode
from xdpchain.model.routes import Route
from xdpchain.model.runconfig import RunConfig
from xdpchain.model.running import Running
from xdpchain.model.sharing import following, owners_of
from xdpchain.model.slot import Slot
from xdpchain.objects.components import keep_maps

from .taking import families
from .values import InterfaceSpec, SlotSpec

__all__ = ["candidate"]


def candidate(
    spec: InterfaceSpec,
    components: Sequence[Component | None],
    running: Running,
    linkage: Linkage,
    *,
    fresh_maps: bool = False,
) -> Chain:
    """The chain that ``spec`` wants on an interface. ``components`` come from its slots' object files (None
    for a slot that names none); ``linkage`` is the one in force. With ``fresh_maps`` a new version of a
    program starts with its own maps.

    Raises NotFound for a component that can only be kept, but does not run; InvalidInput for a new value of a
    variable in a running map.
    """
    if running.chain is None:
        return _first(spec, tuple(components), linkage, fresh_maps)
    return _candidate(spec, components, running.chain, linkage, fresh_maps)


@lru_cache(maxsize=8)
def _first(
    spec: InterfaceSpec, components: tuple[Component | None, ...], linkage: Linkage, fresh_maps: bool
) -> Chain:
    """The same for all interfaces of an entry on which no chain runs."""
    return _candidate(spec, components, None, linkage, fresh_maps)


def _candidate(
    spec: InterfaceSpec,
    components: Sequence[Component | None],
    running: Chain | None,
    linkage: Linkage,
    fresh_maps: bool,
) -> Chain:
    chain = running or Chain()
    if not spec.slots:
        return replace(chain, slots=())
    slots = _Matching(spec, components, chain, fresh_maps).slots()
    for owner in slots:
        slots = tuple(following(slot, owner) for slot in slots)
    # A chain that others loaded has no counters to switch.
    switched = linkage.facts.counts_chain or any(slot.component.object is not None for slot in slots)
    return Chain(
        slots,
        linkage,
        _mode(spec, running),
        spec.counters if switched else chain.counters,
        spec.dispatcher_version if linkage.facts.libxdp else None,
    )


def _mode(spec: InterfaceSpec, running: Chain | None) -> Mode:
    if spec.mode is WantedMode.BEST:
        return running.mode if running is not None else Mode.NATIVE
    return Mode((spec.mode or WantedMode.NATIVE).value)


def _given(component: Component) -> frozenset[tuple[str, bytes]]:
    return frozenset((variable.name, variable.data) for variable in component.globals)


def _handed_on(new: Component, running: Component) -> tuple[MapRef, ...]:
    """The maps that a component takes over (`components.keep_maps`). A value that the spec gave before is not
    new: the variable keeps what it holds now.
    """
    before = _given(running)
    changed = tuple(variable for variable in new.globals if (variable.name, variable.data) not in before)
    return keep_maps(replace(new, globals=changed), running).maps


class _Matching:
    """Which running slot each of the spec's slots is. Both are identified by index."""

    def __init__(
        self, spec: InterfaceSpec, components: Sequence[Component | None], chain: Chain, fresh_maps: bool
    ) -> None:
        self._wanted = spec.slots
        self._components = components
        self._chain = chain
        self._runs = chain.slots
        self._fresh_maps = fresh_maps
        self._same: dict[int, int] = {}
        self._replaced: dict[int, int] = {}
        self._families = families(chain.slots)

        def any_of_them(i: int, j: int) -> bool:
            return True

        self._pair(self._same, self._is, self._configured)
        self._pair(self._same, self._is, any_of_them)
        self._part_strangers()
        self._pair(self._replaced, self._is_version, self._same_file)
        self._pair(self._replaced, self._is_version, any_of_them)

    def slots(self) -> tuple[Slot, ...]:
        slots = self._routed([self._slot(i) for i in range(len(self._wanted))])
        if self._same == {i: i for i in range(len(self._runs))} and tuple(slots) == self._runs:
            return tuple(  # in whatever order another tool put them
                replace(runs, entries=slot.entries) for runs, slot in zip(self._runs, slots, strict=True)
            )
        # Twins are in the order of the file, so that the spec alone decides what runs, whatever ran before.
        return tuple(sorted(slots, key=lambda slot: (slot.priority, slot.name.encode())))

    # Which is which

    def _pair(
        self,
        pairs: dict[int, int],
        same: Callable[[int, int], bool],
        rather: Callable[[int, int], bool],
    ) -> None:
        for i in range(len(self._wanted)):
            for j in range(len(self._runs)):
                if self._free(i, j) and same(i, j) and rather(i, j):
                    pairs[i] = j
                    break

    def _free(self, i: int, j: int) -> bool:
        pairs = self._same | self._replaced
        return i not in pairs and j not in pairs.values()

    def _is(self, i: int, j: int) -> bool:
        wanted, runs = self._components[i], self._runs[j].component
        if runs.object is None:
            spec = self._wanted[i]
            return spec.tag is not None and (spec.tag, self._name(i)) == (runs.tag, runs.name)
        return (
            wanted is not None
            and wanted.object is not None
            and wanted.object.sha256 == runs.object.sha256
            and (wanted.name, wanted.pin_root) == (runs.name, runs.pin_root)
            and _given(wanted) == _given(runs)
            and dict(wanted.map_entries) == dict(runs.map_entries)
            and self._takes(i) == self._taken(j)
        )

    def _takes(self, i: int) -> set[tuple[str, str, str]]:
        """Whose maps a slot of the spec uses: its own name for the map, the owner's program, the name
        there.
        """
        programs = {slot_spec.name: self._name(k) for k, slot_spec in enumerate(self._wanted)}
        return {(name, programs[owner], theirs) for name, owner, theirs in self._wanted[i].use_maps}

    def _taken(self, j: int) -> set[tuple[str, str, str]]:
        owners = owners_of(self._chain, self._runs[j]).items()
        return {(name, self._runs[place].name, theirs) for name, (place, theirs) in owners}

    def _is_version(self, i: int, j: int) -> bool:
        return self._components[i] is not None and self._name(i) == self._runs[j].name

    def _configured(self, i: int, j: int) -> bool:
        return self._config(i, self._runs[j].component) == self._runs[j].config

    def _same_file(self, i: int, j: int) -> bool:
        wanted, runs = self._components[i], self._runs[j].component
        return bool(wanted and wanted.object and runs.object and wanted.object.path == runs.object.path)

    def _name(self, i: int) -> str:
        component = self._components[i]
        return component.name if component is not None else self._wanted[i].program

    def _part_strangers(self) -> None:
        """A slot that runs the right program but shares maps with other slots than in the spec must be loaded
        again.
        """
        kept: list[int] = []
        for i in sorted(self._same, key=lambda i: self._same[i]):
            if all(self._agree(i, other) for other in kept):
                kept.append(i)
            else:
                self._replaced[i] = self._same.pop(i)

    def _agree(self, i: int, other: int) -> bool:
        j, k = self._same[i], self._same[other]
        if self._with(i, other):
            return self._families[j] == self._families[k]
        return not self._together_loaded(j, k)

    def _with(self, i: int, other: int) -> bool:
        """Whether in the spec both share their maps."""
        instance = self._wanted[i].instance
        return instance is not None and instance == self._wanted[other].instance

    def _together_loaded(self, j: int, k: int) -> bool:
        # Maps that two objects share by pin don't count: a fresh load shares them as well.
        first, second = self._runs[j].component.instance, self._runs[k].component.instance
        return bool(first) and first == second

    # What becomes of each

    def _slot(self, i: int) -> Slot:
        if i in self._same:
            runs = self._runs[self._same[i]]
            return self._tuned(i, runs, runs.component)
        component = self._components[i]
        if component is None:
            raise NotFound(
                f"{self._name(i)} (tag {self._wanted[i].tag}) does not run and can't be loaded",
                "another tool loaded it, and the spec names no object file",
                "Load it again with that tool, or add its object file to the spec",
            )
        component = self._together(i, component)
        if i not in self._replaced:
            return self._tuned(i, Slot.of(component), component)
        return self._tuned(i, self._runs[self._replaced[i]], component)

    def _tuned(self, i: int, slot: Slot, component: Component) -> Slot:
        wanted = self._wanted[i]
        config = self._config(i, component)
        return replace(
            slot,
            component=component,
            config=config,
            shadow=wanted.shadow,
            off=wanted.off,
            labels=wanted.labels,
            entries=wanted.entries,
            policy=wanted.policy,
        )

    def _routed(self, slots: Sequence[Slot]) -> list[Slot]:
        keys = {
            wanted.name: slot.key for wanted, slot in zip(self._wanted, slots, strict=True) if wanted.name
        }
        placed = []
        for i, (wanted, slot) in enumerate(zip(self._wanted, slots, strict=True)):
            component = slot.component
            if i not in self._same:  # a running slot uses those maps already
                shares = (SharedMap(name, keys[owner], theirs) for name, owner, theirs in wanted.use_maps)
                component = replace(component, shares=tuple(shares))
            routes = tuple(Route(code, keys[target]) for code, target in wanted.routes)
            placed.append(replace(slot, component=component, routes=routes))
        return placed

    def _together(self, i: int, component: Component) -> Component:
        """The component with the maps of those it should share maps with, and of the version that it
        replaces.
        """
        group = [k for k in range(len(self._wanted)) if self._with(i, k)]
        kept = [self._runs[self._same[k]].component for k in group if k in self._same]
        givers = [self._runs[self._replaced[i]].component] if self._keeps(i, component) else []
        maps: dict[str, MapRef] = {}
        for giver in (*givers, *kept):
            maps |= {ref.name: ref for ref in _handed_on(component, giver)}
        loaded_first = self._components[group[0]] if group else None
        instance = next((giver.instance for giver in kept if giver.instance), "")
        instance = instance or (loaded_first.instance if loaded_first else "") or component.instance
        return replace(component, maps=tuple(maps.values()), instance=instance)

    def _keeps(self, i: int, component: Component) -> bool:
        """Whether the replaced version's maps carry on: not if they are to be pinned elsewhere, nor if the
        slot no longer shares them with those that it did.
        """
        if self._fresh_maps or i not in self._replaced:
            return False
        runs = self._runs[self._replaced[i]].component
        if runs.pin_root != component.pin_root:
            return False
        j = self._replaced[i]
        return not any(self._together_loaded(j, self._same[k]) for k in self._same if not self._with(i, k))

    def _config(self, i: int, component: Component) -> RunConfig:
        wanted: SlotSpec = self._wanted[i]
        default = component.declared
        return RunConfig(
            default.priority if wanted.priority is None else wanted.priority,
            default.actions if wanted.actions is None else wanted.actions,
        )
