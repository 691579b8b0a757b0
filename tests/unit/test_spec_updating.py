# SPDX-License-Identifier: Apache-2.0
"""Updating entries of a hand-written spec: the rest stays as it is, and so do comments."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_spec_toml import interfaces, loadable
from xdpchain.errors import InvalidInput
from xdpchain.model.actions import ActionSet
from xdpchain.model.interface import WantedMode
from xdpchain.spec.reading import parse
from xdpchain.spec.updating import updated
from xdpchain.spec.values import InterfaceSpec, SlotSpec, Spec
from xdpchain.spec.writing import dump

A, B = "a" * 64, "b" * 64

HAND = f"""\
# The machines in the rack.
format = 1

# The way out.
[[interface]]
name = "eth0"       # 10 Gbit/s
mode = "native"

# Made by the network team.
[[interface.slot]]
object = "fw.o"     # relative
sha256 = "{A}"
program = "filter"
priority = 10       # first

# Only to look.
[[interface.slot]]
object = "/lib/mon.o"
sha256 = "{B}"
program = "monitor"

# Nobody needs these.
[[interface]]
name = ["lan1", "lan2"]
slot = []
# The end.
"""

FILTER = SlotSpec("/srv/fw.o", A, "filter", priority=10)
MONITOR = SlotSpec("/lib/mon.o", B, "monitor")


def entry(*slots: SlotSpec, name: str = "eth0") -> InterfaceSpec:
    return InterfaceSpec((name,), slots)


def changed(*entries: InterfaceSpec, text: str = HAND) -> list[str]:
    """The lines that an update removes and adds, with - and +."""
    after = updated(text, [(one, {}) for one in entries]).split("\n")
    before = text.split("\n")
    gone = [f"-{line}" for line in before if line.strip() and line not in after]
    return gone + [f"+{line}" for line in after if line.strip() and line not in before]


def test_what_is_the_same_is_left_as_it_is_written() -> None:
    assert updated(HAND, [(entry(FILTER, MONITOR), {})]) == HAND
    assert updated(HAND, [(entry(name="lan2"), {})]) == HAND


def test_a_key_changes_and_its_comment_stays() -> None:
    retuned = replace(FILTER, priority=20, actions=ActionSet.parse("PD"))
    assert changed(entry(retuned, MONITOR)) == [
        "-priority = 10       # first",
        "+priority = 20       # first",
        '+actions = ["XDP_DROP", "XDP_PASS"]',
    ]


def test_a_slot_goes_with_the_comment_above_it() -> None:
    after = updated(HAND, [(entry(MONITOR), {})])
    assert "network team" not in after
    assert "Only to look" in after
    assert "The way out" in after
    assert parse(after).interfaces[0].slots == (MONITOR,)


def test_a_slot_comes_and_the_order_is_that_of_the_chain() -> None:
    first = SlotSpec("/lib/first.o", "c" * 64, "first", priority=1)
    after = updated(HAND, [(entry(first, MONITOR, FILTER), {0: "a note"})])
    slots = parse(after).interfaces[0].slots
    assert [slot.program for slot in slots] == ["first", "monitor", "filter"]
    assert slots[2].object == "fw.o", "the same file, as it was written"
    assert after.index("Only to look") < after.index("Made by the network team") < after.index("fw.o")
    assert "# a note" in after


def test_nothing_and_something() -> None:
    nothing = updated(HAND, [(entry(), {})])
    assert parse(nothing).interfaces[0].slots == ()
    assert "# 10 Gbit/s" in nothing
    assert parse(updated(nothing, [(entry(FILTER), {})])).interfaces[0].slots == (FILTER,)


def test_one_of_several_gets_an_entry_of_its_own() -> None:
    after = parse(updated(HAND, [(entry(FILTER, name="lan1"), {})]))
    assert [interface.names for interface in after.interfaces] == [("eth0",), ("lan2",), ("lan1",)]
    assert after.interfaces[2].slots == (FILTER,)


def test_an_interface_in_another_namespace_is_another_one() -> None:
    after = parse(updated(HAND, [(replace(entry(FILTER), netns="blue"), {})]))
    assert [(interface.names, interface.netns) for interface in after.interfaces][-1] == (("eth0",), "blue")
    assert after.interfaces[:2] == parse(HAND).interfaces


INLINE = '[[interface]]\nname = "eth0"\nslot = [{ object = "a.o" }]\n'
DOTTED = 'interface = [{ name = "eth0", slot = [] }]\n'


@pytest.mark.parametrize("text", [INLINE, DOTTED, "= =", "frob = 1\n"])
def test_what_can_not_be_changed_piece_by_piece_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        updated(text, [(entry(FILTER), {})])


@settings(deadline=None, max_examples=25)
@given(
    st.builds(Spec, st.lists(interfaces, max_size=2).map(tuple)),
    st.lists(loadable, max_size=2),
    st.integers(0, 3),
    st.booleans(),
)
def test_the_entry_is_what_was_asked_for_and_no_other_changes(
    spec: Spec, slots: list[SlotSpec], which: int, counters: bool
) -> None:
    names = [(name, interface.netns) for interface in spec.interfaces for name in interface.names]
    if len(set(names)) < len(names):
        return
    name, netns = names[which % len(names)] if names and which < 3 else ("new0", None)
    new = InterfaceSpec((name,), tuple(slots), netns, counters=counters)
    after = parse(updated(dump(spec), [(new, {})]))
    mine = [
        interface for interface in after.interfaces if name in interface.names and interface.netns == netns
    ]
    (found,) = mine
    paths = {
        slot.sha256: slot.object for interface in spec.interfaces for slot in interface.slots if slot.sha256
    }
    old = [
        interface.mode
        for interface in spec.interfaces
        if name in interface.names and interface.netns == netns
    ]
    assert found.mode in (new.mode, *old)  # what runs does not tell which was requested
    # Map entries that were not written anew stay as they were.
    assert len(found.slots) == len(slots)
    kept = tuple(
        slot_spec if slot.entries else replace(slot_spec, entries=())
        for slot_spec, slot in zip(found.slots, slots, strict=True)
    )
    assert replace(found, names=(name,), slots=kept, mode=new.mode) in (new, replace(new, slots=tuple(
        replace(slot, object=paths.get(slot.sha256, slot.object)) if slot.sha256 else slot for slot in slots
    )))  # fmt: skip
    others = [interface for interface in after.interfaces if interface is not found]
    was = [
        interface
        for interface in spec.interfaces
        if (name, netns) not in [(n, interface.netns) for n in interface.names]
    ]
    assert [other for other in others if other in was] == was


def test_the_best_mode_stays_asked_for() -> None:
    text = HAND.replace('"native"', '"best"')
    native = replace(entry(FILTER, MONITOR), mode=WantedMode.NATIVE)
    assert updated(text, [(native, {})]) == text
