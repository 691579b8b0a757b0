# SPDX-License-Identifier: Apache-2.0
"""The base of the tables: lines of cells, of which only those that differ are repainted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Offset, Region, Size
from textual.screen import Screen, ScreenResultType
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget

from xdptui.view.cells import Line, changed, in_focus
from xdptui.widgets.cell_styles import cell_style

__all__ = ["CellGrid", "Selecting"]


class CellGrid(Widget):
    """Lines of cells; subclasses make the lines, this class paints the difference. The mouse selects lines
    from ``first_selectable`` on; grids with other uses for dragging set ALLOW_SELECT = False.
    """

    first_selectable: ClassVar[int] = 0
    DEFAULT_CSS = """
    CellGrid {
        width: 1fr;
        background: $background;
        color: $foreground;
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: list[Line] = []
        self._styles_by_name: dict[tuple[str, str], Style] = {}
        self._resizing = False
        """Whether lines of another size are being made: the compositor is about to paint all of them."""
        self.painted = 0
        """Cells painted since the start, for tests and benchmarks."""

    @property
    def lines(self) -> Sequence[Line]:
        """The lines shown."""
        return self._lines

    def watch_has_focus(self, _has_focus: bool) -> None:
        super().watch_has_focus(_has_focus)
        self.focus_changed()  # in on_focus and on_blur, has_focus is still the old one

    def focus_changed(self) -> None:
        """Called when the focus came or went."""

    def resized(self) -> None:
        """Called when the size has changed; makes the lines for it."""

    def _size_updated(
        self, size: Size, virtual_size: Size, container_size: Size, layout: bool = True
    ) -> bool:
        # Textual's event comes after the first frame of the new size: the start would paint an empty screen
        # first, and each resize the lines of the former size.
        before = self._size
        tell = super()._size_updated(size, virtual_size, container_size, layout)
        if self._size != before:
            self._resizing = True
            self.resized()
            self._resizing = False
        return tell

    def headed(self, head: Line) -> Line:
        """The heading, marked while this has the focus."""
        return in_focus(head) if self.has_focus else head

    def paint(self, lines: Sequence[Line]) -> None:
        """Show these lines; unchanged cells are left alone."""
        old, self._lines = self._lines, list(lines)
        if self._resizing:
            return
        regions = []
        for y, line in enumerate(self._lines):
            for x, width in changed(old[y] if y < len(old) else None, line):
                regions.append(Region(x, y, width, 1))
        for y in range(len(self._lines), len(old)):
            regions.append(Region(0, y, self.size.width, 1))
        if regions:
            self.painted += sum(region.width for region in regions)
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        line = self._lines[y]
        segments = [
            Segment(cell.text, self._style(line.tone, cell.style)) for cell in line.cells if cell.text
        ]
        strip = Strip(segments, line.width).adjust_cell_length(width, self._style(line.tone, ""))
        selected = self.text_selection
        if selected is None or (span := selected.get_span(y)) is None:
            return strip
        start, end = span[0], width if span[1] < 0 else span[1]
        marked = self.screen.get_component_rich_style("screen--selection", partial=True)
        cut = strip.divide([start, end, width])
        return Strip.join([part.apply_style(marked) if i == 1 else part for i, part in enumerate(cut)])

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        lines = (line.text for line in self._lines)
        return "\n".join(line.rstrip() for line in selection.extract("\n".join(lines)).splitlines()), "\n"

    def text_select_all(self) -> None:
        """A double click selects nothing here."""

    def _style(self, tone: str, name: str) -> Style:
        style = self._styles_by_name.get((tone, name))
        if style is None:
            variables, ansi = self.app.theme_variables, self.app.native_ansi_color
            style = (
                self.rich_style
                + cell_style(tone, variables, ansi=ansi)
                + cell_style(name, variables, ansi=ansi)
            )
            self._styles_by_name[tone, name] = style
        return style

    def notify_style_update(self) -> None:
        self._styles_by_name.clear()
        super().notify_style_update()


class Selecting(Screen[ScreenResultType]):
    """A screen whose cells can be selected. Textual's own way, with each cell's offset in its style, would
    give every cell a different style, and cost more bytes on the wire.
    """

    def get_widget_and_offset_at(self, x: int, y: int) -> tuple[Widget | None, Offset | None]:
        widget, offset = super().get_widget_and_offset_at(x, y)
        if not isinstance(widget, CellGrid):
            return widget, offset
        place = Offset(x, y) - widget.region.offset
        return (widget, place) if place.y >= widget.first_selectable else (None, None)
