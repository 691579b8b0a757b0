# SPDX-License-Identifier: Apache-2.0
"""Reports of policy violations: the function that makes them, and the ring buffers that hold them.

Static and tail-call chains have one ring for all slots, on the program on the hook. Under freplace linkage
each component has its own, so its code needs no number of its slot. Each new program takes the ring over, so
that a reader misses nothing during an edit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from xdpchain.model.chain import Chain
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.sys import bpf

from .kits import kit_of
from .members import patched
from .threaded import Functions

__all__ = ["REPORTING", "reporting", "ring_for", "ring_on", "rings_of"]

REPORTING = "reporting"
"""The kit (`kits`) with the function that reports."""

VIOLATIONS = "xdptui_violations"
RING_SIZE = 1 << 16


def reporting(ring: bpf.Fd) -> Functions:
    """The functions that report into this ring."""
    kit = kit_of(REPORTING)
    return Functions(patched(kit.unit, {VIOLATIONS: ring}), kit.starts)


def rings_of(running: Running) -> Iterator[tuple[bpf.Fd, Slot | None]]:
    """The ring buffers of the running chain, each with the slot that it is about (None: its reports have the
    slot's row). Raises BpfError.
    """
    if running.linkage_facts.by_component:
        places: list[tuple[int | None, Slot | None]] = [
            (slot.id, slot) for slot in running.chain or () if slot.policy
        ]
    else:
        places = [(running.dispatcher.id if running.dispatcher is not None else None, None)]
    for prog_id, slot in places:
        ring = None if prog_id is None else _ring_on(prog_id)
        if ring is not None:
            yield ring, slot


def ring_for(candidate: Chain, running: Running, held: contextlib.ExitStack) -> bpf.Fd | None:
    """The ring for a candidate that is one program or begins with one: the running chain's, or a new one;
    None where nothing is forbidden.
    """
    if not any(slot.policy for slot in candidate):
        return None
    return ring_on(running.dispatcher.id if running.dispatcher is not None else None, held)


def ring_on(before: int | None, held: contextlib.ExitStack) -> bpf.Fd:
    """The ring that the program with this id has, if it has one; else a new one. Raises KernelRefused."""
    try:
        ring = _ring_on(before) if before is not None and bpf.prog_lives(before) else None
        ring = ring or bpf.map_create(bpf.MapType.RINGBUF, 0, 0, RING_SIZE, name=VIOLATIONS)
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the ring buffer for policy violations can't be created") from error
    return held.enter_context(ring)


def _ring_on(prog_id: int) -> bpf.Fd | None:
    with bpf.prog_by_id(prog_id) as program:
        for map_id in bpf.prog_map_ids(program):
            fd = bpf.map_by_id(map_id)
            if bpf.map_info(fd).name.startswith(VIOLATIONS[:15]):
                return fd
            fd.close()
    return None
