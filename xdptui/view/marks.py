# SPDX-License-Identifier: Apache-2.0
"""What of a candidate differs from the chain that it was made from, slot by slot. Pure."""

from __future__ import annotations

from bisect import bisect_left

from xdpchain.actions import ActionSet
from xdpchain.chain import Chain, Slot

__all__ = ["moved", "removed", "symbol", "toggled"]


def moved(base: Chain | None, candidate: Chain) -> frozenset[str]:
    """The fewest slots that must have moved to give the candidate's order (all but a longest rising run)."""
    if base is None:
        return frozenset()
    rank = {slot.key: i for i, slot in enumerate(base)}
    keys = [slot.key for slot in candidate if slot.key in rank]
    runs: list[tuple[int, ...]] = []
    for key in keys:
        here = rank[key]
        at = bisect_left([run[-1] for run in runs], here)
        runs[at : at + 1] = [(*(runs[at - 1] if at else ()), here)]
    stay = set(runs[-1]) if runs else set()
    return frozenset(key for key in keys if rank[key] not in stay)


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
    return "~" if base.config != slot.config else " "
