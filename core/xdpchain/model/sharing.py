# SPDX-License-Identifier: Apache-2.0
"""Maps that a slot uses from another slot in place of its own. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from xdpchain.errors import InvalidInput

from .slot import Slot

__all__ = ["following", "loading_order", "owners_of"]


def owners_of(chain: Iterable[Slot], slot: Slot) -> dict[str, tuple[int, str]]:
    """The owners of a slot's shared maps, by their names in its object: the owner's index in the chain, and
    the map's name there. A map whose owner left the chain is the slot's own.
    """
    places = {other.key: place for place, other in enumerate(chain)}
    return {
        share.name: (places[share.slot], share.theirs)
        for share in slot.component.shares
        if share.slot in places
    }


def following(slot: Slot, owner: Slot) -> Slot:
    """``slot``, set to reload its component if ``owner`` no longer keeps a map that it shares."""
    component, kept = slot.component, {ref.name for ref in owner.component.maps}
    lost = {share.name for share in component.shares if share.slot == owner.key and share.theirs not in kept}
    if owner.id is not None or component.id is None or not lost:
        return slot
    maps = tuple(ref for ref in component.maps if ref.name not in lost)
    return replace(slot, component=replace(component, id=None, unit_map=None, maps=maps))


def loading_order(slots: Sequence[Slot]) -> list[int]:
    """The slots' indexes, ordered so that each comes after the owners of its shared maps. Raises InvalidInput
    if slots share maps in a cycle.
    """
    keys = {slot.key for slot in slots}
    order: list[int] = []
    placed: set[str] = set()
    while len(order) < len(slots):
        ready = [
            place
            for place, slot in enumerate(slots)
            if slot.key not in placed
            and all(share.slot in placed or share.slot not in keys for share in slot.component.shares)
        ]
        if not ready:
            names = ", ".join(slot.name for slot in slots if slot.key not in placed)
            raise InvalidInput(f"{names} can't be loaded", "each uses a map of the other")
        order += ready
        placed |= {slots[place].key for place in ready}
    return order
