# SPDX-License-Identifier: Apache-2.0
"""The list used by all screens: rows of cells with a cursor, sortable by any column, filtered by words. Only
rows on the screen are made and painted. The cursor is a sign in the first column, which rows leave blank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message

from xdptui.view.cells import DOWN, UP, Cell, Line, left, message
from xdptui.widgets.cell_grid import CellGrid

__all__ = ["RowList"]

Thing = TypeVar("Thing")

Maker = Callable[[int, int], tuple[Cell, ...]]
"""(row, width) -> its cells."""
SortKey = Callable[[int], Any]
"""A row -> its sort key."""
Words = Callable[[int], str]
"""A row -> the text that a filter searches."""


class RowList(CellGrid, can_focus=True):
    """``present`` gives the number of rows and a function that makes one; the cursor stays on its row. Rows
    are identified by their index in the data, whatever the sorting and filter.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "by(-1)", show=False),
        Binding("down,j", "by(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "to(0)", show=False),
        Binding("end,G", "to(-1)", show=False),
        Binding("enter", "choose", show=False),
        Binding("s", "sort", show=False),
        Binding("I", "invert", show=False),
        Binding("slash", "search", show=False),
        Binding("Y", "copy_row", show=False),
    ]

    class Moved(Message):
        """The cursor was moved; ``last``: it is on the last row, or was moved there again."""

        def __init__(self, rows: RowList, last: bool) -> None:
            super().__init__()
            self.rows, self.last = rows, last

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

    def __init__(self, *, id: str | None = None, choosing: bool = True) -> None:
        """``choosing``: enter acts on a row."""
        super().__init__(id=id)
        self._choosing = choosing
        self._make: Maker = lambda _row, _width: ()
        self._head: Callable[[int, str], tuple[Cell, ...]] | None = None
        self._sorts: Mapping[str, SortKey] = {}
        self._sorted_by = ""
        self._reverse = False
        self._words: Words | None = None
        self._needle = ""
        self._typing = False
        self._count = self._fixed = 0
        self._order: list[int] = []
        self._empty = ""
        self._top = 0
        self._place = 0

    @property
    def row(self) -> int:
        """The row under the cursor; 0 if there are none."""
        return self._order[self._place] if self._place < len(self._order) else 0

    @row.setter
    def row(self, row: int) -> None:
        self._place = self._order.index(row) if row in self._order else max(0, row)

    def under(self, things: Sequence[Thing]) -> Thing | None:
        """Which of these, one per row, is under the cursor; None if there are none, or the filter excludes
        all.
        """
        row = self._order[self._place] if self._place < len(self._order) else len(things)
        return things[row] if row < len(things) else None

    def present(
        self,
        count: int,
        make: Maker,
        *,
        empty: str = "",
        head: Callable[[int, str], tuple[Cell, ...]] | None = None,
        sorts: Mapping[str, SortKey] | None = None,
        words: Words | None = None,
        fixed: int = 0,
    ) -> None:
        """Show ``count`` rows; ``head`` makes the first line from the width and the position as text,
        ``empty`` is the text if there are none. ``sorts`` maps column names as in the head to sort keys; a
        name beginning with ``-`` sorts largest first. ``words`` gives the text that the filter searches. The
        first ``fixed`` rows stay where they are.
        """
        kept = self.row if self._place < len(self._order) else self._place
        self._make, self._empty, self._head = make, empty, head
        self._sorts, self._words, self._fixed = sorts or {}, words, fixed
        if count != self._count and self.styles.height is not None and self.styles.height.is_auto:
            self.refresh(layout=True)
        self._count = count
        self._arrange()
        self.row = max(0, min(kept, count - 1))
        self._place = max(0, min(self._place, len(self._order) - 1))
        self._redraw()

    def _arrange(self) -> None:
        found = list(range(self._fixed, self._count))
        if self._words is not None and self._needle:
            wanted = self._needle.lower().split()
            texts = {row: self._words(row).lower() for row in found}
            found = [row for row in found if all(word in texts[row] for word in wanted)]
        if key := self._sorts.get(self._sorted_by):
            found.sort(key=key, reverse=self._down)
        elif self._reverse:
            found.reverse()
        self._order = [*range(min(self._fixed, self._count)), *found]

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return self._count + (1 if self._head else 0)

    @property
    def _down(self) -> bool:
        return self._reverse != self._sorted_by.startswith("-")

    @property
    def shown_rows(self) -> list[int]:
        """The rows on the screen."""
        return self._order[self._top : self._top + max(0, self._rows)]

    @property
    def _rows(self) -> int:
        return self.size.height - (1 if self._head else 0)

    def _redraw(self) -> None:
        width, rows = self.size.width, self._rows
        if rows <= 0 or width <= 0:
            return
        count = len(self._order)
        self._top = max(self._place - rows + 1, min(self._top, self._place))
        self._top = max(0, min(self._top, count - rows))
        shown = self.shown_rows
        lines: list[Line] = []
        if self._typing:
            lines.append(self.headed(Line((left(f" /{self._needle}▏{self._found}", width),), "head")))
        elif self._head:
            head = self._marked(self._head(width, self._position(rows)))
            lines.append(self.headed(Line(head, "head")))
        for place, row in enumerate(shown, self._top):
            tone = "" if place != self._place else "cursor" if self.has_focus else "blurred"
            cells = self._make(row, width)
            if tone and cells and cells[0].text.startswith(" "):
                cells = (Cell("▶", "pointer"), Cell(cells[0].text[1:], cells[0].style), *cells[1:])
            lines.append(Line(cells, tone))
        if not count:
            empty = (
                f"Nothing matches {self._needle!r} (esc clears the filter)." if self._count else self._empty
            )
            lines += message(empty, width)[:rows]
        self.paint(lines)

    @property
    def _found(self) -> str:
        return f"  {self._matches}" if self._needle else "  type words; esc clears"

    @property
    def _matches(self) -> str:
        return f"{max(0, len(self._order) - self._fixed)} of {self._count - self._fixed}"

    def _marked(self, head: tuple[Cell, ...]) -> tuple[Cell, ...]:
        """The head, with the direction beside the column that sorts the rows."""
        name = self._sorted_by.lstrip("-")
        texts = [cell.text for cell in head]
        cuts = [sum(map(len, texts[:i])) for i in range(len(texts) + 1)]
        # The filter text beside the headings may equal a heading.
        found = [(title.strip().lower() == name, i) for i, title in enumerate(texts) if name in title.lower()]
        if not name or not found:
            return head
        text, (_, column) = "".join(texts), max(found)
        start = cuts[column] + texts[column].lower().rfind(name)
        end = start + len(name)
        place = end if text[end : end + 1] == " " else start - 1
        if place >= 0 and text[place] == " ":
            text = text[:place] + (DOWN if self._down else UP) + text[place + 1 :]
        return tuple(Cell(text[cuts[i] : cuts[i + 1]], cell.style) for i, cell in enumerate(head))

    def _position(self, rows: int) -> str:
        count = len(self._order)
        parts = [f"/{self._needle} {self._matches}"] if self._needle else []
        name = self._sorted_by.lstrip("-")
        if name and self._head and name not in "".join(cell.text for cell in self._head(200, "")).lower():
            parts.append(f"by {name} {DOWN if self._down else UP}")
        elif self._reverse and not name:
            parts.append(DOWN)
        if count > rows:
            parts.append(f"{self._top + 1}-{min(count, self._top + rows)} of {count}")
        return " ".join(parts)

    def go(self, place: int) -> None:
        """Put the cursor on the row shown at this place, or the nearest one."""
        last = len(self._order) - 1
        self._place = max(0, min(place, last))
        self._redraw()
        self.post_message(self.Moved(self, self._place >= last))

    def action_sort(self) -> None:
        """Sort by the next key; after the last, return to the original order."""
        names = ["", *self._sorts]
        here = names.index(self._sorted_by) if self._sorted_by in names else 0
        self._sorted_by = names[(here + 1) % len(names)]
        self._rearranged()

    def action_invert(self) -> None:
        self._reverse = not self._reverse
        self._rearranged()

    def _sort_at(self, x: int) -> None:
        """Sort by the column whose heading is nearest to the click; a second click reverses the order."""
        heading = "".join(cell.text for cell in self._head(self.size.width, "")).lower() if self._head else ""
        at = {heading.rfind(name.lstrip("-")): name for name in self._sorts if name.lstrip("-") in heading}
        if not at:
            self.action_sort()
            return
        name = at[min(at, key=lambda start: max(start - x, x - start - len(at[start].lstrip("-")) + 1))]
        self._reverse = name == self._sorted_by and not self._reverse
        self._sorted_by = name
        self._rearranged()

    def _rearranged(self) -> None:
        kept = self.row
        self._arrange()
        found = self._order[self._fixed :] if self._needle else self._order
        self.row = kept if kept in found else next(iter(found), 0)
        self._redraw()
        self.post_message(self.Moved(self, False))

    # The filter

    def forget_filter(self) -> None:
        """Clear the filter before presenting other rows, for which its words were not meant."""
        self._typing, self._needle = False, ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "choose":
            return self._choosing
        return action != "search" or self._words is not None  # otherwise the screen handles the key

    def action_search(self) -> None:
        """Type words that rows must contain."""
        self._typing = True
        self._redraw()

    def on_key(self, event: events.Key) -> None:
        """While typing, keys are letters; escape first clears the filter, then closes the screen."""
        if event.key == "escape" and (self._typing or self._needle):
            self._typing, self._needle = False, ""
        elif not self._typing:
            return
        elif event.key in ("enter", "tab", "down"):
            self._typing = False
        elif event.key == "backspace":
            self._needle = self._needle[:-1]
        elif event.is_printable and event.character:
            self._needle += event.character
        else:
            return
        event.stop()
        event.prevent_default()
        self._rearranged()

    def action_by(self, by: int) -> None:
        self.go(self._place + by)

    def action_page(self, by: int) -> None:
        self.go(self._place + by * max(1, self._rows - 1))

    def action_to(self, row: int) -> None:
        self.go(row if row >= 0 else len(self._order) - 1)

    def action_choose(self) -> None:
        if self._order:
            self.post_message(self.Chosen(self, self.row))

    def action_copy_row(self) -> None:
        """Copy the row to the terminal's clipboard, its columns separated by one space."""
        if self._order:
            cells = self._make(self.row, self.size.width)
            self.app.copy_to_clipboard(" ".join("".join(cell.text for cell in cells).split()))
            self.app.notify("Copied the row (if the terminal allows it: OSC 52)", timeout=3)

    def resized(self) -> None:
        self._redraw()

    def focus_changed(self) -> None:
        self._typing = False
        self._redraw()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        place = self._top + event.y - (1 if self._head else 0)
        if event.button != 1 or event.y >= self.size.height:
            return
        if self._head and event.y == 0:
            self._sort_at(event.x)
        elif place >= len(self._order):
            return
        elif place == self._place and self.has_focus:
            self.action_choose()
        else:
            self.go(place)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.go(self._place + 3)
        event.stop()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.go(self._place - 3)
        event.stop()
