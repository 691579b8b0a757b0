# SPDX-License-Identifier: Apache-2.0
"""The keys that work now, grouped and searchable, and what the letters, signs and columns mean."""

from __future__ import annotations

from itertools import zip_longest
from textwrap import wrap
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, Static

from xdptui.screens.dialog import Dialog, button, paragraph
from xdptui.view.help_lines import Mode, help_blocks
from xdptui.widgets.filter_line import FilterLine

__all__ = ["HelpScreen"]

TWO_COLUMNS = 118
"""Terminal columns from which the help has two columns."""
FRAME, GAP, LABEL = 8, 2, 12


class HelpScreen(Dialog[None]):
    """``mode`` is the main screen's mode; typing after / keeps only the lines that contain these words."""

    DEFAULT_CSS = """
    HelpScreen #box { width: 84; }
    HelpScreen.-wide #box { width: 160; }
    HelpScreen #needle { display: none; }
    HelpScreen #lines { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", show=False),
        Binding("space", "scroll(0, 1)", show=False),
    ]
    heading = "Keys"
    first = "#close"

    def __init__(self, mode: Mode | None = None) -> None:
        super().__init__()
        self._mode = mode or Mode()
        self._needle = ""

    def body(self) -> ComposeResult:
        yield FilterLine(id="needle", placeholder="search: words in a key or its description; esc clears")
        yield paragraph("", id="lines")

    def buttons(self) -> ComposeResult:
        yield button("Search (/)", "filter")
        yield button("Close (esc)", "close")

    def on_mount(self) -> None:
        super().on_mount()
        self._show()

    def on_resize(self) -> None:
        super().on_resize()
        self._show()

    def _show(self) -> None:
        wide = self.app.size.width >= TWO_COLUMNS
        self.set_class(wide, "-wide")
        width = min(160 if wide else 84, self.app.size.width) - FRAME
        blocks = help_blocks(self._mode, self._needle)
        if not blocks:
            self.query_one("#lines", Static).update(Content(f"No key and no sign matches {self._needle!r}."))
            return
        half = (width - GAP) // 2 if wide else width
        columns = [[row for line in block for row in _rows(line, half)] for block in blocks]
        middle = _middle([len(column) for column in columns]) if wide else len(columns)
        left = [row for column in columns[:middle] for row in column]
        right = [row for column in columns[middle:] for row in column]
        rows = []
        for content, two in zip_longest(left, right, fillvalue=Content("")):
            rows.append(
                Content.assemble(content, " " * (half - content.cell_length + GAP), two) if right else content
            )
        self.query_one("#lines", Static).update(Content("\n").join(rows))

    def action_filter(self) -> None:
        self.query_one(FilterLine).open()

    @on(Input.Changed, "#needle")
    def typed(self, event: Input.Changed) -> None:
        self._needle = event.value
        self._show()

    @on(FilterLine.Closed)
    def filtered(self, event: FilterLine.Closed) -> None:
        self.query_one(FilterLine).close(event.clear)
        self.set_focus(self.query_one("#close"))

    def action_keys(self) -> None:
        self.finish(None)


def _rows(line: tuple[str, str], width: int) -> list[Content]:
    """A line in as many rows as it takes; a heading if the label has no text beside it."""
    label, words = line
    if not words:
        return [Content.styled(label, "bold $primary")]
    texts = wrap(words, max(10, width - LABEL - 3), break_on_hyphens=False)
    return [
        Content.assemble((f"  {label if i == 0 else '':<{LABEL}} ", "bold"), text)
        for i, text in enumerate(texts)
    ]


def _middle(sizes: list[int]) -> int:
    """Where to begin the second column, so that both are about the same length."""
    best = min(range(len(sizes) + 1), key=lambda i: max(sum(sizes[:i]), sum(sizes[i:])))
    return max(1, best)
