# SPDX-License-Identifier: Apache-2.0
"""Plans and the journal, for reading."""

from __future__ import annotations

from xdpchain.change.differences import Change, ChangeKind, changes_between
from xdpchain.change.moment import Moment
from xdpchain.model.chain import Chain
from xdpchain.model.component import Component
from xdpchain.model.runconfig import RunConfig
from xdpchain.model.slot import Slot
from xdptui.words.history_words import became
from xdptui.words.plan_words import grouped


def slot(name: str, key: str) -> Slot:
    return Slot(Component(name, declared=RunConfig(50)), RunConfig(50), key=key)


def test_copies_of_a_program_are_one_line() -> None:
    copies = [slot("xdp_pass", f"copy{i}") for i in range(8)]
    changes = changes_between(None, Chain((slot("firewall", "f"), *copies)))
    assert len(changes) == 9
    first, rest = grouped(changes)
    assert first == changes[0]
    assert (rest.kind, rest.name) == (ChangeKind.ADD, "8 × xdp_pass")
    assert rest.text.startswith("slots 1 to 8, priority 50, continues on ")


def test_what_differs_stays_apart() -> None:
    changes = (
        Change(ChangeKind.ADD, "a", "slot 0, priority 50"),
        Change(ChangeKind.ADD, "a", "slot 1, priority 60"),
        Change(ChangeKind.REMOVE, "a", "slot 1, priority 60"),
        Change(ChangeKind.MOVE, "b", "slot 1 → slot 2", "b1"),
        Change(ChangeKind.MOVE, "b", "slot 1 → slot 2", "b2"),
    )
    assert grouped(changes) == changes


def test_a_program_that_stays_is_said_once() -> None:
    here, there = Moment(7, "boot"), Moment(8, "boot")
    assert became(here, here) == "program 7 stays"
    assert became(here, there) == "program 7 → program 8"
    assert became(Moment(None, ""), here) == "nothing → program 7"
