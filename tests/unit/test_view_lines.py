# SPDX-License-Identifier: Apache-2.0
"""Lines, columns and the sharing of rows: everything fits at any size, and only what differs is repainted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpchain.model.actions import ALL_ACTIONS, Action, ActionSet
from xdpchain.model.chain import MAX_SLOTS, Chain
from xdpchain.model.component import Component
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.runconfig import MAX_PRIORITY, RunConfig
from xdpchain.model.running import Device, DispatcherInfo, Hook, Owner, Running
from xdpchain.model.slot import Slot
from xdptui.view import interface_lines
from xdptui.view.cells import Cell, Line, changed, clip, message
from xdptui.view.chain_lines import ChainView, columns, heading, slot_lines
from xdptui.view.inspector_lines import inspector_lines
from xdptui.view.keys import KEYS, cost, hints
from xdptui.view.layout import share
from xdptui.view.session import Session, Shown
from xdptui.view.waterfall import flow
from xdptui.view.waterfall_lines import waterfall_lines
from xdptui.widgets.banner import Pending, banner_line
from xdptui.words.rates import Rates, Reading

LONG = "a_component_with_a_name_that_no_column_can_hold"


def slot(i: int, actions: str = "P") -> Slot:
    return Slot(
        Component(f"{LONG}_{i}"),
        RunConfig(MAX_PRIORITY - MAX_SLOTS + i, ActionSet.parse(actions)),
        key=f"k{i}",
    )


def view(slots: int, **more: object) -> ChainView:
    chain = Chain(tuple(slot(i) for i in range(slots)))
    some = Rates((1e9,) * 6, (1e12,) * 6)
    every = {s.key: some for s in chain}
    reading = Reading(1.0, every, every, some, some)
    return replace(ChainView(chain=chain, base=chain, reading=reading, focused=True), **more)


def running(name: str = LONG) -> Running:
    features = frozenset({"basic", "redirect", "ndo-xmit", "xsk-zerocopy", "rx-sg", "something-newer"})
    device = Device(Interface(name, 3, "a-namespace"), True, "up", 9000, "mlx5_core_long_name", features)
    chain = Chain(tuple(slot(i) for i in range(10)))
    hook = Hook(Mode.GENERIC, 1 << 30, "xdp_dispatcher", "0123456789abcdef")
    return Running(device, (hook,), Owner.XDPTUI, chain.linkage, None, chain)


@given(st.integers(1, 300), st.integers(0, 10), st.booleans())
def test_chain_lines_are_exactly_as_wide_as_the_pane_or_clipped_below_its_least(
    width: int, slots: int, two: bool
) -> None:
    cols = columns(width)
    shown = view(slots, candidate=True, removed=(slot(11),))
    lines = [heading(cols, Shown.PACKET_RATE, two)] + [x for g in slot_lines(shown, cols, two) for x in g]
    widths = {line.width for line in lines}
    assert len(widths) == 1
    if width >= 20:
        assert widths == {width}


@given(st.integers(20, 300))
def test_interface_lines_fit(width: int) -> None:
    interface_view = interface_lines.InterfaceView(running(), True, 1e9)
    assert interface_lines.interface_line(interface_view, width, True, True).width == width
    assert interface_lines.heading(width, "91-100 of 100").width == width


@given(st.integers(8, 300), st.integers(0, 20), st.integers(0, 10))
def test_waterfall_fits(width: int, height: int, slots: int) -> None:
    chain = Chain(tuple(slot(i) for i in range(slots)))
    rates = Rates((1e9,) * 6, (0.0,) * 6)
    lines = waterfall_lines(flow(chain, {s.key: rates for s in chain}, rates), width, height)
    assert len(lines) <= height
    assert all(line.width == width for line in lines)


@given(st.integers(1, 300), st.integers(0, 3))
def test_banner_fits_and_keeps_the_state(width: int, missing: int) -> None:
    session = replace(
        Session().surveyed_as([running()]), missing=("CAP_SYS_ADMIN", "CAP_BPF", "CAP_NET_ADMIN")[:missing]
    )
    line = banner_line(session, width)
    if width >= 40:
        assert line.width == width
        assert "RUNNING" in line.text
        assert ("READ-ONLY" in line.text) == bool(missing)
    assert "PENDING 00:42" in banner_line(session, 80, Pending(42)).text


def test_the_banner_says_that_a_chain_is_bound() -> None:
    bound = replace(running(), dispatcher=DispatcherInfo(109, 3, bound=True))
    assert "dispatcher 109, bound" in banner_line(Session().surveyed_as([bound]), 120).text
    assert "bound" not in banner_line(Session().surveyed_as([running()]), 120).text


@given(st.integers(1, 200), st.integers(0, 150), st.integers(0, 14))
def test_rows_are_shared_without_rest(height: int, interfaces: int, slots: int) -> None:
    layout = share(height, interfaces, slots)
    total = (
        layout.banner + layout.interfaces + layout.chain + layout.waterfall + layout.inspector + layout.keys
    )
    assert total == height
    assert layout.chain >= 1
    assert min(layout.interfaces, layout.waterfall, layout.inspector) >= 0


def test_three_slots_at_80x24_show_everything() -> None:
    layout = share(24, 4, 3)
    assert layout.lines == 2
    assert layout.interfaces >= 4
    assert layout.waterfall == 1 + 1 + 3 + 5


def test_ten_slots_at_80x24_are_all_on_the_screen() -> None:
    layout = share(24, 4, 10)
    assert layout.chain == 11
    assert layout.waterfall >= 3


def test_tiny_terminals_keep_the_chain() -> None:
    assert share(5, 3, 3).chain == 4
    assert share(1, 3, 3).chain == 1
    assert share(12, 3, 3).waterfall >= 3


def test_toggles_are_where_a_click_looks_for_them() -> None:
    for width in (36, 80, 120, 200):
        cols = columns(width)
        line = slot_lines(view(1), cols, False)[0][0]
        for action in ALL_ACTIONS:
            x = line.text.index("P", cols.toggles_at) + 2 * (action - Action.PASS)
            assert cols.action_at(x) is action
        assert cols.action_at(cols.toggles_at - 1) is None
        assert cols.on_priority(cols.priority_at)
        assert not cols.on_priority(cols.priority_at + cols.priority)


def test_routes_to_slots_with_two_digits_move_no_column() -> None:
    chain = view(MAX_SLOTS).chain.route(1, Action.DROP, "k31").route(2, Action.TX, "k9").route(3, None, "k10")
    shown = view(MAX_SLOTS, chain=chain, base=chain)
    for width in (36, 80, 120):
        cols = shown.columns(width)
        head, texts = heading(cols, Shown.PACKET_RATE, False), slot_lines(shown, cols, False)
        assert {line.width for group in texts for line in group} == {head.width}
        first, routed, *_ = (group[0].text for group in texts)
        assert "D31P" in routed
        assert routed.index("P", cols.toggles_at) == first.index("P", cols.toggles_at)
        for action in ALL_ACTIONS:
            assert cols.action_at(head.text.index(f"{action.letter}  ", cols.toggles_at)) is action
            assert cols.action_at(head.text.index(f"{action.letter}  ", cols.toggles_at) + 2) is action
    assert shown.columns(80) != columns(80)
    assert view(MAX_SLOTS).columns(80) == columns(80), "without such a route nothing needs the room"


def test_what_differs_from_the_running_chain_carries_a_mark_without_colour() -> None:
    base = Chain((slot(0), slot(1)))
    chain = base.retune(0, actions=ActionSet.parse("DP")).retune(1, priority=5)
    shown = view(2, chain=chain, base=base, candidate=True)
    first, second = (group[0].text for group in slot_lines(shown, columns(80), True))
    assert "~" in second
    assert "D*P" in second
    assert "5*" in first
    assert "*" not in slot_lines(replace(shown, candidate=False, base=chain), columns(80), True)[0][0].text


def test_a_held_slot_is_shown_where_it_would_fall() -> None:
    shown = view(3, drag=(0, 2))
    groups = slot_lines(shown, columns(80), False)
    assert [s.key for s in shown.slots] == ["k1", "k2", "k0"]
    assert groups[2][0].tone == "drag"
    assert groups[2][0].text.startswith("≡")


def test_unknown_numbers_are_not_zeros() -> None:
    shown = view(1, reading=None)
    text = slot_lines(shown, columns(80), False)[0][0].text
    assert text.split()[-6:] == ["-"] * 6


def test_only_differing_cells_are_repainted() -> None:
    old = Line((Cell("abc"), Cell("de"), Cell("f")), "row")
    assert changed(old, old) == []
    assert changed(old, Line((Cell("abX"), Cell("de"), Cell("f")), "row")) == [(0, 3)]
    assert changed(old, Line((Cell("abc"), Cell("dX"), Cell("X")), "row")) == [(3, 3)]
    assert changed(old, Line((Cell("abc"), Cell("de", "bold"), Cell("f")), "row")) == [(3, 2)]
    assert changed(old, Line(old.cells, "other")) == [(0, 6)]
    assert changed(None, old) == [(0, 6)]
    assert changed(old, Line((Cell("abcdef"),), "row")) == [(0, 6)]


def test_clip_shows_that_something_is_missing() -> None:
    assert clip("abcdef", 4) == "abc…"
    assert clip("abc", 4) == "abc"
    assert clip("a\x1b[31mb", 9) == "a?[31mb"
    assert clip("abc", 0) == ""


def test_message_wraps() -> None:
    lines = message("one two three four", 14)
    assert [line.text.strip() for line in lines] == ["one two", "three four"]


def test_hints_offer_nothing_that_somebody_elses_program_forbids() -> None:
    offered = {
        key.action for row in hints(200, read_only=False, candidate=False, foreign=True) for key in row
    }
    assert "adopt" in offered
    assert not offered & {"load", "undo", "wait"}
    ours = {key.action for row in hints(200, read_only=False, candidate=False) for key in row}
    assert {"load", "undo"} <= ours


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("candidate", [False, True])
def test_hints_are_never_cut_off(width: int, read_only: bool, candidate: bool) -> None:
    rows = hints(width, read_only=read_only, candidate=candidate, rows=2)
    assert len(rows) <= 2
    assert all(sum(cost(key) for key in row) <= width for row in rows)
    (shown,) = hints(width, read_only=read_only, candidate=candidate)
    assert sum(cost(key) for key in shown) <= width
    assert "help" in {k.action for k in shown}
    if read_only:
        assert not any(k.edits for k in shown)
    if candidate and not read_only and width >= 80:
        assert {"plan", "apply", "drop", "undo", "wait"} <= {k.action for k in shown}


def test_no_key_is_bound_twice() -> None:
    keys = [word for key in KEYS for word in key.keys.split(",")]
    assert len(keys) == len(set(keys))
    assert "shift+enter" not in keys


def test_inspector_names_overrides_and_warnings() -> None:
    chain = Chain((slot(0, ""), slot(1)))
    text = "\n".join(line.text for line in inspector_lines(chain, chain.slots[0], None, 100))
    assert "always ends the chain" in text
    assert "declared" in text
    assert "not loaded yet" in text
    assert all(line.width == 100 for line in inspector_lines(chain, chain.slots[0], chain.slots[1], 100))
