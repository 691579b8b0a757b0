# SPDX-License-Identifier: Apache-2.0
"""Which programs of an interface are traced, and whose packets count."""

from __future__ import annotations

from dataclasses import dataclass

from xdpchain.model.chain import Linkage, Slot
from xdpchain.model.counting import slot_key
from xdpchain.model.counts import FOREIGN
from xdpchain.model.running import Owner, Running
from xdpchain.sys import netns

__all__ = ["VERDICT", "Place", "Target", "place_of", "targets", "traceable"]

VERDICT = ""
"""The key of the target whose return code is the verdict: no slot has it."""

_HANDS_DOWN = frozenset(("bonding", "hv_netvsc"))
"""Drivers that run their program on the devices below: packets come from those, not from the interface."""


@dataclass(frozen=True, slots=True)
class Place:
    """The interface whose packets count: its ifindex (0: any), and its network namespace's inode."""

    ifindex: int
    netns: int


@dataclass(frozen=True, slots=True)
class Target:
    """A program to count: the slot's key, `FOREIGN` or `VERDICT`, and its prog id."""

    key: str
    prog_id: int


def targets(running: Running) -> tuple[Target, ...]:
    """What is to be counted by tracing on an interface: its `traceable` programs, but for those that count by
    themselves. The only component of a chain is counted in any case: it may stand for the dispatcher.
    """
    found = traceable(running)
    counting = running.counting
    if counting is None or len(found) <= 2:  # a component and its dispatcher
        return found
    counted = {slot.key for slot in _slots(running) if counting.counts(slot_key(slot))}
    return tuple(target for target in found if target.key not in counted)


def traceable(running: Running) -> tuple[Target, ...]:
    """The programs that run on an interface and can be seen from outside only, in order; () where nothing
    runs, or where the dispatcher is of a linkage that looks from inside.

    The dispatcher comes last. With a single component that has replaced its main function it can't be
    traced: what that returns is the verdict then, and so it is traced.
    """
    hook = running.hook
    if hook is None or running.linkage in (Linkage.STATIC, Linkage.TAILCALL):
        return ()
    if running.owner is Owner.FOREIGN:
        return (Target(FOREIGN, hook.prog_id),)
    components = (Target(slot.key, slot.id) for slot in _slots(running) if slot.id is not None)
    return (*components, Target(VERDICT, hook.prog_id))


def _slots(running: Running) -> tuple[Slot, ...]:
    chain = running.chain or running.shown
    return chain.slots if chain is not None else ()


def place_of(running: Running) -> Place:
    """Whose packets count. Raises NotFound for a namespace that is gone."""
    interface = running.interface
    below = running.device.driver in _HANDS_DOWN
    return Place(0 if below else interface.ifindex, netns.inode(interface.netns))
