# SPDX-License-Identifier: Apache-2.0
"""Select the programs of an interface to trace, and whose packets count."""

from __future__ import annotations

from xdpchain.frozen import frozen
from xdpchain.model.counting import slot_key
from xdpchain.model.counts import FOREIGN
from xdpchain.model.running import Owner, Running
from xdpchain.model.slot import Slot

__all__ = ["VERDICT", "Place", "Target", "place_of", "targets", "traceable"]

VERDICT = ""
"""The key of the target whose return code is the verdict; no slot has it."""

_HANDS_DOWN = frozenset(("bonding", "hv_netvsc"))
"""Drivers that run the program on lower devices: packets come in there, not on the interface."""


@frozen
class Place:
    """The interface whose packets count: its ifindex (0: any), and its network namespace's inode."""

    ifindex: int
    netns: int


@frozen
class Target:
    """A program to count: the slot's key, `FOREIGN` or `VERDICT`, and its program ID."""

    key: str
    prog_id: int


def targets(running: Running) -> tuple[Target, ...]:
    """The programs to count by tracing on an interface: its `traceable` ones without their own counters. The
    only component of a chain is always counted, since it may stand in for the dispatcher.
    """
    found = traceable(running)
    counting = running.counting
    if counting is None or len(found) <= 2:  # a component and its dispatcher
        return found
    counted = {slot.key for slot in _slots(running) if counting.counts(slot_key(slot))}
    return tuple(target for target in found if target.key not in counted)


def traceable(running: Running) -> tuple[Target, ...]:
    """The programs on an interface that can only be counted from outside, in order; () if nothing runs, or if
    the linkage has its own counters.

    The dispatcher comes last. If a single component replaced its main function it can't be traced; then the
    component's return code is the verdict, and it is traced instead.
    """
    hook = running.hook
    if hook is None or running.linkage_facts.counts_chain:
        return ()
    if running.owner is Owner.FOREIGN:
        return (Target(FOREIGN, hook.prog_id),)
    components = (Target(slot.key, slot.id) for slot in _slots(running) if slot.id is not None)
    return (*components, Target(VERDICT, hook.prog_id))


def _slots(running: Running) -> tuple[Slot, ...]:
    chain = running.chain or running.shown
    return chain.slots if chain is not None else ()


def place_of(running: Running) -> Place:
    """Whose packets count."""
    below = running.device.driver in _HANDS_DOWN
    return Place(0 if below else running.interface.ifindex, running.device.netns_inode)
