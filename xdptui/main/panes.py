# SPDX-License-Identifier: Apache-2.0
"""The panes of the main screen: how they share the rows, and what part of the session each shows."""

from __future__ import annotations

from collections.abc import Mapping

from textual.screen import Screen

from xdptui.main.confirm_flow import countdown
from xdptui.main.desk import Desk
from xdptui.view.cells import message
from xdptui.view.chain_lines import ChainView
from xdptui.view.interface_lines import InterfaceView
from xdptui.view.layout import KEY_ROWS, Layout, Wish, share
from xdptui.view.notes import chain_note, empty_list, matches, waterfall_note
from xdptui.view.notices import unread
from xdptui.view.session import BannerState
from xdptui.view.time_line import TimeView
from xdptui.view.traffic import caption, numbered, traffic
from xdptui.widgets.banner import Banner
from xdptui.widgets.chain_table import ChainTable
from xdptui.widgets.filter_line import FilterLine
from xdptui.widgets.inspector import Inspector
from xdptui.widgets.interface_table import InterfaceTable
from xdptui.widgets.key_bar import KeyBar
from xdptui.widgets.time_bar import TimeBar
from xdptui.widgets.waterfall import Waterfall
from xdptui.words.rates import Reading
from xdptui.workers.meter import Meter

__all__ = ["Panes"]

EMPTY_ROWS = 3
"""Rows to say why there is no interface to list."""


class Panes:
    """Hands every widget its part of the session; widgets repaint what differs. They are listed in screen
    order.
    """

    def __init__(self, screen: Screen[None], desk: Desk, meter: Meter, *, replaying: bool) -> None:
        self._screen, self._desk, self._meter = screen, desk, meter
        self.banner = Banner(id="banner")
        self.time = TimeBar(id="time")
        self.filter = FilterLine(id="filter")
        self.interfaces = InterfaceTable(id="interfaces")
        self.chain = ChainTable(id="chain")
        self.waterfall = Waterfall(id="waterfall")
        self.inspector = Inspector(id="inspector")
        self.keys = KeyBar(id="keys")
        self.filter.display = False
        self.time.display = self.keys.replaying = replaying
        self.layout: Layout | None = None
        self.recording = False
        """Whether a recording is in progress."""
        self.wish = Wish()
        """The user's changes to the panes."""
        self.trouble = ""
        """Why the interfaces can't be read, if so."""
        self.lost: Mapping[int, int] = {}
        """Packets lost, by ifindex, for interfaces that lost some a moment ago."""

    def show(self) -> None:
        """Show the whole session."""
        session = self._desk.session
        self.banner.present(
            session, countdown(session.running), recording=self.recording, unread=unread(self._desk.notices)
        )
        self.keys.present(
            read_only=session.read_only or session.running is None,
            candidate=session.changes > 0,
            runs=session.running is not None and bool(session.running.hooks),
            slots=len(session.chain) > 0,
            pending=session.running is not None and session.running.pending is not None,
            foreign=session.state is BannerState.FOREIGN,
        )
        self._arrange()
        self.show_tables()

    def show_tables(self) -> None:
        """Show the counters."""
        self._show_interfaces()
        self._show_chain()

    def show_countdown(self) -> None:
        """Show how long a pending change has left."""
        session = self._desk.session
        self.banner.present(
            session, countdown(session.running), recording=self.recording, unread=unread(self._desk.notices)
        )

    def show_time(self, view: TimeView | None) -> None:
        """Show the position in a replay."""
        if view is not None:
            self.time.present(view)

    def _arrange(self) -> None:
        session = self._desk.session
        screen = self._screen.app.size
        height = screen.height - self.filter.display - self.time.display
        rows = len(session.chain) + len(session.removed)
        note = len(message(chain_note(session), screen.width)) if rows == 0 else 0
        keys = self.keys.rows_for(screen.width, KEY_ROWS)
        layout = share(height, len(session.visible) or EMPTY_ROWS, rows, max(1, note), self.wish, keys)
        if layout == self.layout:
            return
        self.layout = layout
        for pane, size in (
            (self.banner, layout.banner),
            (self.interfaces, layout.interfaces),
            (self.chain, layout.chain),
            (self.waterfall, layout.waterfall),
            (self.inspector, layout.inspector),
            (self.keys, layout.keys),
        ):
            pane.display = size > 0
            pane.styles.height = max(1, size)

    def _show_interfaces(self) -> None:
        session, meter = self._desk.session, self._meter
        unsaved = {running.interface.ifindex for running in session.unsaved}
        views = [
            InterfaceView(
                running,
                running.interface.ifindex in unsaved,
                meter.rate(running.interface.ifindex),
                running.interface.ifindex in self.lost,
                running.interface.ifindex in session.marked,
            )
            for running in session.visible
        ]
        self.interfaces.present(
            views,
            session.selected,
            empty_list(session, self.trouble),
            order=session.order,
            reverse=session.reverse,
            matches=matches(session),
        )

    def _show_chain(self) -> None:
        session, meter = self._desk.session, self._meter
        index = session.selected
        reading = meter.last(index)
        view = ChainView(
            chain=session.chain,
            base=session.base,
            removed=session.removed,
            candidate=session.changes > 0,
            reading=reading,
            trends=meter.trends(index),
            slot=session.slot,
            action=None if session.read_only else session.action,
            shown=session.shown,
        )
        two = self.layout is not None and self.layout.lines == 2
        self.chain.present(view, chain_note(session), two=two, movable=not session.read_only)
        lost = self.lost.get(index) if index is not None else None
        note = waterfall_note(session, meter.why(index), reading is not None)
        what = caption(session, meter.cost(index), lost)
        self.waterfall.present(traffic(session, reading), what, note, numbered=numbered(session))
        self._show_slot(reading)

    def _show_slot(self, reading: Reading | None) -> None:
        session = self._desk.session
        was = next((slot for slot in session.base or () if slot.key == session.slot_key), None)
        base = session.edit.base if session.edit else session.running
        self.inspector.present(session.chain, session.current, was, base, reading)

    def count(self) -> None:
        """Read the counters of the interfaces on the screen."""
        session, meter = self._desk.session, self._meter
        if session.selected is not None:
            meter.read(session.selected)
        visible = session.visible
        for place in self.interfaces.shown_rows:
            index = visible[place].interface.ifindex if place < len(visible) else session.selected
            if index is not None and index != session.selected:
                meter.read(index)

    def wished(self, wish: Wish) -> None:
        """Arrange the panes as the user wants."""
        self.wish = wish
        self.show()
        focused = self._screen.focused
        if focused is not None and not focused.display:
            self._screen.set_focus(self.chain if self.chain.display else self.interfaces)

    @property
    def focused(self) -> str:
        """The pane that keys act on."""
        return "interfaces" if self.interfaces.has_focus else "chain"

    # Focus

    def focus_first(self) -> None:
        """Initial focus: the chain, or the list if there is no chain to look at."""
        chain = self._desk.session.chain.slots or not self.interfaces.display
        self._screen.set_focus(self.chain if chain else self.interfaces)

    def focus_other(self) -> None:
        """Move between the interfaces and the chain."""
        back = self.interfaces.has_focus or not self.interfaces.display
        self._screen.set_focus(self.chain if back else self.interfaces)

    def open_filter(self) -> None:
        self.filter.open()
        self.show()

    def close_filter(self, *, clear: bool) -> None:
        self.filter.close(clear)
        self._screen.set_focus(self.interfaces)
        self.show()
