# SPDX-License-Identifier: Apache-2.0
"""What a candidate would do to current traffic, from the running chain's counters and from a sample of
packets. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpchain.errors import InvalidInput
from xdpchain.model.actions import Action
from xdpchain.model.chain import Chain
from xdpchain.model.paths import RETURN, successors
from xdptui.words.numbers import share, short
from xdptui.words.rates import Reading

if TYPE_CHECKING:
    from xdpchain.trial.whatif import Tally, WhatIf

__all__ = ["sampled_effects", "traffic_effects"]

DOES = {
    Action.ABORTED: "aborts",
    Action.DROP: "drops",
    Action.PASS: "passes",
    Action.TX: "sends back",
    Action.REDIRECT: "redirects",
}
NOW = {
    Action.ABORTED: "aborted",
    Action.DROP: "dropped",
    Action.PASS: "passed",
    Action.TX: "sent back",
    Action.REDIRECT: "redirected",
}
LEAST = 0.5
"""Packets per second below which nothing is reported."""


def traffic_effects(base: Chain, candidate: Chain, reading: Reading) -> tuple[str, ...]:
    """A sentence for each kind of packet whose path changes for certain: a verdict that ends the chain now
    and will not, or the reverse. Makes no claims about another order or another program.
    """
    if reading.verdict_rates is None:
        return ()
    try:
        before, after = successors(base), successors(candidate)
    except InvalidInput:
        return ()
    received = reading.verdict_rates.all_packets
    places = {slot.key: i for i, slot in enumerate(candidate)}
    found = []
    for i, slot in enumerate(base):
        rates = reading.rates.get(slot.key)
        there = places.get(slot.key)
        if rates is None or (there is not None and candidate.slots[there].component != slot.component):
            continue
        for action, does in DOES.items():
            rate = rates.packets[action]
            ends = before[i][action] == RETURN
            if rate < LEAST:
                continue
            now = f"slot {i} {slot.name} {does} {short(rate)} packets/s ({share(rate, received)}) now"
            if there is None:
                if ends:
                    found.append(f"{now}; without it, {_decided(candidate, 0)}")
                continue
            way = after[there][action]
            if ends and way != RETURN:
                found.append(f"{now}; {_decided(candidate, way)}")
            elif not ends and way == RETURN:
                what = "that becomes the verdict"
                found.append(f"slot {i} {slot.name} returns {action.name} for {short(rate)} packets/s "
                             f"({share(rate, received)}) now; {what}")  # fmt: skip
    return tuple(found)


def _decided(candidate: Chain, place: int) -> str:
    """What happens to packets that reach this place in the candidate."""
    if place >= len(candidate):
        return "these will pass"
    if place == 0:
        return "the rest of the chain decides"
    return f"these will continue to slot {place} {candidate.slots[place].name}"


def sampled_effects(tried: WhatIf, rate: float | None) -> tuple[str, ...]:
    """A sentence for each changed outcome of packets sampled while ``rate`` arrived per second (None:
    unknown).
    """
    count = len(tried.crossings)
    found = [_fate(tally, count, rate) for tally in tried.tallies if tally.differs]
    same = sum(tally.count for tally in tried.tallies if tally.differs is False)
    unknown = count - same - sum(tally.count for tally in tried.tallies if tally.differs)
    if same:
        found.append(f"{f'all {count}' if same == count else f'{same} of {count}'} sampled packets: as now")
    if unknown:
        why = next((side.why for c in tried.crossings for side in (c.new, c.old) if side.why), "")
        found.append(f"{unknown} of {count} sampled packets: not known{f' ({why})' if why else ''}")
    return tuple(found)


def _fate(tally: Tally, count: int, rate: float | None) -> str:
    part = share(tally.count, count)
    if rate is not None:
        part += f", about {short(tally.count / count * rate)} packets/s"
    if tally.rewritten:
        what = f"{_past(tally.new)} with different bytes"
    else:
        what = f"{_past(tally.old)} now, will be {_past(tally.new)}"
    return f"{tally.count} of {count} sampled packets ({part}): {what}"


def _past(verdict: Action | int | None) -> str:
    return NOW[verdict] if isinstance(verdict, Action) else f"given code {verdict}"
