# SPDX-License-Identifier: Apache-2.0
"""What of a candidate differs from the chain that it was made from, slot by slot. Pure."""

from __future__ import annotations

from dataclasses import replace

from xdpchain.change.plan import moved
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Slot

__all__ = ["count", "removed", "symbol", "toggled"]


def removed(base: Chain | None, candidate: Chain) -> tuple[Slot, ...]:
    """The slots that run and that the candidate no longer has."""
    kept = {slot.key for slot in candidate}
    return tuple(slot for slot in base or () if slot.key not in kept)


def toggled(base: Slot | None, slot: Slot) -> ActionSet:
    """The actions that are on in one of the two and off in the other."""
    return ActionSet(base.actions.mask ^ slot.actions.mask) if base else ActionSet()


def symbol(base: Slot | None, slot: Slot, has_moved: bool) -> str:
    """One character for what happens to a slot, as in a plan: ``+ ≠ ↕ ~``, or a blank."""
    if base is None:
        return "+"
    if base.component != slot.component:
        return "≠"
    if has_moved:
        return "↕"
    settings = [(one.config, one.routes, one.shadow, one.policy) for one in (base, slot)]
    return " " if settings[0] == settings[1] else "~"


def count(base: Chain | None, candidate: Chain) -> int:
    """How many things differ: slots, whatever differs about each, and what concerns the chain as a whole."""
    old = base or replace(candidate, slots=())
    before = {slot.key: slot for slot in old}
    away = moved(old, candidate)
    found = len(removed(old, candidate))
    found += sum(symbol(before.get(slot.key), slot, slot.key in away) != " " for slot in candidate)
    if old.slots and candidate.slots:
        found += (old.linkage is not candidate.linkage) + (old.counters != candidate.counters)
    return found
