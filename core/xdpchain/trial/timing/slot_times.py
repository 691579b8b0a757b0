# SPDX-License-Identifier: Apache-2.0
"""The time of each slot, on test packets: the chain is cut after each slot in turn, and each cut is timed.

The cuts run on copies of all maps (`trial.run`), in alternating rounds so that disturbances affect all of
them alike. A slot's time is that of its cut less that of the previous cut. Incoming packets are not affected.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Sequence

from xdpchain.bytecode.instructions import LET_PASS
from xdpchain.errors import Cancelled
from xdpchain.frozen import frozen
from xdpchain.model.actions import Action
from xdpchain.model.chain import Chain
from xdpchain.sys import bpf
from xdpchain.trial.run import Trial

__all__ = ["FrameTime", "SlotTimes", "slot_times"]

# Few, long rounds: for each one the kernel patches its XDP dispatcher and waits about 15 ms for all CPUs.
ROUNDS = 3
ROUND_NS = 1_000_000
SINGLES = 200
MOST = 50_000


@frozen
class FrameTime:
    """One packet's times: ns in each slot (None: not reached), in total, and its verdict. ``steady`` is false
    if runs were timed one by one because each changes the packet, which is less precise.
    """

    name: str
    slots: tuple[float | None, ...]
    ns: float
    verdict: Action | int
    steady: bool


@frozen
class SlotTimes:
    """All packets' times; ``names`` are the slots'. The first slot's time includes the dispatcher's."""

    names: tuple[str, ...]
    frames: tuple[FrameTime, ...]

    def of_slot(self, index: int) -> float | None:
        """The median over the packets that reached the slot; None if none did."""
        taken = [slot_ns for frame in self.frames if (slot_ns := frame.slots[index]) is not None]
        return statistics.median(taken) if taken else None

    def reached(self, index: int) -> int:
        """The number of packets that reached the slot."""
        return sum(frame.slots[index] is not None for frame in self.frames)


def slot_times(
    chain: Chain, frames: Sequence[tuple[str, bytes]], cancelled: Callable[[], bool] = lambda: False
) -> SlotTimes:
    """Time ``frames`` (name, Ethernet frame) through ``chain``; takes about 50 ms per packet and slot.

    Raises Cancelled, and what `Trial` raises: InvalidInput for an empty chain or a frame that is too short,
    and the errors of linking and loading.
    """
    with contextlib.ExitStack() as held:
        cuts = [
            held.enter_context(Trial(chain.remove(range(place + 1, len(chain)))))
            for place in range(len(chain))
        ]
        if not cuts:
            Trial(chain)  # raises the reason
        empty = held.enter_context(bpf.prog_load(bpf.ProgType.XDP, LET_PASS, name="xdptui_empty"))
        times = []
        for name, frame in frames:
            if cancelled():
                raise Cancelled("the timing was cancelled")
            times.append(_time(chain, cuts, empty, name, frame))
        return SlotTimes(tuple(slot.name for slot in chain), tuple(times))


def _time(chain: Chain, cuts: Sequence[Trial], empty: bpf.Fd, name: str, frame: bytes) -> FrameTime:
    whole = cuts[-1]
    row = whole.run(frame)
    once, probe = whole.timed(frame, 1), whole.timed(frame, 64)
    # If each run changes the packet, repeating would time different packets.
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
