# SPDX-License-Identifier: Apache-2.0
"""The session: selection, candidates, what another editor does to them, filter and sort."""

from __future__ import annotations

from dataclasses import replace

from xdpchain.change.differences import ChangeKind, changes_between
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.runconfig import RunConfig
from xdpchain.model.running import Device, DispatcherInfo, Hook, Owner, Running
from xdpchain.model.slot import Slot
from xdptui.view.marks import count, removed, symbols, toggled
from xdptui.view.rebase import rebase
from xdptui.view.session import CONFIRM_SECONDS, BannerState, Order, Session


def slot(name: str, priority: int, actions: str = "P") -> Slot:
    return Slot(
        Component(name, id=priority), RunConfig(priority, ActionSet.parse(actions)), key=f"key-{name}"
    )


def running(
    ifindex: int,
    chain: Chain | None = None,
    prog_id: int | None = None,
    name: str = "",
    owner: Owner | None = None,
) -> Running:
    device = Device(
        Interface(name or f"eth{ifindex}", ifindex), True, "up", 1500, "veth", frozenset({"basic"})
    )
    if prog_id is None:
        return Running(device)
    hook = Hook(Mode.NATIVE, prog_id, "xdp_dispatcher", "abcd")
    if chain is None:
        return Running(device, (hook,), Owner.FOREIGN, note="somebody else's")
    return Running(
        device, (hook,), Owner.XDPTUI, Linkage.STATIC, DispatcherInfo(prog_id, 3), chain, counters_map=7
    )


THREE = Chain((slot("a", 10), slot("b", 20), slot("c", 30)))


MIXED = (
    running(1, name="lo"),
    running(2, THREE, 5, name="wan0"),
    running(3, None, 6, name="lan0"),
)


def session(*runnings: Running) -> Session:
    return Session().surveyed_as(runnings)


def test_the_first_interface_with_a_program_is_selected() -> None:
    assert session(running(1), running(2, THREE, 50)).selected == 2
    assert session(running(1), running(2)).selected == 1
    assert session().selected is None
    assert session().state is BannerState.EMPTY


def test_states() -> None:
    assert session(running(1)).state is BannerState.FREE
    assert session(running(1, None, 9)).state is BannerState.FOREIGN
    plain = session(running(1, THREE, 50))
    assert plain.state is BannerState.RUNNING
    edited = plain.edited(THREE.move(0, 2), 2)
    assert edited.state is BannerState.CANDIDATE
    assert edited.changes == 1, "a drag is one change"
    assert edited.slot == 2
    assert edited.unsaved == plain.runnings
    assert edited.surveyed_as([running(1, THREE, 51)]).state is BannerState.STALE


def test_an_edit_that_is_undone_leaves_no_candidate() -> None:
    plain = session(running(1, THREE, 50))
    edited = plain.edited(THREE.retune(0, actions=ActionSet.parse("D"))).edited(THREE)
    assert edited.changes == 0
    assert edited.state is BannerState.RUNNING
    assert edited.undone().changes == 1
    assert edited.undone().undone().changes == 0
    assert edited.undone().undone().redone().changes == 1
    assert edited.dropped().edit is None
    assert not edited.dropped().may_redo, "it changed nothing"


def test_a_discarded_candidate_comes_back_until_another_one_begins() -> None:
    edited = session(running(1, THREE, 50), running(2, THREE, 60)).edited(THREE.remove([0])).undone()
    edited = edited.edited(THREE.move(0, 2)).edited(THREE.move(0, 1))
    dropped = edited.dropped()
    assert (dropped.changes, dropped.may_redo, dropped.select(2).may_redo) == (0, True, False)
    assert dropped.redone().edit == edited.edit
    assert not dropped.redone().dropped().edited(THREE.remove([1])).dropped().discarded.keys() - {1}
    assert not dropped.edited(THREE.remove([1])).may_redo
    beneath = dropped.surveyed_as([running(1, THREE, 51), running(2, THREE, 60)])
    assert beneath.redone().state is BannerState.STALE
    assert not dropped.surveyed_as([running(2, THREE, 60)]).discarded


