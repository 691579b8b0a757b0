# SPDX-License-Identifier: Apache-2.0
"""The paths through a chain: which slot runs after each return code of each slot. Pure.

All linkages are built from this table, and warnings and the packet flow view use it too.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdpchain.advice import Do, advise
from xdpchain.errors import InvalidInput

from .actions import ALL_ACTIONS, Action, ActionSet
from .chain import Chain, Linkage
from .interface import Interface
from .routes import CODES, OTHER, route_name
from .slot import Slot

__all__ = [
    "RETURN",
    "adjusted",
    "as_it_behaves",
    "check_routes",
    "entry",
    "is_routed",
    "reachable",
    "route_texts",
    "row_changed",
    "successors",
]

RETURN = -1
"""Instead of a slot's index: the code is returned."""


def is_routed(chain: Chain) -> bool:
    """Whether a return code leads to a named slot anywhere in this chain."""
    return any(slot.routes for slot in chain)


def successors(chain: Chain) -> tuple[tuple[int, ...], ...]:
    """For each slot and each of the six codes (the actions, then any other), the index of the slot that runs
    next: `RETURN` if the code is returned, the chain's length for the end, where XDP_PASS is returned. After
    a shadow this is always the next slot; in a bare chain always `RETURN`. Slots that are off are skipped.

    Raises InvalidInput like `check_routes`.
    """
    if chain.bare:
        return ((RETURN,) * CODES,) * len(chain)
    places = {slot.key: index for index, slot in enumerate(chain)}
    onward = [entry(chain, place) for place in range(len(chain) + 1)]
    table = []
    for index, slot in enumerate(chain):
        routes = {route.code: _place(places, chain, index, route.code, route.target) for route in slot.routes}
        rest = routes.get(None, RETURN)
        row = [routes.get(action, index + 1 if action in slot.actions else rest) for action in ALL_ACTIONS]
        ways = (index + 1,) * CODES if slot.shadow or slot.off else (*row, rest)
        table.append(tuple(way if way == RETURN else onward[way] for way in ways))
    return tuple(table)


def entry(chain: Chain, place: int = 0) -> int:
    """The first slot that is on, starting at index ``place``; the chain's length if there is none."""
    return next((i for i in range(place, len(chain)) if not chain.slots[i].off), len(chain))


def as_it_behaves(chain: Chain) -> Chain:
    """A chain that behaves the same under every linkage: a bare chain's component becomes always final."""
    if not chain.bare:
        return chain
    return chain.retune(0, actions=ActionSet.of(), shadow=False)


def adjusted(chain: Chain, table: Sequence[Sequence[int]]) -> Chain:
    """``chain`` with actions and routes adjusted so that ``table`` is its successors.

    For each differing code the simplest change is chosen: it is added to or removed from the actions, or gets
    a route. Raises InvalidInput if no chain has this table.
    """
    declared = successors(chain)
    for index, (old, new) in enumerate(zip(declared, table, strict=True)):
        if new[OTHER] != old[OTHER]:
            chain = _led(chain, index, None, new[OTHER])
        for action in ALL_ACTIONS:
            if successors(chain)[index][action] != new[action]:
                chain = _led(chain, index, action, new[action])
    if successors(chain) != tuple(map(tuple, table)):
        raise InvalidInput("actions and routes do not determine what this chain does")
    return chain


def row_changed(old: Chain, new: Chain) -> tuple[int, int, int] | None:
    """The single code in which two tail-call chains differ, as (slot, code, place as in `successors`); None
    if they differ in more or otherwise. Raises InvalidInput like `check_routes`.
    """
    slots = [[(slot.key, slot.shadow, slot.off) for slot in chain] for chain in (old, new)]
    if not old.linkage.facts.through_arrays or slots[0] != slots[1]:
        return None
    before, after = successors(old), successors(new)
    places = [(i, code) for i in range(len(after)) for code in range(CODES)]
    differing = [(i, code) for i, code in places if after[i][code] != before[i][code]]
    # Any other difference could not be read back afterwards.
    if len(differing) != 1 or adjusted(old, after) != new:
        return None
    index, code = differing[0]
    return index, code, after[index][code]


