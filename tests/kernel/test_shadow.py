# SPDX-License-Identifier: Apache-2.0
"""Slots in shadow: they run and are counted, and the chain continues whatever they return; the same in both
linkages. The packet says what each slot returns (the sample ``scripted``), so every count is known in
advance.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.arming import LATER, arm, no_guardian_survives
from tests.kernel.chains import LINKAGES, change, look_at, run_through, scripted_chain, slots_of
from tests.kernel.test_contract import CODES_TRIED, by_code
from xdpchain.change.confirm.by_hand import roll_back
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.policy import Answer, Policy
from xdpchain.model.shadow import would_have
from xdpchain.observe.counters import open_counters
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

linkages = pytest.mark.parametrize("linkage", LINKAGES)

PASS_ON = ActionSet.parse("P")


def shaded(samples: Path, linkage: Linkage, *places: int, length: int = 3) -> Chain:
    chain = scripted_chain(samples, [PASS_ON] * length, linkage)
    for place in places:
        chain = chain.retune(place, shadow=True)
    return chain


@linkages
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_chain_goes_on_whatever_it_returns(
    playground: Playground, samples: Path, linkage: Linkage, place: int
) -> None:
    running = change(playground, shaded(samples, linkage, place))
    assert [slot.shadow for slot in slots_of(look_at(playground))] == [i == place for i in range(3)]
    with open_counters(running) as reader:  # type: ignore[union-attr]
        before = reader.read()
        for code in CODES_TRIED:
            script = bytes(code if i == place else 2 for i in range(3))
            got = run_through(running, scripted(script), arrived=True)
            assert (got.code, got.data[60:]) == (2, b"012"), code
        after = reader.read()
    key = slots_of(running)[place].key
    assert after.slots[key].since(before.slots[key]).packets == by_code(list(CODES_TRIED))
    assert after.verdict.since(before.verdict).packets == (0, 0, len(CODES_TRIED), 0, 0, 0)


@linkages
def test_a_single_slot_in_shadow_decides_nothing(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    """With freplace, a single component usually replaces the dispatcher's main function; not here."""
    running = change(playground, shaded(samples, linkage, 0, length=1))
    with open_counters(running) as reader:  # type: ignore[union-attr]
        before = reader.read()
        for code in CODES_TRIED:
            assert run_through(running, scripted(bytes([code])), arrived=True).code == 2, code
        after = reader.read()
    assert after.verdict.since(before.verdict).packets == (0, 0, len(CODES_TRIED), 0, 0, 0)
    key = slots_of(running)[0].key
    assert after.slots[key].since(before.slots[key]).packets == by_code(list(CODES_TRIED))
    # In force again, its return code is the verdict.
    (slot,) = slots_of(running)
    after = change(playground, (running.chain or Chain()).retune(0, shadow=False))
    assert run_through(after, scripted(b"\1")).code == 1
    assert slots_of(after)[0].id == slot.id
    assert not slots_of(look_at(playground))[0].shadow


def test_routes_wait_too(playground: Playground, samples: Path) -> None:
    """Its routes come into force with it; those of other slots hold."""
    chain = scripted_chain(samples, [PASS_ON] * 4, Linkage.STATIC)
    chain = chain.route(0, Action.DROP, chain.slots[3].key).route(1, Action.TX, chain.slots[3].key)
    running = change(playground, chain.retune(0, shadow=True))
    for code in CODES_TRIED:
        got = run_through(running, scripted(bytes([code, 3, 2, 2])))
        assert (got.code, got.data[60:]) == (2, b"013"), code
    pending = change(playground, (running.chain or Chain()).retune(0, shadow=False))
    assert run_through(pending, scripted(b"\1\2\2\2")).data[60:] == b"03"


def test_a_policy_answers_and_stops_nothing(playground: Playground, samples: Path) -> None:
    chain = scripted_chain(samples, [PASS_ON] * 2, Linkage.STATIC)
    chain = chain.police(0, Policy(ActionSet.parse("PD"), Answer.DROP))
    running = change(playground, chain.retune(0, shadow=True))
    for code in CODES_TRIED:
        got = run_through(running, scripted(bytes([code, 2])))
        assert (got.code, got.data[60:]) == (2, b"01"), code
    pending = change(playground, (running.chain or Chain()).retune(0, shadow=False))
    assert run_through(pending, scripted(b"\3\2")).code == 1


