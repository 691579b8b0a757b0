# SPDX-License-Identifier: Apache-2.0
"""How long a chain takes, as lines and as figures; pure."""

from __future__ import annotations

import pytest

from xdpchain.model.actions import Action
from xdpchain.trial.timing import FrameTime, LookingCost, RunTime, SlotTimes
from xdptui.words.time_words import Times, time_lines


def run(runs: int = 1000, ns: int = 200_000, seconds: float = 2.0) -> RunTime:
    return RunTime(10.0, 5 * runs, 5 * ns, seconds, runs, ns)


def times(slots: int) -> SlotTimes:
    every = FrameTime("a packet of some kind or other", (1000.0,) * slots, 1e4, Action.PASS, True)
    some = FrameTime("other", (5.0, *(None,) * (slots - 1)), 5.0, Action.DROP, False)
    return SlotTimes(("a_program_with_a_name_that_is_long",) * slots, (every, some))


def text(found: Times, width: int = 76) -> list[str]:
    return ["".join(part for part, _ in line).rstrip() for line in time_lines(found, width)]


def test_figures() -> None:
    assert (run().mean_ns, run().rate, run().share) == (200.0, 500.0, 1e-4)
    assert run(0, 0).mean_ns is None
    assert run(seconds=0.0).share == run(seconds=0.0).rate == 0.0
    found = times(2)
    assert (found.of_slot(0), found.of_slot(1)) == (502.5, 1000.0)
    assert (found.reached(0), found.reached(1)) == (2, 1)
    assert SlotTimes(("x",), ()).of_slot(0) is None


@pytest.mark.parametrize("slots", [1, 3, 10])
def test_lines_fit_the_smallest_screen(slots: int) -> None:
    lines = text(Times(run(), LookingCost(80, 50), times(slots)))
    assert all(len(line) <= 76 for line in lines)
    assert "Whole chain  200 ns per packet, 500 packets/s, 0.01% of a CPU" in lines
    assert any(line.endswith(" ~") for line in lines)
    assert lines[-1].startswith("~")


def test_what_is_not_known_is_said() -> None:
    assert "timing each slot" in text(Times(run(), LookingCost(80, 50), None))[-1]
    lines = text(Times(run(0, 0), LookingCost(80, 50), None, "no\x1bchain"))
    assert lines[-1] == r"no\x1bchain"
    assert "no packets arrived" in lines[0]
