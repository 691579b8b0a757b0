# SPDX-License-Identifier: Apache-2.0
"""What a journal says about the past, for every order of events."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from xdpchain.change.journal import store
from xdpchain.change.journal.entries import (
    EntryKind,
    Heading,
    JournalEntry,
    past,
    past_with_changes,
    undone_by,
)
from xdpchain.change.moment import Moment
from xdpchain.errors import InvalidInput, NotFound
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component, MapRef, ObjectRef
from xdpchain.model.interface import Mode
from xdpchain.model.manifest import Author
from xdpchain.model.pending_change import ConfirmOutcome, Outcome, PendingChange, Pins
from xdpchain.model.slot import Slot
from xdpchain.sys import netns
from xdptui.view.history_lines import entry_lines, summary, undone_words

ME = Author("root", 7, "xdptui load eth0", 1.5)
BOOT = "boot-1"
EMPTY = Moment(None, BOOT)


def at(program: int, boot: str = BOOT) -> Moment:
    return Moment(program, boot, Chain())


def change(before: Moment, after: Moment, seconds: float | None = None) -> JournalEntry:
    return JournalEntry(EntryKind.CHANGE, ME, before, after, seconds=seconds)


def back(before: Moment, after: Moment) -> JournalEntry:
    return JournalEntry(EntryKind.ROLLBACK, ME, before, after)


def undo(before: Moment, after: Moment, to: Moment) -> JournalEntry:
    return JournalEntry(EntryKind.UNDO, ME, before, after, restores=to)


def programs(*entries: JournalEntry) -> list[int | None]:
    return [moment.program for moment in past(entries)]


CASES = {
    "nothing": ([], []),
    "one change": ([change(EMPTY, at(1))], [None, 1]),
    "two": ([change(EMPTY, at(1)), change(at(1), at(2))], [None, 1, 2]),
    "another tool between": ([change(EMPTY, at(1)), change(at(9), at(2))], [None, 1, 9, 2]),
    "rolled back": ([change(EMPTY, at(1)), change(at(1), at(2), 60), back(at(2), at(1))], [None, 1]),
    "rolled back to nothing": ([change(EMPTY, at(1), 60), back(at(1), EMPTY)], [None]),
    "rolled back, not in the journal": (
        [change(EMPTY, at(1)), change(at(1), at(2), 60), change(at(1), at(3))],
        [None, 1, 3],
    ),
    "rolled back to nothing, not in the journal": (
        [change(EMPTY, at(1), 60), change(EMPTY, at(2))],
        [None, 2],
    ),
    "taken off by another tool": ([change(EMPTY, at(1)), change(EMPTY, at(2))], [None, 1, None, 2]),
    "undone": ([change(EMPTY, at(1)), change(at(1), at(2)), undo(at(2), at(3), at(1))], [None, 3]),
    "undone twice": (
        [
            change(EMPTY, at(1)),
            change(at(1), at(2)),
            undo(at(2), at(3), at(1)),
            undo(at(3), EMPTY, EMPTY),
        ],
        [None],
    ),
    "another tool's change undone": ([change(EMPTY, at(1)), undo(at(9), at(2), at(1))], [None, 2]),
    "an undo rolled back": (
        [
            change(EMPTY, at(1)),
            change(at(1), at(2)),
            replace(undo(at(2), at(3), at(1)), seconds=60),
            back(at(3), at(2)),
        ],
        [None, 3, 2],
    ),
    "confirmed": (
        [change(EMPTY, at(1), 60), JournalEntry(EntryKind.CONFIRM, ME, at(1), at(1)), change(at(1), at(2))],
        [None, 1, 2],
    ),
    "after a reboot": ([change(EMPTY, at(1)), change(EMPTY, at(1, "boot-2"))], [None, 1, None, 1]),
}


@pytest.mark.parametrize(("entries", "expected"), CASES.values(), ids=CASES)
def test_the_past(entries: list[JournalEntry], expected: list[int | None]) -> None:
    assert programs(*entries) == expected


def test_an_undo_of_an_undo_is_of_the_change_before() -> None:
    first, second, third = change(EMPTY, at(1)), change(at(1), at(2)), change(at(2), at(3))
    once = undo(at(3), at(4), at(2))
    assert past_with_changes([first, second, third, once])[-1] == (at(4), second)
    twice = undo(at(4), at(5), at(1))
    assert past_with_changes([first, second, third, once, twice])[-1] == (at(5), first)


def test_an_undo_names_the_changes_that_it_took_back() -> None:
    made = [change(EMPTY, at(1)), change(at(1), at(2)), change(at(2), at(3)), undo(at(3), at(4), at(1))]
    made += [undo(at(4), EMPTY, EMPTY)]
    made = [replace(entry, number=number) for number, entry in enumerate(made, 1)]
    taken = [[entry.number for entry in undone_by(made, entry)] for entry in made]
    assert taken == [[], [], [], [2, 3], [1]]
    assert [undone_words(undone_by(made, entry)) for entry in made] == ["", "", "", "#2 to #3", "#1"]
    assert entry_lines(made[4], undone_by(made, made[4]))[0].startswith("undone #1 ")
    assert undone_by(made[2:4], made[3]) == (), "the journal is too short to know"


def test_several_changes_begin_with_the_first() -> None:
    entry = replace(change(EMPTY, at(1)), changes=("+ xdp_a slot 0", "+ xdp_b slot 1", "* linkage"))
    assert summary(entry) == "3 changes: + xdp_a slot 0, …"


def a_chain() -> Chain:
    source = ObjectRef("a" * 64, 12, "/usr/lib/bpf/a.o", 4)
    component = Component("xdp_a", source, "xdp", maps=(MapRef("counts", 8),), id=3, tag="t", unit_map=5)
    return Chain((Slot.of(component, 7),), Linkage.FREPLACE, Mode.GENERIC, False, 2)


def test_an_entry_is_read_as_it_was_written() -> None:
    entry = JournalEntry(
        EntryKind.UNDO,
        ME,
        Moment(4, BOOT, a_chain()),
        EMPTY,
        ("- xdp_a slot 0",),
        60.0,
        Moment(None, "boot-0"),
    )
    assert JournalEntry.decode(entry.encode(), 0) == entry
    for one in (entry, replace(entry, device=(1 << 40, 3), before=at(1), after=at(2))):
        assert Heading.decode(one.encode()) == Heading.of(one)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"{}", b'{"format": 9}', b'"text"', b"\xff\xfe", b'{"format": 1, "kind": "change"}'],
)
def test_what_is_no_entry_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        JournalEntry.decode(data, 1)


def test_what_waits_and_what_became_of_it_are_read_as_written() -> None:
    pending = PendingChange(
        "eth0", 2, 99, Mode.NATIVE, None, 8, 12.5, 60.0, ME, 44, 5, Pins(True, (3, 4)), Pins()
    )
    assert PendingChange.decode(pending.encode() + b"\0\0") == pending
    assert pending.seconds_left(10.0) == 2.5
    assert pending.seconds_left(100.0) == 0
    settled = ConfirmOutcome(Outcome.ROLLED_BACK, 1.0, None, None, 8, ME, "words")
    assert ConfirmOutcome.decode(settled.encode()) == settled
    assert settled.text == "the change was rolled back (words); no program runs"
    for data in (b"", b"[]", b'{"format": 2}', json.dumps({"format": 1}).encode()):
        for kind in (PendingChange, ConfirmOutcome):
            with pytest.raises(InvalidInput):
                kind.decode(data)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(store.STATE, str(tmp_path))
    return tmp_path


def test_entries_are_counted_and_the_oldest_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_ENTRIES", 2)
    place = folder / "interfaces" / "host" / "eth0"
    for program in (1, 2, 3):
        store.append(place, change(EMPTY, at(program)))
    assert [(entry.number, entry.after.program) for entry in store.entries(place)] == [(2, 2), (3, 3)]


def test_interfaces_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_INTERFACES", 2)
    for name in ("eth0", "eth1", "eth2"):
        assert store.append(folder / "interfaces" / "host" / name, change(EMPTY, at(1)))
    store.drop_interfaces()
    assert len(list((folder / "interfaces" / "host").iterdir())) == 2


def test_namespaces_that_are_gone_make_room_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_INTERFACES", 2)
    monkeypatch.setattr(netns, "RUN_DIR", folder / "names")
    (folder / "names").mkdir()
    (folder / "names" / "a b").touch()
    older = [folder / "interfaces" / place / "eth0" for place in ("host", "netns-a%20b")]
    gone = folder / "interfaces" / "netns-gone" / "eth0"
    for place in (*older, gone):
        store.append(place, change(EMPTY, at(1)))
    assert store.drop_interfaces() == {gone}
    assert not gone.parent.exists()
    assert all(place.exists() for place in older)


def test_an_object_is_what_its_hash_says(folder: Path) -> None:
    data = b"some object file"
    sha256 = hashlib.sha256(data).hexdigest()
    assert not store.has_object(sha256)
    store.keep_object(sha256, data)
    assert store.has_object(sha256)
    assert store.object_data(sha256) == data
    (folder / "objects" / sha256).write_bytes(b"another")
    for name in (sha256, "0" * 64, "../../etc/passwd", ""):
        with pytest.raises(NotFound):
            store.object_data(name)
