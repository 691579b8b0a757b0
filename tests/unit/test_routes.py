# SPDX-License-Identifier: Apache-2.0
"""Routes: how they are written, where they lead, and what lint says about them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpchain.advice import Do, advise
from xdpchain.change.lint import lint
from xdpchain.change.plan import make_plan
from xdpchain.errors import InvalidInput, NotFound
from xdpchain.model.actions import ALL_ACTIONS, Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component
from xdpchain.model.interface import Interface
from xdpchain.model.paths import RETURN, adjusted, check_routes, is_routed, reachable, row_changed, successors
from xdpchain.model.routes import CODES, parse_routes
from xdpchain.model.running import Device, Running
from xdpchain.model.slot import Slot

PASS_ON = ActionSet.parse("P")


def chain_of(*actions: str) -> Chain:
    chain = Chain()
    for number, text in enumerate(actions):
        chain = chain.add(Slot.of(Component(f"c{number}"), 10 * number, ActionSet.parse(text)))
    return chain


def leading(chain: Chain, index: int, code: Action | None, target: int) -> Chain:
    return chain.route(index, code, chain.slots[target].key)


def test_routes_are_read() -> None:
    assert parse_routes("DROP:logger, XDP_TX:4,*:return") == {
        Action.DROP: "logger", Action.TX: "4", None: "return"
    }  # fmt: skip
    assert parse_routes("any:next") == {None: "next"}


@pytest.mark.parametrize("text", ["", ",", "DROP", "DROP:", "FOO:1", "D:1,DROP:2", ":3"])
def test_what_is_no_route_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_routes(text)


def test_precedence_is_code_then_actions_then_any_other() -> None:
    chain = leading(leading(chain_of("PD", "P", "P", "none"), 0, Action.DROP, 3), 0, None, 2)
    assert successors(chain)[0] == (2, 3, 1, 2, 2, 2)
    assert successors(chain)[3] == (RETURN,) * CODES
    assert successors(chain_of("P"))[0] == (RETURN, RETURN, 1, RETURN, RETURN, RETURN)


def test_a_route_stays_with_its_slot_through_edits() -> None:
    chain = leading(chain_of("P", "P", "P"), 0, Action.DROP, 2)
    moved = chain.move(2, 1)
    assert successors(moved)[0][Action.DROP] == 1
    assert not is_routed(chain.remove([2]))
    assert not is_routed(chain.route(0, Action.DROP, None))
    assert successors(chain.substitute(0, Component("other")))[0][Action.DROP] == 2
    with pytest.raises(InvalidInput, match="leads back to c2"):
        check_routes(chain.move(0, 2))
    with pytest.raises(InvalidInput, match="leads to itself"):
        successors(chain.route(1, Action.DROP, chain.slots[1].key))
    with pytest.raises(NotFound):
        chain.route(0, Action.DROP, "no such key")


def test_freplace_can_not_express_them_and_the_plan_says_who_can() -> None:
    chain = leading(chain_of("P", "P"), 0, Action.DROP, 1).relink(Linkage.FREPLACE)
    nothing = Running(Device(Interface("x", 1), True, "up", 1500, None, None))
    with pytest.raises(InvalidInput, match="c0") as refused:
        make_plan(nothing, chain)
    assert refused.value.todo == advise(Do.CHOOSE_LINKAGE, "static", "tailcall")
    (change, _) = make_plan(nothing, chain.relink(Linkage.STATIC)).changes
    assert "XDP_DROP leads to c1" in change.text


def test_a_plan_says_what_becomes_of_a_route() -> None:
    before = leading(chain_of("P", "P", "P"), 0, Action.DROP, 1)
    runs = Running(Device(Interface("x", 1), True, "up", 1500, None, None), chain=before)
    (change,) = make_plan(runs, leading(before, 0, Action.DROP, 2)).changes
    assert change.text == "XDP_DROP leads to c2, no longer to c1"
    (change,) = make_plan(runs, before.route(0, Action.DROP, None)).changes
    assert change.text == "XDP_DROP no longer leads elsewhere"


def texts(chain: Chain) -> list[str]:
    return [warning.text for warning in lint(chain)]


def test_lint_follows_the_routes() -> None:
    skipped = leading(chain_of("none", "P", "none"), 0, Action.PASS, 2)
    assert "c1 never runs: no return code leads to it" in texts(skipped)
    assert any("c0 continues after XDP_DROP: a later slot decides" in text
               for text in texts(leading(chain_of("P", "P"), 0, Action.DROP, 1)))  # fmt: skip
    back = leading(chain_of("P", "P"), 1, Action.DROP, 0)
    assert any("leads back" in text for text in texts(back))


@given(st.data())
def test_no_way_through_a_chain_leads_back(data: st.DataObject) -> None:
    chain = chain_of(*(data.draw(st.sampled_from(["none", "P", "ADPTR"])) for _ in range(6)))
    for _ in range(data.draw(st.integers(0, 8))):
        index, target = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 5))
        code = data.draw(st.sampled_from([*ALL_ACTIONS, None]))
        candidate = leading(chain, index, code, target)
        try:
            check_routes(candidate)
        except InvalidInput:
            assert target <= index
        else:
            chain = candidate
    table = successors(chain)
    assert all(place == RETURN or place > i for i, row in enumerate(table) for place in row)
    assert 0 in reachable(chain)


@st.composite
def routed(draw: st.DrawFn, length: int) -> Chain:
    chain = replace(chain_of(*["none"] * length), linkage=Linkage.TAILCALL)
    for index in range(length):
        chain = chain.retune(index, actions=ActionSet(draw(st.integers(0, 31))))
        if index + 1 < length:
            for code in (*ALL_ACTIONS, None):
                if (place := draw(st.none() | st.integers(index + 1, length - 1))) is not None:
                    chain = leading(chain, index, code, place)
    return chain


@st.composite
def two_of_the_same_slots(draw: st.DrawFn) -> tuple[Chain, Chain]:
    length = draw(st.integers(1, 5))
    first, second = draw(routed(length)), draw(routed(length))
    keys = dict(zip((s.key for s in second), (s.key for s in first), strict=True))
    off = draw(st.lists(st.booleans(), min_size=length, max_size=length))
    slots = [
        replace(s, key=keys[s.key], routes=tuple(replace(r, target=keys[r.target]) for r in s.routes), off=no)
        for s, no in zip(second, off, strict=True)
    ]
    first = replace(first, slots=tuple(replace(s, off=no) for s, no in zip(first, off, strict=True)))
    return first, replace(second, slots=tuple(slots))


@given(two_of_the_same_slots())
def test_a_chain_is_told_from_its_table(chains: tuple[Chain, Chain]) -> None:
    """What a tail-call chain does is read from its program arrays, whatever its manifest says."""
    said, does = chains
    assert successors(adjusted(said, successors(does))) == successors(does)
    assert adjusted(said, successors(said)) == said


@given(two_of_the_same_slots())
def test_what_is_taken_for_one_update_is_one(chains: tuple[Chain, Chain]) -> None:
    old, new = chains
    found = row_changed(old, new)
    cells = [
        (i, code)
        for i in range(len(old))
        for code in range(CODES)
        if successors(old)[i][code] != successors(new)[i][code]
    ]
    if found is None:
        return
    assert cells == [found[:2]]
    assert successors(new)[found[0]][found[1]] == found[2]
    assert adjusted(old, successors(new)) == new


@given(routed(3), st.integers(0, 2), st.sampled_from(ALL_ACTIONS))
def test_a_toggle_is_one_update(chain: Chain, index: int, action: Action) -> None:
    toggled = chain.retune(index, actions=chain.slots[index].actions.toggle(action))
    different = successors(toggled) != successors(chain)
    routed_away = any(route.code is action for route in chain.slots[index].routes)
    assert (row_changed(chain, toggled) is not None) == different
    assert different or routed_away or any(route.code is None for route in chain.slots[index].routes)


def test_only_tail_call_chains_are_changed_in_place() -> None:
    for linkage in (Linkage.STATIC, Linkage.FREPLACE):
        chain = chain_of("P", "P").relink(linkage)
        assert row_changed(chain, chain.retune(0, actions=ActionSet())) is None
    chain = chain_of("P", "P").relink(Linkage.TAILCALL)
    assert row_changed(chain, chain) is None
    assert row_changed(chain, chain.move(1, 0)) is None
    shadowed = replace(chain, slots=(replace(chain.slots[0], shadow=True), chain.slots[1]))
    assert row_changed(chain, shadowed) is None
    assert row_changed(shadowed, chain) is None
