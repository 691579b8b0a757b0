# SPDX-License-Identifier: Apache-2.0
"""What a candidate would do to current packets."""

from __future__ import annotations

from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain
from xdpchain.model.component import Component
from xdpchain.model.runconfig import RunConfig
from xdpchain.model.slot import Slot
from xdptui.view.traffic_effects import traffic_effects
from xdptui.words.rates import Rates, Reading


def slot(name: str, priority: int) -> Slot:
    return Slot(Component(name, id=priority, declared=RunConfig(priority)), RunConfig(priority), key=name)


BASE = Chain((slot("firewall", 10), slot("limit", 20)))


def rates(drop: float, passed: float) -> Rates:
    packets = (0.0, drop, passed, 0.0, 0.0, 0.0)
    return Rates(packets, packets)


READING = Reading(1.0, {}, {"firewall": rates(96, 904), "limit": rates(4, 900)}, rates(0, 0), rates(100, 900))


def test_a_verdict_that_no_longer_ends_the_chain() -> None:
    candidate = BASE.retune(0, actions=BASE.slots[0].actions.toggle(Action.DROP))
    assert traffic_effects(BASE, candidate, READING) == (
        "slot 0 firewall drops 96 packets/s (9.6 %) now; these will continue to slot 1 limit",
    )
    candidate = BASE.retune(1, actions=BASE.slots[1].actions.toggle(Action.DROP))
    assert traffic_effects(BASE, candidate, READING) == (
        "slot 1 limit drops 4 packets/s (0.4 %) now; these will pass",
    )


def test_a_verdict_that_will_end_it() -> None:
    candidate = BASE.retune(0, actions=ActionSet())
    assert traffic_effects(BASE, candidate, READING) == (
        "slot 0 firewall returns PASS for 904 packets/s (90 %) now; that becomes the verdict",
    )


def test_a_slot_that_goes() -> None:
    assert traffic_effects(BASE, BASE.remove([0]), READING) == (
        "slot 0 firewall drops 96 packets/s (9.6 %) now; without it, the rest of the chain decides",
    )
    (said,) = traffic_effects(Chain(BASE.slots[:1]), Chain(), READING)
    assert said.endswith("without it, these will pass")


def test_nothing_is_claimed_where_nothing_is_known() -> None:
    assert traffic_effects(BASE, BASE.move(0, 1), READING) == ()
    assert traffic_effects(BASE, BASE.remove([0]), Reading(1.0, {}, {}, rates(0, 0), None)) == ()
