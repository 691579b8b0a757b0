# SPDX-License-Identifier: Apache-2.0
"""A chain of XDP programs as a frozen value, and the edits that turn one chain into another.

Nothing here touches the kernel: a chain may be the running one or a candidate, and an edit returns a new
chain. Slots follow libxdp's order (run priority, then name, and so on) under every linkage, so that a chain
means the same to every tool. An edit that moves a slot therefore also gives it a priority that sorts it
there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace

from xdpchain.errors import InvalidInput, NotFound
from xdpchain.frozen import frozen

from .actions import Action, ActionSet
from .component import Component, SharedMap
from .interface import Mode
from .labels import changed_labels
from .linkage import DISPATCHER_SLOTS, MAX_SLOTS, Linkage
from .policy import Policy
from .routes import Route
from .runconfig import MAX_PRIORITY, RunConfig
from .sharing import following
from .slot import Slot, order_key

__all__ = ["DISPATCHER_SLOTS", "MAX_SLOTS", "Chain", "Linkage"]

PRIORITY_STEP = 10
"""The priority distance to the neighbor when a slot moves to either end."""


@frozen
class Chain:
    """Slots in the order in which they run, and how they are linked and attached.

    ``mode`` is the requested one; ``counters``: whether a static or tail-call chain counts.
    ``dispatcher_version`` is libxdp's protocol version under freplace linkage, 2 or 3; None means that of the
    running dispatcher, else of the installed libxdp. ``bare``: a running libxdp chain whose single component
    replaced the dispatcher, so its return code is the verdict, whatever its actions. Chains linked here are
    never bare. Raises InvalidInput for more than `MAX_SLOTS` slots; whether the linkage supports so many is
    checked by the plan.
    """

    slots: tuple[Slot, ...] = ()
    linkage: Linkage = Linkage.STATIC
    mode: Mode = Mode.NATIVE
    counters: bool = True
    dispatcher_version: int | None = None
    bare: bool = False

    def __post_init__(self) -> None:
        if len(self.slots) > MAX_SLOTS:
            raise InvalidInput(
                f"a chain of {len(self.slots)} slots can't be built",
                f"the limit is {MAX_SLOTS} slots",
                "Remove a component first",
            )

    def __len__(self) -> int:
        return len(self.slots)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.slots)

    @property
    def bound(self) -> tuple[str, ...]:
        """The names of components that require the program on the hook to be bound to its device."""
        return tuple(slot.name for slot in self.slots if slot.component.bound and not slot.off)

    def position(self, key: str) -> int:
        """The index of the slot with this key. Raises NotFound."""
        for i, slot in enumerate(self.slots):
            if slot.key == key:
                return i
        raise NotFound(f"no slot {key!r} in this chain")

    def _at(self, index: int) -> Slot:
        if not 0 <= index < len(self.slots):
            there = f"it has slots 0 to {len(self.slots) - 1}" if self.slots else "it is empty"
            raise NotFound(f"the chain has no slot {index}", there)
        return self.slots[index]

    def _with(self, slots: Iterable[Slot]) -> Chain:
        return replace(self, slots=tuple(slots), bare=False)

    def _replaced(self, index: int, slot: Slot) -> list[Slot]:
        return [*self.slots[:index], slot, *self.slots[index + 1 :]]

    def add(self, slot: Slot, at: int | None = None) -> Chain:
        """The chain with an added slot: where its priority sorts it, or at index ``at`` with a matching
        priority.
        """
        if at is None:
            return self._with(sorted((*self.slots, slot), key=order_key))
        if not 0 <= at <= len(self.slots):
            raise NotFound(f"there is no position {at} in a chain of {len(self.slots)} slots")
        return self._with(_settle([*self.slots[:at], slot, *self.slots[at:]], at))

    def remove(self, indices: Iterable[int]) -> Chain:
        """The chain without the slots at ``indices`` and the routes to them. Raises NotFound."""
        gone = {self._at(i).key for i in indices}
        kept = (slot for slot in self.slots if slot.key not in gone)
        return self._with(_unrouted(slot, gone) for slot in kept)

    def move(self, source: int, target: int) -> Chain:
        """The chain with the slot at ``source`` moved to ``target``, with matching priorities."""
        slot = self._at(source)
        self._at(target)
        if source == target:
            return self
        rest = [s for s in self.slots if s is not slot]
        return self._with(_settle([*rest[:target], slot, *rest[target:]], target))

    def retune(
        self,
        index: int,
        priority: int | None = None,
        actions: ActionSet | None = None,
        shadow: bool | None = None,
        off: bool | None = None,
    ) -> Chain:
        """The chain with the slot at ``index`` changed (priority, actions, shadow, off) and sorted again.
        Raises NotFound.
        """
        slot = self._at(index)
        config = RunConfig(
            slot.priority if priority is None else priority, slot.actions if actions is None else actions
        )
        tuned = replace(
            slot,
            config=config,
            shadow=slot.shadow if shadow is None else shadow,
            off=slot.off if off is None else off,
        )
        slots = self._replaced(index, tuned)
        return self._with(slots if priority is None else sorted(slots, key=order_key))

    def route(self, index: int, code: Action | None, target: str | None) -> Chain:
        """The chain in which this return code of the slot at ``index`` (None: any other code) leads to the
        slot with the key ``target``; None removes the route. Raises NotFound.

        Whether it leads forward is checked by the plan (`paths.check_routes`), since slots may still move.
        """
        slot = self._at(index)
        if target is not None:
            self.position(target)
        routes = [route for route in slot.routes if route.code is not code]
        if target is not None:
            routes.append(Route(code, target))
        return self.with_routes(index, routes)

    def with_routes(self, index: int, routes: Iterable[Route]) -> Chain:
        """The chain with exactly these routes of the slot at ``index``. Raises NotFound."""
        ordered = sorted(routes, key=lambda route: (route.code is None, route.code or 0))
        return self._with(self._replaced(index, replace(self._at(index), routes=tuple(ordered))))

    def police(self, index: int, policy: Policy | None) -> Chain:
        """The chain with this policy, or none, for the slot at ``index``. Raises NotFound."""
        return self._with(self._replaced(index, replace(self._at(index), policy=policy)))

    def share(self, index: int, name: str, owner: int, theirs: str) -> Chain:
        """The chain in which the component at ``index``, which is not loaded yet, uses the map ``theirs`` of
        the slot at ``owner`` in place of its own map ``name``. Raises NotFound, InvalidInput.

        Whether both have the same shape is checked at the load.
        """
        slot, other = self._at(index), self._at(owner)
        if index == owner:
            raise InvalidInput(f"{slot.name} can't take its own map {theirs}")
        if slot.id is not None:
            raise InvalidInput(
                f"{slot.name} is already running", "it already has its maps", "Load or replace it"
            )
        for sharer, wanted in ((slot, name), (other, theirs)):
            has = [*sharer.component.uses, *(ref.name for ref in sharer.component.maps)]
            maps = sorted({map_name for map_name in has if not map_name.startswith(".")})
            if wanted not in maps:
                raise NotFound(f"{sharer.name} has no map {wanted!r}", f"it uses {', '.join(maps) or 'none'}")
        kept = (shared_map for shared_map in slot.component.shares if shared_map.name != name)
        shares = tuple(sorted((*kept, SharedMap(name, other.key, theirs))))
        component = replace(slot.component, shares=shares)
        return self._with(self._replaced(index, replace(slot, component=component)))

    def label(self, index: int, given: Mapping[str, str]) -> Chain:
        """The chain with these labels of the slot at ``index`` set; empty values remove labels. Raises
        NotFound, InvalidInput.
        """
        slot = self._at(index)
        return self._with(self._replaced(index, replace(slot, labels=changed_labels(slot.labels, given))))

    def substitute(self, index: int, component: Component) -> Chain:
        """The chain with another component in the same slot, which keeps its place, config and counters row.
        A slot that shares a map which is not kept is reloaded with the new map.
        """
        owner = replace(self._at(index), component=component)
        slots = [following(slot, owner) for slot in self._replaced(index, owner)]
        # The order depends on the name: a component with another name may need another priority to stay here.
        return self._with(_settle(slots, index))

    @property
    def turns(self) -> str:
        """A tail-call chain's actions and routes, which updates of program arrays can change. Empty under
        other linkages, where every change takes a new program.
        """
        if not self.linkage.facts.through_arrays:
            return ""
        routes = (f"{route.code}:{route.target}" for slot in self.slots for route in slot.routes)
        return " ".join((*(str(slot.actions.mask) for slot in self.slots), *routes))

    def relink(self, linkage: Linkage) -> Chain:
        """The same slots under another linkage."""
        return replace(self, linkage=linkage, bare=False)


def _unrouted(slot: Slot, gone: Set[str]) -> Slot:
    kept = tuple(route for route in slot.routes if route.target not in gone)
    return slot if kept == slot.routes else replace(slot, routes=kept)


def _settle(slots: Sequence[Slot], moved: int) -> list[Slot]:
    """Assign priorities under which the slots sort into the given order.

    Only the moved slot changes if there is room between its neighbors; otherwise those after it are pushed
    up. Indistinguishable unloaded slots (same name) get distinct priorities.
    """
    before = slots[moved - 1] if moved else None
    after = slots[moved + 1] if moved + 1 < len(slots) else None
    slot = slots[moved]
    if not (_ordered(before, slot) and _ordered(slot, after)):
        slot = replace(slot, config=replace(slot.config, priority=_between(before, after)))
    settled = [*slots[:moved], slot, *slots[moved + 1 :]]
    for i in range(max(moved, 1), len(settled)):
        if not _ordered(settled[i - 1], settled[i]):
            config = replace(settled[i].config, priority=settled[i - 1].priority + 1)
            settled[i] = replace(settled[i], config=config)
    return settled


def _ordered(first: Slot | None, second: Slot | None) -> bool:
    return first is None or second is None or order_key(first) < order_key(second)


def _between(before: Slot | None, after: Slot | None) -> int:
    if before is None:
        return max(0, after.priority - PRIORITY_STEP) if after else 0
    if after is None:
        return min(MAX_PRIORITY, before.priority + PRIORITY_STEP)
    return max(before.priority + 1, (before.priority + after.priority) // 2)
