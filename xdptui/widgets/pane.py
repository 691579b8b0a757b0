# SPDX-License-Identifier: Apache-2.0
"""A pane of the main screen: dragging its heading moves the border to the pane above."""

from __future__ import annotations

from textual import events
from textual.message import Message

from xdptui.widgets.cell_grid import CellGrid

__all__ = ["Pane"]


class Pane(CellGrid):
    """The first line is the heading. (Textual calls these handlers as well as those of subclasses.)"""

    first_selectable = 1

    class Dragged(Message):
        """The heading was moved by this many rows: up is negative."""

        def __init__(self, pane: Pane, rows: int) -> None:
            super().__init__()
            self.pane, self.rows = pane, rows

    class Zoomed(Message):
        """The heading was double-clicked."""

        def __init__(self, pane: Pane) -> None:
            super().__init__()
            self.pane = pane

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._held_at: int | None = None
        self.resized_by_mouse = False
        """Whether the heading was moved since the button went down: then it was not a click."""

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if event.button == 1 and event.y == 0:
            self._held_at = int(event.screen_y)
            self.resized_by_mouse = False
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._held_at is None:
            return
        rows = int(event.screen_y) - self._held_at
        if rows:
            self._held_at += rows
            self.resized_by_mouse = True
            self.post_message(self.Dragged(self, rows))

    def on_mouse_up(self, event: events.MouseUp) -> None:
        if self._held_at is not None:
            self._held_at = None
            self.release_mouse()

    def on_mouse_release(self, event: events.MouseRelease) -> None:
        self._held_at = None

    def on_click(self, event: events.Click) -> None:
        if event.y == 0 and event.chain == 2:
            self.post_message(self.Zoomed(self))