def _led(chain: Chain, index: int, code: Action | None, place: int) -> Chain:
    """The chain with one code of a slot leading to another place."""
    chain = chain.route(index, code, None)
    slot = chain.slots[index]
    if code is None:
        return chain if place == RETURN else _routed(chain, index, None, place)
    actions = slot.actions if code in slot.actions else slot.actions.toggle(code)
    if place == entry(chain, index + 1):
        return chain.retune(index, actions=actions)
    chain = chain.retune(index, actions=actions.toggle(code))
    if successors(chain)[index][code] == place:
        return chain
    return _routed(chain, index, code, place)


def _routed(chain: Chain, index: int, code: Action | None, place: int) -> Chain:
    """The chain with a route to a place if that is possible: the end is reached through a last slot that is
    off.
    """
    target = min(place, len(chain) - 1)
    if target <= index or entry(chain, target) != place:
        return chain
    return chain.route(index, code, chain.slots[target].key)


def _place(places: dict[str, int], chain: Chain, index: int, code: Action | None, target: str) -> int:
    slot, place = chain.slots[index], places.get(target)
    what = f"{route_name(code)} of {slot.name} (slot {index})"
    if place is None:
        raise InvalidInput(f"{what} leads nowhere", "the slot it leads to is not in this chain")
    if place == index:
        raise InvalidInput(
            f"{what} leads to itself",
            "packets would loop",
            "A route leads to a later slot, to next, or to return",
        )
    if place < index:
        to = chain.slots[place].name
        raise InvalidInput(
            f"{what} leads back to {to} (slot {place})",
            "packets could loop forever: tail calls silently stop after 33, and a dispatcher has no way back",
            f"Move {to} after {slot.name}",
        )
    return place


def check_routes(chain: Chain, runs_on: Interface | None = None) -> None:
    """Raise InvalidInput for a route that leads back or nowhere, or if the linkage has no routes.
    ``runs_on``: where a chain of this linkage runs already.
    """
    if not is_routed(chain):
        return
    successors(chain)
    refused = route_refusal(chain, next(slot for slot in chain if slot.routes), runs_on)
    if refused:
        raise refused


def route_refusal(chain: Chain, slot: Slot, runs_on: Interface | None = None) -> InvalidInput | None:
    """Why a slot of this chain can't have routes, whatever they are; None if it can. ``runs_on`` as for
    `check_routes`.
    """
    if chain.linkage.facts.routes:
        return None
    able = [linkage for linkage in Linkage if linkage.facts.routes]
    return InvalidInput(
        f"{chain.linkage} linkage does not support routes ({slot.name})",
        "a dispatcher that libxdp's tools can read can only continue or return",
        advise(Do.RELINK if runs_on else Do.CHOOSE_LINKAGE, *able, on=runs_on),
    )


def route_texts(chain: Chain, slot: Slot) -> tuple[str, ...]:
    """The routes of a slot as text: ``XDP_DROP → 2 logger``."""
    places = {other.key: index for index, other in enumerate(chain)}
    return tuple(
        f"{route_name(route.code)} → {places[route.target]} {chain.slots[places[route.target]].name}"
        if route.target in places
        else f"{route_name(route.code)} → ?"
        for route in slot.routes
    )


def reachable(chain: Chain) -> frozenset[int]:
    """The slots that packets can reach."""
    first = entry(chain)
    if first == len(chain):
        return frozenset()
    table, reached, waiting = successors(chain), {first}, [first]
    while waiting:
        for place in table[waiting.pop()]:
            if RETURN < place < len(chain) and place not in reached:
                reached.add(place)
                waiting.append(place)
    return frozenset(reached)
