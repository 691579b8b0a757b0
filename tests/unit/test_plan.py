# SPDX-License-Identifier: Apache-2.0
"""Plans: what changes, in which steps, with which warnings; and what no plan is made for."""

from __future__ import annotations

import pytest

from xdpchain.advice import Do, advise
from xdpchain.change.differences import ChangeKind
from xdpchain.change.plan import Plan, make_plan
from xdpchain.errors import InvalidInput, NotOurs
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.running import Device, Hook, Owner, Running
from xdpchain.model.slot import Slot

DEVICE = Device(Interface("eth7", 7), True, "up", 1500, "veth", frozenset({"basic"}))


def running(chain: Chain) -> Running:
    return Running(
        DEVICE, (Hook(chain.mode, 40, "xdptui_chain", "00"),), Owner.XDPTUI, chain.linkage, chain=chain
    )


def loaded(*names: str, actions: str = "P") -> Chain:
    chain = Chain()
    for i, name in enumerate(names):
        chain = chain.add(Slot.of(Component(name, id=100 + i), 10 * (i + 1), ActionSet.parse(actions)))
    return chain


def kinds(plan: Plan) -> list[tuple[ChangeKind, str]]:
    return [(change.kind, change.name) for change in plan.changes]


def test_no_change_is_an_empty_plan() -> None:
    plan = make_plan(running(loaded("a", "b")), loaded("a", "b"))
    assert not plan.empty, "other keys: two chains that only look alike"
    chain = loaded("a", "b")
    assert make_plan(running(chain), chain).empty
    assert make_plan(running(chain), chain).steps == ()
    assert make_plan(Running(DEVICE), Chain()).empty


def test_a_first_load() -> None:
    candidate = Chain().add(Slot.of(Component("a"))).add(Slot.of(Component("b")))
    plan = make_plan(Running(DEVICE), candidate)
    assert kinds(plan) == [(ChangeKind.ADD, "a"), (ChangeKind.ADD, "b")]
    assert "load 2 new components" in plan.steps
    assert "only if the hook is still free" in plan.steps[-1]


def test_each_kind_of_change() -> None:
    chain = loaded("a", "b", "c", "d")
    new = Component("e")
    candidate = chain.remove([1]).add(Slot.of(new), at=0).move(3, 1).retune(2, actions=ActionSet.parse("PD"))
    plan = make_plan(running(chain), candidate)
    assert [s.name for s in candidate] == ["e", "d", "a", "c"]
    assert (ChangeKind.REMOVE, "b") in kinds(plan)
    assert (ChangeKind.ADD, "e") in kinds(plan)
    assert (ChangeKind.MOVE, "d") in kinds(plan)
    assert (ChangeKind.MOVE, "a") not in kinds(plan), "only what moved against the others is called moved"
    texts = {change.name: change.text for change in plan.changes if change.kind is ChangeKind.RETUNE}
    assert texts["a"] == "continues on XDP_PASS → XDP_DROP,XDP_PASS"
    replaced = make_plan(running(chain), chain.substitute(0, Component("a", section="other")))
    assert kinds(replaced) == [(ChangeKind.REPLACE, "a")]
    relinked = make_plan(running(chain), chain.relink(Linkage.FREPLACE))
    assert kinds(relinked) == [(ChangeKind.CHAIN, "")]


def test_more_slots_than_the_dispatcher_has_get_no_plan() -> None:
    ten = loaded(*"abcdefghij").relink(Linkage.FREPLACE)
    assert len(make_plan(Running(DEVICE), ten).changes) == 10
    eleven = ten.add(Slot.of(Component("k")))
    with pytest.raises(InvalidInput, match="freplace linkage does not support 11 slots: libxdp") as refused:
        make_plan(running(ten), eleven)
    assert refused.value.todo == advise(Do.RELINK, "static", on=DEVICE.interface) | advise(
        Do.MEND, "Remove 1 slot"
    )
    # If the chain runs with another linkage, it is the requested one that does not support it.
    with pytest.raises(InvalidInput, match="does not support 11 slots") as refused:
        make_plan(running(eleven.relink(Linkage.STATIC)), eleven)
    assert refused.value.todo == advise(Do.CHOOSE_LINKAGE, "static", "tailcall") | advise(
        Do.MEND, "Remove 1 slot"
    )


def test_unloading_all_names_the_program_it_expects() -> None:
    plan = make_plan(running(loaded("a")), Chain())
    assert kinds(plan) == [(ChangeKind.REMOVE, "a")]
    assert "40" in plan.steps[0]


def test_somebody_elses_program_gets_no_plan() -> None:
    foreign = Running(DEVICE, (Hook(Mode.NATIVE, 9, "theirs", "00"),), Owner.FOREIGN, note="whose it is")
    with pytest.raises(NotOurs, match="whose it is"):
        make_plan(foreign, loaded("a"))


def test_modes_are_not_mixed() -> None:
    chain = loaded("a")
    with pytest.raises(InvalidInput, match="native mode, generic was requested"):
        make_plan(running(chain), Chain(chain.slots, mode=Mode.GENERIC))
    with pytest.raises(InvalidInput, match="offload"):
        make_plan(Running(DEVICE), Chain(chain.slots, mode=Mode.OFFLOAD))


def test_steps_agree_in_number() -> None:
    chain = loaded("a")
    steps = make_plan(running(chain), chain.add(Slot.of(Component("b")))).steps
    assert "keep the maps of 1 running component" in steps
    assert any(step.startswith("link 2 slots into") for step in steps)
    (_, first, *_) = make_plan(Running(DEVICE), Chain().add(Slot.of(Component("a")))).steps
    assert first.startswith("link 1 slot into")