@linkages
def test_its_own_actions_are_kept(playground: Playground, samples: Path, linkage: Linkage) -> None:
    odd = ActionSet.parse("PTR")
    chain = shaded(samples, linkage, 1).retune(1, actions=odd)
    change(playground, chain)
    assert slots_of(look_at(playground))[1].actions == odd
    # Also through an edit of another slot, and when changed in shadow.
    second = change(playground, (look_at(playground).chain or Chain()).retune(0, priority=3))
    assert (slots_of(second)[1].shadow, slots_of(second)[1].actions) == (True, odd)
    third = change(playground, (second.chain or Chain()).retune(1, actions=ActionSet.parse("D")))
    assert (slots_of(third)[1].shadow, slots_of(third)[1].actions) == (True, ActionSet.parse("D"))
    pending = change(playground, (third.chain or Chain()).retune(1, shadow=False))
    assert (slots_of(pending)[1].shadow, slots_of(pending)[1].actions) == (False, ActionSet.parse("D"))
    assert run_through(pending, scripted(b"\2\2\1")).data[60:] == b"01"  # XDP_PASS ends it, as slot 1 says


def test_real_packets_and_what_would_have_been_dropped(playground: Playground, samples: Path) -> None:
    first = change(playground, scripted_chain(samples, [PASS_ON] * 2, Linkage.STATIC))
    drop, let = scripted(b"\1\2"), scripted(b"\2\2")
    assert playground.send([drop] * 3 + [let] * 4) == 7
    # Into shadow: its counts restart, so that real drops are not taken for what it would have dropped.
    second = change(playground, (first.chain or Chain()).retune(0, shadow=True))
    assert playground.send([drop] * 3 + [let] * 97) == 100
    slot = slots_of(second)[0]
    with open_counters(second) as reader:  # type: ignore[union-attr]
        sample = reader.read()
    found = would_have(slot, sample.slots[slot.key].packets)
    assert (found.all, found.dropped, found.sent, found.passed) == (100, 3, 0, 0)
    # The other slot's counts and the chain's own continue.
    assert sample.slots[slots_of(second)[1].key].packets == (0, 0, 104, 0, 0, 0)
    assert sample.verdict.packets == (0, 3, 104, 0, 0, 0)
    third = change(playground, (second.chain or Chain()).retune(0, shadow=False))
    assert playground.send([drop] * 3 + [let] * 4) == 7
    with open_counters(third) as reader:  # type: ignore[union-attr]
        assert reader.read().slots[slot.key].packets == (0, 3, 4, 0, 0, 0)


@linkages
def test_what_was_rolled_back_is_forgotten(playground: Playground, samples: Path, linkage: Linkage) -> None:
    """Even if the actions belong to the component, which both chains use."""
    odd, other = ActionSet.parse("PTR"), ActionSet.parse("D")
    first = change(playground, shaded(samples, linkage, 1).retune(1, actions=odd))
    with no_guardian_survives(playground):
        arm(playground, (first.chain or Chain()).retune(1, actions=other), LATER)
        assert slots_of(look_at(playground))[1].actions == other
        back = roll_back(playground.ifname, playground.netns)
    assert (slots_of(back)[1].shadow, slots_of(back)[1].actions) == (True, odd)
    # Made for a later dispatcher, it is skipped by the next one, too.
    again = change(playground, (back.chain or Chain()).retune(0, priority=3))
    assert slots_of(again)[1].actions == odd
    assert slots_of(look_at(playground))[1].actions == odd


@linkages
def test_from_one_linkage_to_itself_by_undo(playground: Playground, samples: Path, linkage: Linkage) -> None:
    from xdpchain.editing import undo

    first = change(playground, shaded(samples, linkage, 1))
    change(playground, (first.chain or Chain()).retune(1, shadow=False))
    back = undo(playground.ifname, playground.netns)
    assert [slot.shadow for slot in slots_of(back)] == [False, True, False]
    assert slots_of(back)[1].actions == PASS_ON
    again = undo(playground.ifname, playground.netns)
    assert again.hooks == () or again.chain is not None


@pytest.mark.vm
@pytest.mark.parametrize("first", [Linkage.STATIC, Linkage.FREPLACE])
def test_relinked(playground: Playground, samples: Path, first: Linkage) -> None:
    odd = ActionSet.parse("PTR")
    other = Linkage.FREPLACE if first is Linkage.STATIC else Linkage.STATIC
    change(playground, shaded(samples, first, 1).retune(1, actions=odd))
    chain = look_at(playground).chain or Chain()
    after = change(playground, replace(chain, linkage=other))
    assert after.linkage is other
    slot = slots_of(look_at(playground))[1]
    assert (slot.shadow, slot.actions) == (True, odd)
    assert run_through(after, scripted(b"\2\1\2")).data[60:] == b"012"
