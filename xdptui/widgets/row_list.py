# SPDX-License-Identifier: Apache-2.0
"""A list with a cursor: rows of cells, of which those that are on the screen are made and painted."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from xdptui.view.cells import Cell, Line, message
from xdptui.widgets.cell_grid import CellGrid

__all__ = ["RowList"]

Maker = Callable[[int, int], tuple[Cell, ...]]
"""(row, width) -> its cells."""


class RowList(CellGrid, can_focus=True):
    """``present`` hands over how many rows there are and who makes one; the cursor stays where it was."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "by(-1)", show=False),
        Binding("down,j", "by(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "to(0)", show=False),
        Binding("end,G", "to(-1)", show=False),
        Binding("enter", "choose", show=False),
    ]

    class Moved(Message):
        """The cursor stands on another row, or on the last one once more."""

        def __init__(self, rows: RowList, row: int) -> None:
            super().__init__()
            self.rows, self.row = rows, row

        @property
        def control(self) -> RowList:
            return self.rows

    class Chosen(Message):
        """Enter, or a click on the row under the cursor."""

        def __init__(self, rows: RowList, row: int) -> None:
            super().__init__()
            self.rows, self.row = rows, row

        @property
        def control(self) -> RowList:
            return self.rows

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._count = 0
        self._make: Maker = lambda _row, _width: ()
        self._head: Callable[[int, str], tuple[Cell, ...]] | None = None
        self._empty = ""
        self._top = 0
        self.row = 0

    def present(
        self,
        count: int,
        make: Maker,
        *,
        empty: str = "",
        head: Callable[[int, str], tuple[Cell, ...]] | None = None,
    ) -> None:
        """Show ``count`` rows; ``head`` makes the first line from the width and the position in words,
        ``empty`` is the text for when there are none.
        """
        self._count, self._make, self._empty, self._head = count, make, empty, head
        self.row = max(0, min(self.row, count - 1))
        self._redraw()

    @property
    def shown_rows(self) -> range:
        """The rows that are on the screen."""
        return range(self._top, min(self._count, self._top + max(0, self._rows)))

    @property
    def _rows(self) -> int:
        return self.size.height - (1 if self._head else 0)

    def _redraw(self) -> None:
        width, rows = self.size.width, self._rows
        if rows <= 0 or width <= 0:
            return
        self._top = max(self.row - rows + 1, min(self._top, self.row))
        self._top = max(0, min(self._top, self._count - rows))
        shown = self.shown_rows
        lines: list[Line] = []
        if self._head:
            position = f"{shown.start + 1}-{shown.stop} of {self._count}" if self._count > rows else ""
            lines.append(Line(self._head(width, position), "head"))
        for row in shown:
            tone = "" if row != self.row else "cursor" if self.has_focus else "blurred"
            lines.append(Line(self._make(row, width), tone))
        if not self._count:
            lines += message(self._empty, width)[:rows]
        self.paint(lines)

    def go(self, row: int) -> None:
        """Put the cursor on a row, as near as there is one."""
        self.row = max(0, min(row, self._count - 1))
        self._redraw()
        self.post_message(self.Moved(self, self.row))

    def action_by(self, by: int) -> None:
        self.go(self.row + by)

    def action_page(self, by: int) -> None:
        self.go(self.row + by * max(1, self._rows - 1))

    def action_to(self, row: int) -> None:
        self.go(row if row >= 0 else self._count - 1)

    def action_choose(self) -> None:
        if self._count:
            self.post_message(self.Chosen(self, self.row))

    def on_resize(self, event: events.Resize) -> None:
        self._redraw()

    def on_focus(self) -> None:
        self._redraw()

    def on_blur(self) -> None:
        self._redraw()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        row = self._top + event.y - (1 if self._head else 0)
        if event.button != 1 or row not in self.shown_rows:
            return
        if row == self.row and self.has_focus:
            self.action_choose()
        else:
            self.go(row)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.go(self.row + 3)
        event.stop()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.go(self.row - 3)
        event.stop()
