# SPDX-License-Identifier: Apache-2.0
"""Navigation on the main screen: cursors, sorting, the filter, which figures are shown."""

from __future__ import annotations

from dataclasses import replace

from xdpchain.model.actions import ALL_ACTIONS
from xdptui.main.desk import Actions, Controller, Desk
from xdptui.main.panes import Panes
from xdptui.view.keys import KEYS
from xdptui.view.session import Order, Shown
from xdptui.workers.meter import Meter

__all__ = ["BrowseFlow"]


class BrowseFlow(Controller):
    """What the navigation keys do to the session and the panes."""

    def __init__(self, desk: Desk, panes: Panes, meter: Meter) -> None:
        super().__init__(desk)
        self._panes, self._meter = panes, meter

    @property
    def actions(self) -> Actions:
        return {
            "cursor": self.cursor,
            "page": self.page,
            "pick": self.pick,
            "other_pane": self._panes.focus_other,
            "filter": self._panes.open_filter,
            "sort": self.sort,
            "invert": self.invert,
            "hide": self.hide,
            "zoom": self.zoom,
            "grow": self.grow,
            "numbers": self.numbers,
            "freeze": self.freeze,
        }

    def cursor(self, by: int) -> None:
        session = self.session
        # Move in the focused pane; a chain without slots has nothing to move in.
        if not self._panes.interfaces.has_focus and (session.chain.slots or session.removed):
            self._desk.put(session.at_slot(session.slot + by))
            return
        places = [r.interface.ifindex for r in session.visible]
        if places:
            here = places.index(session.selected) if session.selected in places else 0
            self._desk.put(session.select(places[max(0, min(len(places) - 1, here + by))]))
            self._panes.count()

    def page(self, by: int) -> None:
        self.cursor(by * max(1, len(self._panes.interfaces.shown_rows) - 1))

    def pick(self, by: int) -> None:
        place = ALL_ACTIONS.index(self.session.action) + by
        self._desk.put(replace(self.session, action=ALL_ACTIONS[max(0, min(len(ALL_ACTIONS) - 1, place))]))

    def sort(self) -> None:
        """Sort by the next column."""
        orders = list(Order)
        self._sort(orders[(orders.index(self.session.order) + 1) % len(orders)], reverse=False)

    def sort_by(self, order: Order) -> None:
        """Sort by the column whose heading was clicked; a second click reverses the order."""
        self._sort(order, reverse=order is self.session.order and not self.session.reverse)

    def invert(self) -> None:
        self._sort(self.session.order, reverse=not self.session.reverse)

    def _sort(self, order: Order, *, reverse: bool) -> None:
        self._desk.put(replace(self.session, order=order, reverse=reverse, traffic=self._meter.rates()))

    # Panes

    def hide(self, pane: str) -> None:
        """Hide a pane, or show it again."""
        self._panes.wished(self._panes.wish.toggled(pane))
        if pane in self._panes.wish.hidden:
            key = next(key for key in KEYS if key.action == f"hide({pane!r})")
            self._desk.notify(f"{pane} hidden: {key.label} shows it again", timeout=3)

    def zoom(self) -> None:
        self._panes.wished(self._panes.wish.zooming(self._panes.focused))

    def grow(self, rows: int) -> None:
        """Make the pane with the focus larger or smaller."""
        self._panes.wished(self._panes.wish.grown(self._panes.focused, rows))

    def numbers(self) -> None:
        shown = list(Shown)
        after = shown[(shown.index(self.session.shown) + 1) % len(shown)]
        self._desk.put(replace(self.session, shown=after))

    def freeze(self) -> None:
        self._desk.put(replace(self.session, frozen=not self.session.frozen))

    def filter(self, needle: str) -> None:
        """Show the interfaces that contain these words, and move the cursor to one of them."""
        session = replace(self.session, needle=needle)
        visible = [r.interface.ifindex for r in session.visible]
        if visible and session.selected not in visible:
            session = session.select(visible[0])
        self._desk.put(session)
