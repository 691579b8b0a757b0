# SPDX-License-Identifier: Apache-2.0
"""A what-if as text: what may hurt comes first, and 80 columns are enough."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xdpchain.model.actions import Action
from xdpchain.model.interface import Interface
from xdpchain.trial.packets.packet import Packet
from xdpchain.trial.packets.rewriting import Rewriting
from xdpchain.trial.whatif import Crossing, Outcome, Side, WhatIf
from xdptui.render import documents
from xdptui.render.whatif_text import whatif_text
from xdptui.view.whatif_lines import detail_lines, whatif_cells
from xdptui.words.whatif_words import bytes_text, letters, mark, rewriting_text, summary

PASS, DROP, TX, REDIRECT, ABORTED = Action.PASS, Action.DROP, Action.TX, Action.REDIRECT, Action.ABORTED
DATA = bytes(range(60))
WHERE = Interface("eth0", 2)


def crossing(
    name: str, old: Action | int | None, new: Action | int | None, data: bytes = DATA, *, own: bool = False
) -> Crossing:
    sides = (
        Outcome((one,), one, out, "") if one is not None else Outcome(why="it can't be")
        for one, out in ((old, DATA), (new, data))
    )
    return Crossing(Packet(name, DATA, own), *sides)


SAME = crossing("same", PASS, PASS)
DROPPED = crossing("dropped", PASS, DROP)
WRITTEN = crossing("written", PASS, PASS, b"\xff\xff" + DATA[2:])
BLANK = crossing("blank", PASS, None)
OWN = crossing("own", PASS, DROP, own=True)
TRIED = WhatIf(WHERE, Side(("a",)), Side(("b",)), (SAME, BLANK, WRITTEN, DROPPED, OWN), ("the rest",))


def test_summary() -> None:
    assert (
        summary(TRIED) == "5 packets: 2 PASS → DROP, 1 PASS, rewritten differently, 1 as before, 1 not known"
    )
    assert summary(replace(TRIED, crossings=(SAME,))) == "1 packet: 1 as before"
    assert summary(replace(TRIED, crossings=())) == "0 packets: nothing to try"


def test_the_table() -> None:
    lines = whatif_text(TRIED, ("a remark",)).splitlines()
    assert [line[:9].rstrip() for line in lines if line[:1] in "!~?"] == [
        "! own",
        "! dropped",
        "~ written",
        "? blank",
    ]
    assert next(line for line in lines if line[0] == "!").split() == [
        "!",
        "own",
        "60",
        "P",
        "D",
        "PASS",
        "→",
        "DROP",
    ]
    assert "    new: 2 bytes changed at 0-1" in lines
    assert "    new: it can't be" in lines
    assert lines[-4:] == ["  old: 0 a", "  new: 0 b", "  not known: the rest", "  note: a remark"]


def test_a_side_that_was_not_tried_says_so_once() -> None:
    tried = replace(
        TRIED, new=Side(("b",), why="it can't be"), crossings=(BLANK, BLANK), unknown=("it can't be",)
    )
    assert whatif_text(tried).count("it can't be") == 1


def test_eighty_columns_for_the_widest_there_is() -> None:
    ten = Side(tuple(f"a_component_with_a_long_name_{i}" for i in range(10)), frozenset((1,)))
    outcome = Outcome((REDIRECT,) * 10, REDIRECT, DATA * 30)
    wide = Crossing(
        Packet("a name that is much longer than there is room for it", DATA * 30), outcome, outcome
    )
    wide = replace(wide, new=replace(outcome, verdict=ABORTED))
    tried = WhatIf(WHERE, ten, ten, (wide,) * 41, ("word " * 50,))
    lines = whatif_text(tried).splitlines()
    assert max(map(len, lines)) <= 80
    assert any("REDIRECT → ABORTED" in line and "RrRRRRRRRR" in line for line in lines)
    assert "  … and 1 more, 1 of them with a change" in lines
    row = "".join(text for text, _ in whatif_cells(wide, tried, 76))
    assert len(row) <= 76


LONG = Side(tuple(f"s{i}" for i in range(32)), frozenset((3,)))


@pytest.mark.parametrize(
    ("codes", "shown"),
    [
        ((PASS,) * 32, "PPP p P×28"),
        ((PASS,) * 20 + (DROP,) + (None,) * 11, "PPP p P×16 D ·×11"),
        ((PASS, DROP) * 16, "PDPd" + "PD" * 14),
    ],
)
def test_long_chains_count_runs_of_letters(codes: tuple[Action | None, ...], shown: str) -> None:
    outcome = Outcome(codes, PASS, DATA)
    assert letters(outcome, LONG) == shown
    wide = Crossing(Packet("a name that is much longer than there is room for it", DATA), outcome, outcome)
    wide = replace(wide, new=replace(outcome, verdict=ABORTED))
    tried = WhatIf(WHERE, LONG, LONG, (wide,), ())
    assert max(map(len, whatif_text(tried).splitlines())) <= 80
    assert len("".join(text for text, _ in whatif_cells(wide, tried, 76))) <= 76


def test_names_steer_no_terminal() -> None:
    evil = replace(DROPPED, packet=Packet("\x1b[2J", DATA))
    tried = replace(TRIED, crossings=(evil,), old=Side(("\x1b[31m",)))
    assert "\x1b" not in whatif_text(tried)
    for line in (whatif_cells(evil, tried, 80), *detail_lines(evil, tried)):
        assert not any("\x1b" in text for text, _ in line)


@pytest.mark.parametrize(
    ("rewriting", "words"),
    [
        (Rewriting(), "unchanged"),
        (Rewriting(((3, 3),)), "1 byte changed at 3"),
        (Rewriting(head=4), "4 bytes added at its head"),
        (Rewriting(head=-14), "14 bytes removed from its head"),
        (Rewriting(((0, 1), (8, 8)), tail=1), "1 byte added at its end; 3 bytes changed at 0-1, 8"),
        (Rewriting(tuple((i, i) for i in range(0, 12, 2))), "6 bytes changed at 0, 2, 4, 6, …"),
    ],
)
def test_rewriting(rewriting: Rewriting, words: str) -> None:
    assert rewriting_text(rewriting) == words


def test_marks_and_letters() -> None:
    assert [mark(one) for one in (SAME, DROPPED, WRITTEN, BLANK)] == [" ", "!", "~", "?"]
    assert mark(crossing("both", DROP, DROP, b"other")) == " ", (
        "what becomes of a dropped packet is nobody's concern"
    )
    side = Side(("a", "b", "c"), frozenset((1,)))
    assert letters(Outcome((PASS, DROP, None), PASS), side) == "Pd·"
    assert letters(Outcome((5,), 9), Side(("a",))) == "?"
    assert letters(Outcome((), PASS), Side(empty=True)) == "-"
    assert bytes_text(SAME) == []


def test_a_packet_in_detail() -> None:
    lines = ["".join(text for text, _ in line) for line in detail_lines(WRITTEN, TRIED)]
    assert lines[1:3] == ["old  0 a PASS = PASS", "new  0 b PASS = PASS"]
    assert lines[-2] == "in   0000  " + " ".join(f"{b:02x}" for b in range(16))
    assert lines[-1] == "out  0000  ff ff" + " ··" * 14
    gone = ["".join(text for text, _ in line) for line in detail_lines(BLANK, TRIED)]
    assert gone[-1] == "new  it can't be"


def test_json() -> None:
    found = documents.what_if(TRIED, ("a remark",))
    assert [packet["differs"] for packet in found["packets"]] == [False, None, True, True, True]
    assert found["packets"][1]["new"] == {
        "verdict": None, "slots": [], "sites": [], "length": 0, "changed": [], "head": 0, "tail": 0,
        "why": "it can't be",
    }  # fmt: skip
    assert found["packets"][2]["new"]["changed"] == [[0, 1]]
    assert found["notes"] == ["a remark"]
    odd = documents.what_if(replace(TRIED, crossings=(crossing("odd", 9, TX),)), ())
    assert odd["summary"] == [
        {"old": "code 9", "new": "XDP_TX", "differs": True, "rewritten": False, "packets": 1}
    ]
