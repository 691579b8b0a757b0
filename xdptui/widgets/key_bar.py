# SPDX-License-Identifier: Apache-2.0
"""The bottom line: the keys that matter now, as many as fit whole. A click does what the key does."""

from __future__ import annotations

from functools import partial

from textual import events
from textual.message import Message

from xdptui.view.cells import Cell, Line
from xdptui.view.keys import Key, cost, hints, short_label
from xdptui.widgets.cell_grid import CellGrid

__all__ = ["KeyBar"]


class KeyBar(CellGrid):
    """Hints that are never truncated: those that don't fit aren't shown, ``?`` shows all."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "KeyBar { height: 1; }"

    class Pressed(Message):
        """A hint was clicked."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.replaying = False
        """Whether a recording is shown."""
        self._offer = partial(hints, read_only=False, candidate=False)
        self._places: list[tuple[int, int, int, Key]] = []

    def present(
        self, *, read_only: bool, candidate: bool, runs: bool, slots: bool, pending: bool, foreign: bool
    ) -> None:
        self._offer = partial(
            hints,
            read_only=read_only,
            candidate=candidate,
            runs=runs,
            slots=slots,
            pending=pending,
            foreign=foreign,
            replaying=self.replaying,
        )
        self.resized()

    def rows_for(self, width: int, most: int) -> int:
        """How many rows the hints need, at most ``most``."""
        return len(self._offer(width, rows=most))

    def resized(self) -> None:
        width = self.size.width
        lines = []
        self._places = []
        for y, keys in enumerate(self._offer(width, rows=max(1, self.size.height))):
            cells: list[Cell] = []
            x = 0
            for key in keys:
                cells += [Cell(f" {short_label(key)}", "key"), Cell(f" {key.hint} ", "hint")]
                self._places.append((x, x + cost(key), y, key))
                x += cost(key)
            lines.append(Line((*cells, Cell(" " * max(0, width - x))), "banner"))
        self.paint(lines)

    def on_click(self, event: events.Click) -> None:
        for start, end, y, key in self._places:
            if start <= event.x < end and y == event.y:
                self.post_message(self.Pressed(key.action))
