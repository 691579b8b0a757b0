# SPDX-License-Identifier: Apache-2.0
"""The time of each slot, on test packets: the chain cut after each slot in turn, and timed.

The cuts run on copies of all maps (`trial.run`), one after the other in alternating rounds, so that the
machine's moods meet all alike; a slot's time is what its cut takes longer than the one before. Packets that
come in notice nothing.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdpchain.bytecode.instructions import LET_PASS
from xdpchain.errors import Cancelled
from xdpchain.model.actions import Action
from xdpchain.model.chain import Chain
from xdpchain.sys import bpf
from xdpchain.trial.run import Trial

__all__ = ["FrameTime", "SlotTimes", "slot_times"]

# Few and long rounds: for each the kernel patches its XDP dispatcher, and waits some 15 ms for all CPUs.
ROUNDS = 3
ROUND_NS = 1_000_000
SINGLES = 200
MOST = 50_000


@dataclass(frozen=True, slots=True)
class FrameTime:
    """One packet's way: ns in each slot (None: it did not come there), in all, and its end. ``steady`` is
    false where runs were timed one by one, because each changes the packet: those are less precise.
    """

    name: str
    slots: tuple[float | None, ...]
    ns: float
    verdict: Action | int
    steady: bool


@dataclass(frozen=True, slots=True)
class SlotTimes:
    """All packets' times; ``names`` are the slots'. The first slot's time contains the dispatcher's own."""

    names: tuple[str, ...]
    frames: tuple[FrameTime, ...]

    def of_slot(self, place: int) -> float | None:
        """The median over the packets that came there; None where none did."""
        taken = [one for frame in self.frames if (one := frame.slots[place]) is not None]
        return statistics.median(taken) if taken else None

    def reached(self, place: int) -> int:
        """How many of the packets came there."""
        return sum(frame.slots[place] is not None for frame in self.frames)


def slot_times(
    chain: Chain, frames: Sequence[tuple[str, bytes]], cancelled: Callable[[], bool] = lambda: False
) -> SlotTimes:
    """Time ``frames`` (name, Ethernet frame) through ``chain``; takes about 50 ms for each packet and slot.

    Raises Cancelled, and what `Trial` does: InvalidInput for an empty chain or a frame that is too short, and
    what the linkage and the kernel refuse.
    """
    with contextlib.ExitStack() as held:
        cuts = [
            held.enter_context(Trial(chain.remove(range(place + 1, len(chain)))))
            for place in range(len(chain))
        ]
        if not cuts:
            Trial(chain)  # says why not
        empty = held.enter_context(bpf.prog_load(bpf.ProgType.XDP, LET_PASS, name="xdptui_empty"))
        found = []
        for name, frame in frames:
            if cancelled():
                raise Cancelled("the timing was cancelled")
            found.append(_time(chain, cuts, empty, name, frame))
        return SlotTimes(tuple(slot.name for slot in chain), tuple(found))


def _time(chain: Chain, cuts: Sequence[Trial], empty: bpf.Fd, name: str, frame: bytes) -> FrameTime:
    whole = cuts[-1]
    row = whole.run(frame)
    once, probe = whole.timed(frame, 1), whole.timed(frame, 64)
    # A packet that is longer, or other, with each run would be another packet's time.
    steady = (once.code, once.data) == (probe.code, probe.data)
    repeat = max(64, min(MOST, ROUND_NS // max(1, probe.ns))) if steady else 1

    def taken(run: Callable[[bytes, int], bpf.TestRun]) -> float:
        if steady:
            return float(run(frame, repeat).ns)
        return statistics.median(run(frame, 1).ns for _ in range(SINGLES))

    runs = [lambda data, times: bpf.prog_test_run(empty, data, times), *(cut.timed for cut in cuts)]
    rounds: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS if steady else 1):
        for place, run in enumerate(runs):
            rounds[place].append(taken(run))
    least = [min(values) for values in rounds]
    slots = tuple(
        max(0.0, least[place + 1] - least[place]) if returned is not None else None
        for place, returned in enumerate(row.slots)
    )
    return FrameTime(name, slots, max(0.0, least[-1] - least[0]), row.verdict, steady)
