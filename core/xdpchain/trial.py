# SPDX-License-Identifier: Apache-2.0
"""Trial runs: packets through a chain that is attached to nothing (BPF_PROG_TEST_RUN).

The chain is linked statically, whatever its linkage: the contract is the same. It works on copies of all
maps, so a running chain's state is neither changed nor counted. What a trial can't know: where a redirect
would end (XDP_REDIRECT is reported as the verdict, nothing is sent), and what a card writes into a packet's
metadata.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .actions import Action
from .chain import Chain, Interface, Linkage
from .counters import DispatcherCounters
from .counts import CounterReader, SlotCounts
from .errors import InvalidInput
from .linkage.static import StaticLinker
from .manifest import Author
from .running import Device, Running
from .sys import bpf

__all__ = ["TrialReport", "TrialRow", "run_trial"]

SHORTEST = 14
NOWHERE = Running(Device(Interface("", 0), False, "", 0, None, None))


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One packet's way: what each slot returned (None: it did not run), the verdict (an int where it is no
    action), the packet afterwards, and the mean time of a run in ns.
    """

    frame: bytes
    slots: tuple[Action | int | None, ...]
    verdict: Action | int
    frame_out: bytes
    ns: int


@dataclass(frozen=True, slots=True)
class TrialReport:
    """All packets' ways, in the order in which they were given."""

    rows: tuple[TrialRow, ...]


def run_trial(chain: Chain, frames: Sequence[bytes], *, repeat: int = 1) -> TrialReport:
    """Run ``frames`` (Ethernet, at least 14 bytes each) through ``chain``, each ``repeat`` times for its
    timing.

    Raises InvalidInput for a frame that is too short or an empty chain, and what the linkage and the kernel
    refuse.
    """
    if not chain.slots:
        raise InvalidInput("an empty chain can't be tried")
    for frame in frames:
        if len(frame) < SHORTEST:
            raise InvalidInput(f"a frame of {len(frame)} bytes can't be tried", f"{SHORTEST} are the least")
    candidate = replace(chain, linkage=Linkage.STATIC, counters=True)
    nothing = Author("", 0, "trial", 0.0)
    with contextlib.ExitStack() as held:
        built = StaticLinker(cloning=True).build(candidate, NOWHERE, nothing)
        held.callback(built.close)
        rows = {slot.key: slot.row or 0 for slot in built.chain.slots}
        reader = held.enter_context(DispatcherCounters(built.counters_map or 0, rows))
        return TrialReport(tuple(_run(built.program, chain, frame, reader, repeat) for frame in frames))


def _run(program: bpf.Fd, chain: Chain, frame: bytes, reader: CounterReader, repeat: int) -> TrialRow:
    try:
        before = reader.read()
        run = bpf.prog_test_run(program, frame)
        after = reader.read()
        ns = bpf.prog_test_run(program, frame, repeat).ns if repeat > 1 else run.ns
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the trial can't be run") from error
    slots = tuple(_returned(after.slots[s.key].since(before.slots[s.key])) for s in chain.slots)
    return TrialRow(frame, slots, _action(run.code), run.data, ns)


def _returned(counts: SlotCounts) -> Action | int | None:
    return next((_action(code) for code, packets in enumerate(counts.packets) if packets), None)


def _action(code: int) -> Action | int:
    return Action(code) if code in Action.__members__.values() else code
