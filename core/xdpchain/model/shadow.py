# SPDX-License-Identifier: Apache-2.0
"""What a shadow slot would have done, from its counted return codes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .actions import ALL_ACTIONS, Action
from .routes import CODES, OTHER
from .slot import Slot

__all__ = ["WouldHave", "would_have"]


class WouldHave(NamedTuple):
    """Packets, or packets per second: all that ran through the slot, and those that it would have ``dropped``
    (including codes that are not actions, which the kernel drops), ``sent`` (XDP_TX and XDP_REDIRECT),
    ``passed`` without the rest of the chain, or ``diverted`` to a slot other than the next.
    """

    all: float
    dropped: float
    sent: float
    passed: float
    diverted: float = 0.0


def would_have(slot: Slot, packets: Sequence[float]) -> WouldHave:
    """What a slot would have done with its actions, routes and policy; ``packets`` are by return code, as in
    counters.
    """
    routed = {route.code for route in slot.routes}
    ends, diverted = [0.0] * CODES, 0.0
    for counted in range(CODES):
        code = _answered(slot, counted)
        action = ALL_ACTIONS[code] if code < OTHER else None
        if action in routed or (None in routed and action not in slot.actions):
            diverted += packets[counted]
        elif action not in slot.actions:
            ends[code] += packets[counted]
    return WouldHave(
        sum(packets),
        ends[Action.DROP] + ends[Action.ABORTED] + ends[OTHER],
        ends[Action.TX] + ends[Action.REDIRECT],
        ends[Action.PASS],
        diverted,
    )


def _answered(slot: Slot, code: int) -> int:
    """The effective code: a forbidden one may be replaced by the policy's answer."""
    answer = slot.policy.otherwise.action if slot.policy and slot.policy.broken_by(code) else None
    return code if answer is None else answer
