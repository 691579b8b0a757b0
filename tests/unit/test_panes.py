# SPDX-License-Identifier: Apache-2.0
"""Hiding, zooming and resizing panes; the help and its legend; sorting by any column."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpchain.model.interface import Interface
from xdpchain.model.running import Device, Running
from xdptui.view.help_lines import LEGEND, Mode, help_blocks
from xdptui.view.interface_lines import (
    COLUMNS,
    LONGEST,
    InterfaceView,
    column_at,
    heading,
    interface_line,
)
from xdptui.view.keys import KEYS
from xdptui.view.layout import PANES, Layout, Wish, share
from xdptui.view.session import Order

WISHES = st.builds(
    Wish,
    hidden=st.frozensets(st.sampled_from(PANES)),
    zoomed=st.sampled_from(("", *PANES)),
    moved=st.dictionaries(st.sampled_from(PANES), st.integers(-60, 60)),
)


def rows(layout: Layout) -> dict[str, int]:
    return {pane: getattr(layout, pane) for pane in PANES}


@given(st.integers(1, 200), st.integers(0, 150), st.integers(0, 14), st.integers(1, 9), WISHES)
def test_no_row_is_lost_whatever_is_wished(
    height: int, interfaces: int, slots: int, note: int, wish: Wish
) -> None:
    layout = share(height, interfaces, slots, note, wish)
    assert layout.banner + layout.keys + sum(rows(layout).values()) == height
    assert min(rows(layout).values()) >= 0


def test_hidden_panes_leave_their_rows_to_the_others() -> None:
    plain = share(40, 4, 3)
    without = share(40, 4, 3, wish=Wish().toggled("inspector"))
    assert without.inspector == 0
    assert without.waterfall == plain.waterfall + plain.inspector
    assert share(40, 4, 3, wish=Wish().toggled("inspector").toggled("inspector")) == plain


def test_a_zoomed_pane_is_alone_and_comes_back() -> None:
    wish = Wish().zooming("waterfall")
    assert rows(share(24, 4, 3, wish=wish)) == {
        "interfaces": 0, "chain": 0, "waterfall": 22, "inspector": 0,
    }  # fmt: skip
    assert share(24, 4, 3, wish=wish.zooming("waterfall")) == share(24, 4, 3)


def test_a_border_that_is_moved_takes_from_the_pane_below() -> None:
    plain, moved = share(40, 4, 3), share(40, 4, 3, wish=Wish().grown("interfaces", 2))
    assert moved.interfaces == plain.interfaces + 2
    assert moved.chain == plain.chain - 2
    assert share(40, 4, 3, wish=Wish().grown("interfaces", 99)).chain == 2, "a heading and a line stay"


def test_guidance_has_its_rows_where_there_is_no_chain() -> None:
    layout = share(24, 30, 0, note=6)
    assert layout.chain >= 7
    assert layout.interfaces >= 2


def test_columns_are_where_their_headings_are() -> None:
    line = heading(80, "", Order.TRAFFIC).text
    assert "pkt/s▼" in line
    assert "pkt/s▲" in heading(80, "", Order.TRAFFIC, True).text
    assert "owner▲" in heading(80, "", Order.OWNER).text
    names = ("interface", "link", "mode", "owner", "chain", "pkt/s", "driver")
    for name, column in zip(names, COLUMNS, strict=True):
        assert column_at(80, line.index(name)) is column
    assert column_at(80, 79) is None


@pytest.mark.parametrize("width", [200, 120, 80, 72, 60, 47, 30, 20])
def test_the_longest_name_of_an_interface_is_whole(width: int) -> None:
    name = "enp129s0f1np1v9"
    assert len(name) == LONGEST
    running = Running(Device(Interface(name, 7), True, "up", 1500, "ixgbe", None))
    assert name in interface_line(InterfaceView(running), width, True, True).text


def test_help_has_only_keys_that_work_and_can_be_searched() -> None:
    everything = {line for block in help_blocks(Mode()) for line in block}
    assert not any("reading back" in words for _, words in everything)
    shown = {words for block in help_blocks(Mode(read_only=True)) for _, words in block}
    assert "load a program from an object file" not in shown
    replayed = {label for block in help_blocks(Mode(replaying=True)) for label, _ in block}
    assert {"[", "]", "{", "}"} <= replayed
    assert "l" not in replayed
    (block,) = help_blocks(Mode(), "run priority")
    assert block == [("Edit the candidate", ""), ("e", "edit the run priority")]
    assert help_blocks(Mode(), "no such key") == []
    headings = {block[0][0] for block in help_blocks(Mode())}
    assert LEGEND.keys() <= headings


def test_every_key_has_one_meaning() -> None:
    keys = [name for key in KEYS for name in key.keys.split(",")]
    assert len(keys) == len(set(keys))
