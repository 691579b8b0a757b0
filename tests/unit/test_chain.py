# SPDX-License-Identifier: Apache-2.0
"""Edits of chains: pure, and always sorted as libxdp would."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpchain.errors import InvalidInput, NotFound
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import MAX_SLOTS, Chain
from xdpchain.model.component import Component
from xdpchain.model.runconfig import MAX_PRIORITY, RunConfig
from xdpchain.model.slot import Slot, order_key


def slot(name: str, priority: int = 50, number: int | None = None) -> Slot:
    return Slot(Component(name, id=number), RunConfig(priority))


def names(chain: Chain) -> str:
    return "".join(s.name for s in chain)


def is_sorted(chain: Chain) -> bool:
    keys = [order_key(s) for s in chain]
    return all(a < b for a, b in pairwise(keys)) or keys == sorted(keys)


def test_add_sorts_by_priority_then_name() -> None:
    chain = Chain().add(slot("b")).add(slot("a")).add(slot("z", 10)).add(slot("c", 60))
    assert names(chain) == "zabc"


def test_loaded_before_not_loaded_when_all_else_is_equal() -> None:
    fresh, running = slot("a"), slot("a", number=7)
    assert [s.id for s in Chain().add(fresh).add(running)] == [7, None]


def test_add_at_a_place_gives_a_priority_that_sorts_it_there() -> None:
    chain = Chain().add(slot("a", 10)).add(slot("b", 20))
    assert [(s.name, s.priority) for s in chain.add(slot("z"), at=1)] == [("a", 10), ("z", 15), ("b", 20)]
    assert [(s.name, s.priority) for s in chain.add(slot("z"), at=0)] == [("z", 0), ("a", 10), ("b", 20)]
    assert [(s.name, s.priority) for s in chain.add(slot("z"), at=2)] == [("a", 10), ("b", 20), ("z", 50)]
    with pytest.raises(NotFound):
        chain.add(slot("z"), at=3)


@pytest.mark.parametrize(("before", "after"), [((10, 20, 30), (10, 15, 20)), ((10, 11, 12), (10, 11, 12))])
def test_a_move_changes_the_moved_slot_and_without_room_those_behind(
    before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    a, b, c = map(slot, "abc", before)
    moved = Chain().add(a).add(b).add(c).move(2, 1)
    assert [(s.name, s.priority) for s in moved] == list(zip("acb", after, strict=True))


def test_substitute_keeps_the_place_and_the_key() -> None:
    chain = Chain().add(slot("a")).add(slot("b")).add(slot("c"))
    changed = chain.substitute(1, Component("z"))
    assert names(changed) == "azc"
    assert changed.slots[1].key == chain.slots[1].key
    assert is_sorted(changed)


def test_one_slot_too_many_is_refused() -> None:
    chain = Chain(tuple(slot(f"s{i}") for i in range(MAX_SLOTS)))
    with pytest.raises(InvalidInput, match=f"{MAX_SLOTS + 1} slots"):
        chain.add(slot("one too many"))


@pytest.mark.parametrize("index", [-1, 3])
def test_slots_that_are_not_there(index: int) -> None:
    chain = Chain().add(slot("a")).add(slot("b")).add(slot("c"))
    for edit in (
        lambda: chain.remove([index]),
        lambda: chain.move(index, 0),
        lambda: chain.move(0, index),
        lambda: chain.retune(index, priority=1),
        lambda: chain.substitute(index, Component("z")),
    ):
        with pytest.raises(NotFound, match="slots 0 to 2"):
            edit()


NAMES = st.sampled_from(["a", "b", "bb", "ä"])
SLOTS = st.builds(
    slot, NAMES, st.integers(0, 6) | st.integers(0, MAX_PRIORITY - 100), st.none() | st.integers(1, 9)
)


@given(st.lists(SLOTS, min_size=2, max_size=MAX_SLOTS), st.data())
def test_any_sequence_of_moves_stays_in_libxdps_order(slots: list[Slot], data: st.DataObject) -> None:
    chain = Chain()
    for one in slots:
        chain = chain.add(one)
    for _ in range(4):
        source = data.draw(st.integers(0, len(chain) - 1))
        target = data.draw(st.integers(0, len(chain) - 1))
        order = [s.key for s in chain]
        order.insert(target, order.pop(source))
        chain = chain.move(source, target)
        assert [s.key for s in chain] == order
        assert is_sorted(chain)
        # An ordered chain stays so when sorted afresh, as libxdp does at every change.
        assert sorted(chain.slots, key=order_key) == list(chain.slots)


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("XDP_PASS,XDP_DROP", (Action.DROP, Action.PASS)),
        ("pass drop", (Action.DROP, Action.PASS)),
        ("PD", (Action.DROP, Action.PASS)),
        ("ADPTR", tuple(Action)),
        ("none", ()),
        ("", ()),
        ("XDP_TX", (Action.TX,)),
    ],
)
def test_actions_are_read_in_every_spelling(text: str, actions: tuple[Action, ...]) -> None:
    assert tuple(ActionSet.parse(text)) == actions
    assert ActionSet.parse(str(ActionSet.of(*actions))) == ActionSet.of(*actions)


@pytest.mark.parametrize("text", ["XDP_NOPE", "passs", "PX", "31"])
def test_no_actions(text: str) -> None:
    with pytest.raises(InvalidInput):
        ActionSet.parse(text)


@pytest.mark.parametrize("priority", [-1, MAX_PRIORITY + 1])
def test_no_priorities(priority: int) -> None:
    with pytest.raises(InvalidInput):
        RunConfig(priority)