def test_whether_changes_wait_holds_for_all_interfaces_and_ones_own_wait_longest() -> None:
    plain = session(running(1, THREE, 50), running(2, THREE, 60))
    assert (plain.confirm_on(1), plain.confirm_on(1, usual=True)) == (None, CONFIRM_SECONDS)
    on = replace(plain, waits=True)
    assert on.confirm == on.select(2).confirm == CONFIRM_SECONDS
    off = replace(on, waits=False, confirm_seconds=30.0, own=frozenset({2}))
    assert (off.confirm_on(1, usual=True), off.confirm_on(2), off.confirm_on(1, 2)) == (None, 30.0, 30.0)
    assert replace(off, own_waits=False).confirm_on(1, 2) is None


def test_each_interface_has_its_own_candidate() -> None:
    both = session(running(1, THREE, 50), running(2, THREE, 60)).edited(THREE.remove([0]))
    other = both.select(2)
    assert other.changes == 0
    assert other.select(1).changes == 1
    assert other.select(1).removed == (THREE.slots[0],)


def test_a_candidate_goes_with_its_interface() -> None:
    both = session(running(1, THREE, 50), running(2, THREE, 60)).edited(THREE.remove([0]))
    left = both.surveyed_as([running(2, THREE, 60)])
    assert left.selected == 2
    assert not left.edits


def test_a_candidate_survives_a_survey_that_finds_the_same() -> None:
    edited = session(running(1, THREE, 50)).edited(THREE.remove([0]))
    again = edited.surveyed_as([running(1, THREE, 50)])
    assert again.changes == 1
    assert not again.stale


def test_the_cursor_stays_inside_the_chain() -> None:
    at_end = session(running(1, THREE, 50)).at_slot(99)
    assert at_end.slot == 2
    assert at_end.edited(THREE.remove([1, 2])).slot == 0
    assert at_end.edited(THREE.remove([0, 1, 2])).current is None


def test_applying_ends_the_candidate() -> None:
    edited = session(running(1, THREE, 50)).edited(THREE.remove([0]))
    done = edited.applied(running(1, THREE.remove([0]), 51))
    assert done.state is BannerState.RUNNING
    assert done.chain == THREE.remove([0])


def test_rebase_makes_the_same_edits_on_what_runs_now() -> None:
    mine = THREE.retune(0, actions=ActionSet.parse("PD")).remove([2])
    theirs = THREE.retune(1, actions=ActionSet.parse("PT"))
    stale = session(running(1, THREE, 50)).edited(mine).surveyed_as([running(1, theirs, 51)])
    rebased, lost = stale.rebased()
    assert not lost
    assert not rebased.stale
    assert [(s.name, str(s.actions)) for s in rebased.chain] == [
        ("a", "XDP_DROP,XDP_PASS"),
        ("b", "XDP_PASS,XDP_TX"),
    ]
    assert rebased.undone().chain == theirs


def test_rebase_carries_labels_and_keeps_maps() -> None:
    base = THREE.label(0, {"team": "edge", "tier": "1"})
    mine = base.label(0, {"team": "core", "tier": ""}).remove([2])
    theirs = base.label(0, {"site": "b"})
    stale = (
        session(running(1, base, 50)).edited(mine).keeping_maps(True).surveyed_as([running(1, theirs, 51)])
    )
    rebased, lost = stale.rebased()
    assert not lost
    assert rebased.chain.slots[0].labels == (("site", "b"), ("team", "core"))
    assert rebased.keeps_maps
    assert not rebased.undone().keeps_maps, "nothing leaves"
    many = base.label(0, {f"k{i}": "x" for i in range(14)})
    chain, lost = rebase(base, base.label(0, {"one-more": "x"}), many)
    assert chain == many
    assert lost == ("the labels of a: a slot can't have 17 labels",)


