# SPDX-License-Identifier: Apache-2.0
"""Shadow as a value: what would have been, as numbers and as text; its encoding; its place in plans and
candidates.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from xdpchain.change.plan import make_plan
from xdpchain.linkage.counting import assign_rows
from xdpchain.linkage.dispatcher.config import EVERY_CODE, mask_of
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain
from xdpchain.model.component import Component
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.manifest import Author, Manifest
from xdpchain.model.paths import successors
from xdpchain.model.policy import Answer, Policy
from xdpchain.model.running import Device, Hook, Owner, Running
from xdpchain.model.shadow import would_have
from xdpchain.model.slot import Slot
from xdptui.view.marks import count
from xdptui.view.rebase import rebase
from xdptui.view.waterfall import flow
from xdptui.words.numbers import share
from xdptui.words.rates import Rates
from xdptui.words.shadow_words import shadow_line


def chain_of(*names: str) -> Chain:
    chain = Chain()
    for i, name in enumerate(names):
        slot = Slot.of(Component(name, id=100 + i), 10 * (i + 1))
        chain = chain.add(replace(slot, key=name, row=i + 1))
    return chain


CHAIN = chain_of("a", "b", "c")
SHADED = CHAIN.retune(1, shadow=True)


def running(chain: Chain) -> Running:
    device = Device(Interface("eth7", 7), True, "up", 1500, "veth", None)
    hook = Hook(Mode.NATIVE, 40, "xdptui_chain", "00")
    return Running(device, (hook,), Owner.XDPTUI, chain.linkage, chain=chain, counters_map=5)


def test_what_would_have_been() -> None:
    slot = replace(CHAIN.slots[0], config=replace(CHAIN.slots[0].config, actions=ActionSet.parse("PA")))
    # XDP_ABORTED would have continued; the kernel drops a code that is not an action.
    found = would_have(slot, (7, 30, 900, 20, 10, 3))
    assert (found.all, found.dropped, found.sent, found.passed) == (970, 33, 30, 0)
    stops = replace(slot, config=replace(slot.config, actions=ActionSet()))
    assert would_have(stops, (7, 30, 900, 20, 10, 3)).passed == 900


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (31, 10_000, "0.31 %"),
        (0, 10, "0 %"),
        (10, 10, "100 %"),
        (1, 10_000_000, "<0.01 %"),
        (9_999_999, 10_000_000, ">99.99 %"),
        (75, 1000, "7.5 %"),
        (42, 100, "42 %"),
        (1, 3, "33 %"),
        (0, 0, "-"),
    ],
)
def test_shares(part: float, whole: float, text: str) -> None:
    assert share(part, whole) == text


def test_in_words() -> None:
    slot = SHADED.slots[1]
    assert shadow_line(would_have(slot, (0, 12, 3859, 0, 0, 0))) == (
        "would have dropped 0.31 % (12 of 3,871 packets)"
    )
    assert shadow_line(would_have(slot, (0, 0, 1, 1, 0, 0))) == (
        "would have dropped 0 % (0 of 2 packets), sent 50 %"
    )
    assert shadow_line(would_have(slot, (0,) * 6)) == "no packets yet"


def test_the_dispatcher_gets_all_ones_and_the_manifest_the_truth() -> None:
    assert [mask_of(slot) for slot in SHADED] == [4, EVERY_CODE, 4]
    data = Manifest(SHADED, Author("root", 1, "x", 0.0)).encode()
    assert [(slot.shadow, slot.actions.mask) for slot in Manifest.decode(data).chain] == [
        (False, 4),
        (True, 4),
        (False, 4),
    ]
    old = json.loads(data)
    for slot in old["slots"]:
        del slot["shadow"]
    assert not any(slot.shadow for slot in Manifest.decode(json.dumps(old).encode()).chain)


def test_a_plan_says_so() -> None:
    (change,) = make_plan(running(CHAIN), SHADED).changes
    assert (change.symbol, change.name, change.text) == ("~", "b", "in force → in shadow")
    (change,) = make_plan(running(SHADED), CHAIN).changes
    assert change.text == "in shadow → in force"
    added = make_plan(running(CHAIN), CHAIN.add(Slot.of(Component("d"), 40, shadow=True))).changes
    assert added[0].text.endswith(", in shadow")
    assert count(CHAIN, SHADED) == 1


def test_it_is_carried_over_to_another_editors_chain() -> None:
    theirs = CHAIN.retune(0, priority=5)
    chain, lost = rebase(CHAIN, SHADED, theirs)
    assert lost == ()
    assert [(slot.priority, slot.shadow) for slot in chain] == [(5, False), (20, True), (30, False)]


def test_it_counts_anew_and_the_others_go_on() -> None:
    rows = assign_rows(SHADED, running(CHAIN))
    assert (rows[0], rows[2]) == (1, 3)
    assert rows[1] not in (1, 2, 3)
    assert assign_rows(SHADED, running(SHADED)) == [1, 2, 3]


def test_everything_goes_on_in_the_waterfall() -> None:
    rates = {"b": Rates((1, 40, 50, 5, 3, 1), (0,) * 6)}
    stage = flow(SHADED, rates, Rates((0, 0, 100, 0, 0, 0), (0,) * 6)).stages[1]
    assert (stage.entered, stage.goes_on, stage.shadow) == (100, 100, True)
    assert sum(stage.ends.values()) == 50  # what would have ended here


def test_its_routes_wait_as_well() -> None:
    routed = CHAIN.route(0, Action.DROP, "c").retune(0, actions=ActionSet.parse("none"))
    assert successors(routed)[0][Action.DROP] == 2
    assert successors(routed.retune(0, shadow=True))[0] == (1,) * 6
    found = would_have(routed.slots[0], (0, 10, 5, 0, 0, 1))
    assert (found.dropped, found.passed, found.diverted) == (1, 5, 10)
    assert shadow_line(found).endswith("passed 31 % past the rest of the chain, led 62 % to another slot")


def test_a_policy_would_have_answered() -> None:
    policed = CHAIN.police(0, Policy(ActionSet.parse("PD"), Answer.DROP))
    found = would_have(policed.slots[0], (1, 2, 4, 8, 16, 32))
    assert (found.dropped, found.sent, found.passed) == (1 + 2 + 8 + 16 + 32, 0, 0)
