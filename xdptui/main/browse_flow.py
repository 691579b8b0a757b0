# SPDX-License-Identifier: Apache-2.0
"""Moving about on the main screen: cursors, sorting, the filter, which numbers are shown."""

from __future__ import annotations

from dataclasses import replace

from xdpchain.model.actions import ALL_ACTIONS
from xdptui.main.desk import Actions, Controller, Desk
from xdptui.main.panes import Panes
from xdptui.view.session import Shown
from xdptui.workers.meter import Meter

__all__ = ["BrowseFlow"]


class BrowseFlow(Controller):
    """What the keys for looking about do to the session and to the panes."""

    def __init__(self, desk: Desk, panes: Panes, meter: Meter) -> None:
        super().__init__(desk)
        self._panes, self._meter = panes, meter

    @property
    def actions(self) -> Actions:
        return {
            "cursor": self.cursor,
            "pick": self.pick,
            "other_pane": self._panes.focus_other,
            "filter": self._panes.open_filter,
            "sort": self.sort,
            "numbers": self.numbers,
            "freeze": self.freeze,
        }

    def cursor(self, by: int) -> None:
        session = self.session
        if not self._panes.interfaces.has_focus:
            self._desk.put(session.at_slot(session.slot + by))
            return
        places = [r.interface.ifindex for r in session.visible]
        if places:
            here = places.index(session.selected) if session.selected in places else 0
            self._desk.put(session.select(places[max(0, min(len(places) - 1, here + by))]))
            self._panes.count()

    def pick(self, by: int) -> None:
        place = ALL_ACTIONS.index(self.session.action) + by
        self._desk.put(replace(self.session, action=ALL_ACTIONS[max(0, min(len(ALL_ACTIONS) - 1, place))]))

    def sort(self) -> None:
        orders = list(type(self.session.order))
        order = orders[(orders.index(self.session.order) + 1) % len(orders)]
        self._desk.put(replace(self.session, order=order, traffic=self._meter.rates()))
        self._desk.notify(f"sorted by {order}", timeout=2)

    def numbers(self) -> None:
        shown = list(Shown)
        after = shown[(shown.index(self.session.shown) + 1) % len(shown)]
        self._desk.put(replace(self.session, shown=after))

    def freeze(self) -> None:
        self._desk.put(replace(self.session, frozen=not self.session.frozen))

    def filter(self, needle: str) -> None:
        """Show the interfaces that have these words; the cursor goes to one of them."""
        session = replace(self.session, needle=needle)
        visible = [r.interface.ifindex for r in session.visible]
        if visible and session.selected not in visible:
            session = session.select(visible[0])
        self._desk.put(session)
