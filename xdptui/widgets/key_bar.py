# SPDX-License-Identifier: Apache-2.0
"""The bottom line: the keys that matter now, as many as fit whole. A click does what the key does."""

from __future__ import annotations

from textual import events
from textual.message import Message

from xdptui.view.cells import Cell, Line
from xdptui.view.keys import Key, hints, short_label
from xdptui.widgets.cell_grid import CellGrid

__all__ = ["KeyBar"]


class KeyBar(CellGrid):
    """Hints that are never cut off: what doesn't fit isn't shown, ``?`` shows all."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "KeyBar { height: 1; }"

    class Pressed(Message):
        """A hint was clicked."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._read_only = False
        self._candidate = False
        self._slots = True
        self._armed = False
        self.replaying = False
        """Whether a recording is looked at."""
        self._foreign = False
        self._places: list[tuple[int, int, Key]] = []

    def present(self, *, read_only: bool, candidate: bool, slots: bool, armed: bool, foreign: bool) -> None:
        self._read_only, self._candidate, self._slots, self._armed = read_only, candidate, slots, armed
        self._foreign = foreign
        self.on_resize()

    def on_resize(self, event: events.Resize | None = None) -> None:
        width = self.size.width
        cells: list[Cell] = []
        self._places = []
        x = 0
        for key in self._hints(width):
            label = short_label(key)
            cells += [Cell(f" {label}", "key"), Cell(f" {key.hint} ", "hint")]
            size = len(label) + len(key.hint) + 3
            self._places.append((x, x + size, key))
            x += size
        self.paint([Line((*cells, Cell(" " * max(0, width - x))), "banner")])

    def _hints(self, width: int) -> tuple[Key, ...]:
        return hints(
            width,
            read_only=self._read_only,
            candidate=self._candidate,
            slots=self._slots,
            armed=self._armed,
            replaying=self.replaying,
            foreign=self._foreign,
        )

    def on_click(self, event: events.Click) -> None:
        for start, end, key in self._places:
            if start <= event.x < end:
                self.post_message(self.Pressed(key.action))
