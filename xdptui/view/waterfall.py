# SPDX-License-Identifier: Apache-2.0
"""The path of packets through a chain, from the counters. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen
from xdpchain.model.actions import ALL_ACTIONS, Action
from xdpchain.model.chain import Chain
from xdpchain.model.paths import RETURN, entry, successors
from xdptui.words.rates import Rates

__all__ = ["OTHER", "Flow", "Stage", "flow"]

OTHER = 5
"""The index of return codes beyond the five actions; the kernel treats them as XDP_ABORTED."""


@frozen
class Stage:
    """One slot: how much entered it, how much goes on to the next, and how much ends here, by action.

    ``goes_on`` of the last slot is what the dispatcher turns into XDP_PASS. ``leads``: how much a route takes
    to a slot other than the next, by that slot's index. In ``shadow`` everything goes on, and ``ends`` and
    ``leads`` are what would have been. A slot that is ``off`` passes through what the slot before it lets go
    on.
    """

    key: str
    name: str
    entered: float
    goes_on: float
    ends: Mapping[Action, float]
    leads: Mapping[int, float] = field(default_factory=dict)
    shadow: bool = False
    off: bool = False


@frozen
class Flow:
    """Everything received, the stages in order, and the outcomes as the dispatcher returned them."""

    received: float
    stages: tuple[Stage, ...]
    outcomes: Mapping[Action, float]


def _ways(chain: Chain) -> tuple[tuple[int, ...], ...]:
    """The successors as if no slot were in shadow: for a slot that is, they say what would have been."""
    chain = replace(chain, slots=tuple(replace(slot, shadow=False) for slot in chain))
    try:
        return successors(chain)
    except InvalidInput:  # an unfinished candidate with a backward route, which the plan reports
        return successors(_plain(chain))


def _plain(chain: Chain) -> Chain:
    return replace(chain, slots=tuple(replace(slot, routes=()) for slot in chain))


def flow(chain: Chain, slots: Mapping[str, Rates], verdict: Rates) -> Flow:
    """The flow of packets through ``chain``; the figures may be rates or totals.

    A slot without figures counts as having seen nothing: it has not been reached since counting began.
    """
    stages: list[Stage] = []
    for index, (slot, ways) in enumerate(zip(chain, _ways(chain), strict=True)):
        numbers = slots.get(slot.key)
        packets = numbers.packets if numbers else (0.0,) * (OTHER + 1)
        ends: dict[Action, float] = {}
        leads: dict[int, float] = {}
        goes_on = 0.0
        for code, way in enumerate(ways):
            action = Action.ABORTED if code == OTHER else Action(code)
            if way == entry(chain, index + 1):
                goes_on += packets[code]
            elif way != RETURN:
                leads[way] = leads.get(way, 0.0) + packets[code]
            elif code != OTHER or packets[OTHER]:
                ends[action] = ends.get(action, 0.0) + packets[code]
        if slot.shadow:
            goes_on = sum(packets)
        if slot.off:
            goes_on = stages[-1].goes_on if stages else verdict.all_packets
            stages.append(Stage(slot.key, slot.name, 0.0, goes_on, {}, off=True))
            continue
        stages.append(Stage(slot.key, slot.name, sum(packets), goes_on, ends, leads, slot.shadow))
    outcomes = {action: verdict.packets[action] for action in ALL_ACTIONS}
    outcomes[Action.ABORTED] += verdict.packets[OTHER]
    return Flow(verdict.all_packets, tuple(stages), outcomes)