def test_rebase_says_what_it_lost() -> None:
    mine = THREE.retune(0, priority=25)
    chain, lost = rebase(THREE, mine, THREE.remove([0]))
    assert [s.name for s in chain] == ["b", "c"]
    assert lost == ("a is no longer in the chain",)
    for linkage in Linkage:
        full = Chain(tuple(slot(f"x{i}", i) for i in range(linkage.facts.most_slots)), linkage)
        chain, lost = rebase(Chain(linkage=linkage), Chain((slot("new", 1),), linkage), full)
        assert chain.slots == full.slots
        assert lost == ("new could not be added: the chain is full",)


def test_rebase_carries_moves_additions_and_the_counters_flag() -> None:
    mine = replace(THREE.move(2, 0).add(slot("n", 15)), counters=False)
    theirs = THREE.add(slot("m", 40))
    chain, lost = rebase(THREE, mine, theirs)
    assert not lost
    assert not chain.counters
    assert [s.name for s in chain] == ["c", "a", "n", "b", "m"]


def moved(old: Chain, new: Chain) -> frozenset[str]:
    return frozenset(change.key for change in changes_between(old, new) if change.kind is ChangeKind.MOVE)


def test_marks() -> None:
    candidate = THREE.move(0, 2).remove([0]).add(slot("n", 5))
    assert removed(THREE, candidate) == (THREE.slots[1],)
    assert moved(THREE, THREE) == frozenset()
    for source in range(3):
        for target in range(3):
            key = THREE.slots[source].key
            assert moved(THREE, THREE.move(source, target)) == (
                frozenset({key}) if source != target else frozenset()
            )
    assert count(THREE, candidate) == 3
    assert count(THREE, THREE) == 0
    assert count(None, THREE) == 3
    assert count(THREE, replace(THREE, counters=False)) == 1
    base = THREE.slots[0]
    assert symbols(None, THREE)[base.key] == "+"
    assert base.key not in symbols(THREE, THREE)
    assert symbols(THREE, THREE.move(0, 2))[base.key] == "↕"
    other_object = replace(base, component=Component("z"))
    assert symbols(THREE, replace(THREE, slots=(*THREE.slots[1:], other_object)))[base.key] == "≠"
    retuned = replace(base, config=RunConfig(11, base.actions))
    assert symbols(THREE, replace(THREE, slots=(retuned, *THREE.slots[1:])))[base.key] == "~"
    assert symbols(THREE, candidate)[THREE.slots[1].key] == "-"
    other = replace(base, config=RunConfig(10, ActionSet.of(Action.DROP)))
    assert list(toggled(base, other)) == [Action.DROP, Action.PASS]
    assert not toggled(None, other)


def test_filter_looks_at_names_owners_modes_and_programs() -> None:
    three = session(
        running(1, name="lo"), running(2, THREE, 5, name="wan0"), running(3, None, 6, name="lan0")
    )

    def names(needle: str) -> list[str]:
        return [r.interface.name for r in replace(three, needle=needle).visible]

    assert names("") == ["lo", "wan0", "lan0"]
    assert names("AN0") == ["wan0", "lan0"]
    assert names("foreign") == ["lan0"]
    assert names("xdptui native") == ["wan0"]
    assert names("free") == ["lo"]
    assert names("nothing") == []


def test_sort() -> None:
    three = session(
        running(1, name="lo"), running(2, THREE, 5, name="wan0"), running(3, None, 6, name="lan0")
    )

    def names(order: Order) -> list[str]:
        return [r.interface.name for r in replace(three, order=order, traffic={3: 9.0, 2: 1.0}).visible]

    assert names(Order.INDEX) == ["lo", "wan0", "lan0"]
    assert names(Order.NAME) == ["lan0", "lo", "wan0"]
    assert names(Order.OWNER)[0] == "lan0"
    assert names(Order.TRAFFIC) == ["lan0", "wan0", "lo"]
