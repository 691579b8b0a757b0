# SPDX-License-Identifier: Apache-2.0
"""The way of the packets through a chain, from what the counters measured. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xdpchain.actions import ALL_ACTIONS, Action
from xdpchain.chain import Chain

from .rates import Rates

__all__ = ["OTHER", "Flow", "Stage", "flow"]

OTHER = 5
"""The index of return codes beyond the five actions; the kernel treats them as XDP_ABORTED."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One slot: how much entered it, how much goes on to the next, and how much ends here, by action.

    ``goes_on`` of the last slot is what the dispatcher turns into XDP_PASS.
    """

    key: str
    name: str
    entered: float
    goes_on: float
    ends: Mapping[Action, float]


@dataclass(frozen=True, slots=True)
class Flow:
    """Everything received, the stages in order, and the outcomes as the dispatcher returned them."""

    received: float
    stages: tuple[Stage, ...]
    outcomes: Mapping[Action, float]


def flow(chain: Chain, slots: Mapping[str, Rates], verdict: Rates) -> Flow:
    """The flow of packets through ``chain``; the numbers may be rates or totals.

    A slot without numbers counts as one that saw nothing: it was never reached since counting began.
    """
    stages = []
    for slot in chain:
        numbers = slots.get(slot.key)
        packets = numbers.packets if numbers else (0.0,) * (OTHER + 1)
        ends = {action: packets[action] for action in ALL_ACTIONS if action not in slot.actions}
        if packets[OTHER]:
            ends[Action.ABORTED] = ends.get(Action.ABORTED, 0.0) + packets[OTHER]
        goes_on = sum(packets[action] for action in slot.actions)
        stages.append(Stage(slot.key, slot.name, sum(packets), goes_on, ends))
    outcomes = {action: verdict.packets[action] for action in ALL_ACTIONS}
    outcomes[Action.ABORTED] += verdict.packets[OTHER]
    return Flow(verdict.all_packets, tuple(stages), outcomes)
