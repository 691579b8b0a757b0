# SPDX-License-Identifier: Apache-2.0
"""The list of interfaces."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.message import Message

from xdptui.view.cells import Line, message
from xdptui.view.interface_lines import InterfaceView, column_at, heading, interface_line
from xdptui.view.session import Order
from xdptui.widgets.pane import Pane

__all__ = ["InterfaceTable"]


class InterfaceTable(Pane, can_focus=True):
    """One line per interface; the selected one stays in view."""

    ALLOW_SELECT = False

    class Picked(Message):
        """An interface was chosen with the mouse."""

        def __init__(self, ifindex: int) -> None:
            super().__init__()
            self.ifindex = ifindex

    class Sorted(Message):
        """The heading of a column was clicked."""

        def __init__(self, order: Order) -> None:
            super().__init__()
            self.order = order

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._order, self._reverse = Order.INDEX, False
        self._matches = ""
        self._views: Sequence[InterfaceView] = ()
        self._selected: int | None = None
        self._empty = ""
        self._top = 0

    @property
    def shown_rows(self) -> range:
        """The indices of the interfaces on the screen."""
        return range(self._top, min(len(self._views), self._top + max(0, self.size.height - 1)))

    def present(
        self,
        views: Sequence[InterfaceView],
        selected: int | None,
        empty: str,
        *,
        order: Order = Order.INDEX,
        reverse: bool = False,
        matches: str = "",
    ) -> None:
        """Show these, sorted as ``order`` and ``reverse`` say; ``empty`` is the text if there are none,
        ``matches`` says how many passed the filter.
        """
        self._order, self._reverse, self._matches = order, reverse, matches
        followed = selected != self._selected or len(views) != len(self._views)
        self._views, self._selected, self._empty = views, selected, empty
        self._redraw(follow=followed)

    def _redraw(self, *, follow: bool) -> None:
        width, rows = self.size.width, self.size.height - 1
        if rows < 0 or width <= 0:
            return
        places = {view.running.interface.ifindex: i for i, view in enumerate(self._views)}
        here = places.get(self._selected) if self._selected is not None else None
        if follow and here is not None and rows > 0:
            self._top = max(here - rows + 1, min(self._top, here))
        self._top = max(0, min(self._top, len(self._views) - rows))
        shown = self.shown_rows
        position = self._matches
        if len(self._views) > rows > 0:
            position = f"{position} {shown.start + 1}-{shown.stop} of {len(self._views)}".lstrip()
        lines: list[Line] = [self.headed(heading(width, position, self._order, self._reverse))]
        for i in shown:
            lines.append(interface_line(self._views[i], width, i == here, self.has_focus))
        if not self._views:
            lines += message(self._empty, width)[:rows]
        self.paint(lines)

    def resized(self) -> None:
        self._redraw(follow=True)

    def focus_changed(self) -> None:
        self._redraw(follow=self.has_focus)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        place = self._top + event.y - 1
        if event.button == 1 and event.y > 0 and place < len(self._views):
            self.focus()
            self.post_message(self.Picked(self._views[place].running.interface.ifindex))

    def on_click(self, event: events.Click) -> None:
        column = column_at(self.size.width, event.x) if event.y == 0 else None
        if column is not None and not self.resized_by_mouse:
            self.post_message(self.Sorted(column))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._scroll(3)
        event.stop()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._scroll(-3)
        event.stop()

    def _scroll(self, by: int) -> None:
        self._top += by
        self._redraw(follow=False)
