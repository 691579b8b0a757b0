# SPDX-License-Identifier: Apache-2.0
"""How a candidate differs from the chain it was made from, by slot, as in the plan. Pure."""

from __future__ import annotations

from xdpchain.change.differences import ChangeKind, changes_between
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain
from xdpchain.model.slot import Slot

__all__ = ["count", "removed", "symbols", "toggled"]


def symbols(base: Chain | None, candidate: Chain) -> dict[str, str]:
    """One character per slot key for what happens to each slot that differs, as in a plan: ``+ - ≠ ↕ ~``."""
    found: dict[str, str] = {}
    for change in changes_between(base, candidate):
        if change.key:
            found.setdefault(change.key, change.symbol)  # a plan names a slot's most important change first
    return found


def removed(base: Chain | None, candidate: Chain) -> tuple[Slot, ...]:
    """The running slots that are no longer in the candidate."""
    kept = {slot.key for slot in candidate}
    return tuple(slot for slot in base or () if slot.key not in kept)


def toggled(base: Slot | None, slot: Slot) -> ActionSet:
    """The actions that are on in one and off in the other."""
    return ActionSet(base.actions.mask ^ slot.actions.mask) if base else ActionSet()


def count(base: Chain | None, candidate: Chain) -> int:
    """The number of differences: slots, every difference in each, and chain-wide settings."""
    changes = changes_between(base, candidate)
    whole = sum(change.kind is ChangeKind.CHAIN for change in changes)
    return whole + len({change.key for change in changes if change.key})
