# SPDX-License-Identifier: Apache-2.0
"""Chains keyed by return code: an action leads to a named slot, on every linkage that can express it.

Every slot runs the sample ``scripted``, as in the contract's tests: the packet says what each slot returns.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.chains import Expected, change, look_at, run_through, scripted_chain
from xdpchain.change.plan import make_plan
from xdpchain.errors import InvalidInput
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.paths import successors
from xdpchain.observe.counters import open_counters
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdpchain.trial.run import run_trial

LINKAGES = [Linkage.STATIC, Linkage.TAILCALL]
pytestmark = pytest.mark.parametrize("linkage", LINKAGES)

A, D, P, T, R = Action.ABORTED, Action.DROP, Action.PASS, Action.TX, Action.REDIRECT
Routes = dict[int, dict[Action | None, int]]

CHAINS: dict[str, tuple[list[str], Routes]] = {
    "a logger for what is dropped": (["P", "P", "none"], {0: {D: 2}, 1: {D: 2}}),
    "past the next": (["P", "P", "P", "P"], {0: {P: 2, T: 3}, 1: {None: 3}}),
    "a wildcard": (["none", "D", "none"], {0: {None: 1}, 1: {None: 2, P: 2}}),
    "every code its slot": (["none"] * 6, {0: {A: 1, D: 2, P: 3, T: 4, R: 5}}),
    "ten": (["P"] * 10, {0: {D: 9, T: 5}, 3: {None: 7}, 5: {P: 8, D: 6}, 8: {R: 9}}),
}


def routed(chain: Chain, routes: Routes) -> Chain:
    for index, ways in routes.items():
        for code, place in ways.items():
            chain = chain.route(index, code, chain.slots[place].key)
    return chain


def way(actions: list[ActionSet], routes: Routes, script: bytes) -> tuple[list[int], Expected]:
    """The slots that run, and what the contract says about them, derived from the wording of the issue."""
    at, ran, returned = 0, [], []
    while at < len(actions):
        code = script[at]
        ran.append(at)
        returned.append(code)
        ways: Mapping[Action | None, int] = routes.get(at, {})
        named = next((place for action, place in ways.items() if action is not None and action == code), None)
        if code == 31:
            at += 1
        elif named is not None:
            at = named
        elif code in actions[at]:
            at += 1
        elif None in ways:
            at = ways[None]
        else:
            return ran, Expected(tuple(returned), code)
    return ran, Expected(tuple(returned), 2)


@pytest.mark.parametrize("counters", [True, False])
@pytest.mark.parametrize("name", CHAINS)
def test_each_code_leads_where_it_says(
    playground: Playground, samples: Path, linkage: Linkage, name: str, counters: bool
) -> None:
    words, routes = CHAINS[name]
    actions = [ActionSet.parse(text) for text in words]
    chance = random.Random(name)
    candidate = routed(scripted_chain(samples, actions, linkage, counters=counters), routes)
    running = change(playground, candidate)
    scripts = [bytes(chance.choice((0, 1, 2, 3, 4, 5, 31, 32, 255)) for _ in actions) for _ in range(150)]
    counted = [0] * len(actions)
    reader = open_counters(running) if counters else None
    before = reader.read() if reader else None
    for script in scripts:
        ran, want = way(actions, routes, script)
        got = run_through(running, scripted(script))
        assert (got.code, got.data[60:].decode()) == (want.verdict, "".join(map(str, ran))), script.hex()
        for place in ran:
            counted[place] += 1
    if reader is not None and before is not None:
        after = reader.read()
        reader.close()
        assert running.chain is not None
        for slot, number in zip(running.chain, counted, strict=True):
            assert after.slots[slot.key].since(before.slots[slot.key]).total_packets == number
        assert after.verdict.since(before.verdict).total_packets == len(scripts)


def test_real_packets_take_their_way(playground: Playground, samples: Path, linkage: Linkage) -> None:
    actions = [ActionSet.parse("P"), ActionSet.parse("P"), ActionSet()]
    running = change(playground, routed(scripted_chain(samples, actions, linkage), {0: {D: 2}}))
    with open_counters(running) as reader:  # type: ignore[union-attr]
        before = reader.read()
        playground.send([scripted(b"\1\2\1")] * 5 + [scripted(b"\2\2\2")] * 3 + [scripted(b"\2\1\2")] * 2)
        after = reader.read()
    assert running.chain is not None
    seen = [after.slots[s.key].since(before.slots[s.key]).total_packets for s in running.chain]
    assert seen == [10, 5, 8]
    assert after.verdict.since(before.verdict).packets[:3] == (0, 7, 3)


def test_the_kernel_remembers_the_routes_and_edits_keep_them(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    actions = [ActionSet.parse("P")] * 3
    change(playground, routed(scripted_chain(samples, actions, linkage), {0: {D: 2, None: 2}}))
    found = look_at(playground).chain
    assert found is not None
    assert successors(found)[0] == (2, 2, 1, 2, 2, 2)
    # The logger moves up, and the routes follow.
    second = change(playground, found.move(2, 1)).chain
    assert second is not None
    assert [slot.name[-1] for slot in second] == ["0", "2", "1"]
    assert successors(second)[0] == (1, 1, 1, 1, 1, 1)
    # Without it, its routes are gone too.
    third = change(playground, second.remove([1])).chain
    assert third is not None
    assert successors(third)[0] == (-1, -1, 1, -1, -1, -1)
    assert not any(slot.routes for slot in third)


def test_what_leads_back_or_nowhere_is_refused(
    playground: Playground, samples: Path, linkage: Linkage
) -> None:
    plain = scripted_chain(samples, [ActionSet.parse("P")] * 3, linkage)
    running = look_at(playground)
    for candidate in (routed(plain, {2: {D: 0}}), routed(plain, {1: {D: 1}})):
        with pytest.raises(InvalidInput, match=r"leads back|leads to itself"):
            make_plan(running, candidate)
    dangling = routed(plain, {0: {D: 2}})
    with pytest.raises(InvalidInput, match="leads nowhere"):
        make_plan(running, replace(dangling, slots=dangling.slots[:2]))
    with pytest.raises(InvalidInput, match="libxdp"):
        make_plan(running, routed(plain, {0: {D: 2}}).relink(Linkage.FREPLACE))
    assert look_at(playground).hooks == ()


def test_a_trial_takes_the_same_way(playground: Playground, samples: Path, linkage: Linkage) -> None:
    chain = routed(scripted_chain(samples, [ActionSet.parse("P")] * 3, linkage), {0: {D: 2}})
    (row,) = run_trial(chain, [scripted(b"\1\2\3")]).rows
    assert row.slots == (Action.DROP, None, Action.TX)
    assert row.verdict is Action.TX
