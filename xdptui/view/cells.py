# SPDX-License-Identifier: Apache-2.0
"""Lines made of fixed-width cells, and what to repaint when one line replaces another. Pure.

Over ssh, repainting is what costs. Widgets therefore hand over whole lines, and only the cells that differ
reach the terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

__all__ = ["DOWN", "UP", "Cell", "Line", "changed", "clip", "in_focus", "left", "message", "right", "size_of"]


UP, DOWN = "▲", "▼"
"""Beside the heading of the sort column: smallest first, largest first."""


FOCUS = "■"
"""In the heading of the pane that has the focus."""


class Cell(NamedTuple):
    """Text of a fixed width, and the name of its style."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Line:
    """Cells from left to right; ``tone`` names the background of the whole line."""

    cells: tuple[Cell, ...] = ()
    tone: str = ""

    @cached_property
    def text(self) -> str:
        return "".join(cell.text for cell in self.cells)

    @property
    def width(self) -> int:
        return size_of(self.text)


def size_of(text: str) -> int:
    """How many terminal columns a text takes: some characters take two."""
    return len(text) if text.isascii() else cell_len(text)


def clip(text: str, width: int) -> str:
    """``text`` in at most ``width`` columns; truncation shows as an ellipsis, control characters as ``?``."""
    clean = text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
    if size_of(clean) <= width:
        return clean
    return set_cell_size(clean, width - 1).rstrip() + "…" if width > 0 else ""


def left(text: str, width: int, style: str = "") -> Cell:
    """A cell of exactly ``width`` columns, aligned left."""
    shown = clip(text, width)
    return Cell(shown + " " * max(0, width - size_of(shown)), style)


def right(text: str, width: int, style: str = "") -> Cell:
    """A cell of exactly ``width`` columns, aligned right."""
    shown = clip(text, width)
    return Cell(" " * max(0, width - size_of(shown)) + shown, style)


def message(text: str, width: int, style: str = "note") -> list[Line]:
    """A text wrapped into lines, with a margin of two columns."""
    lines: list[Line] = []
    for paragraph in text.splitlines():
        row = ""
        for word in paragraph.split():
            if row and len(row) + 1 + len(word) > width - 4:
                lines.append(Line((left("  " + row, width, style),)))
                row = word
            else:
                row = f"{row} {word}" if row else word
        lines.append(Line((left("  " + row, width, style),)))
    return lines


def in_focus(head: Line) -> Line:
    """The heading of the pane that has the focus: a sign in its blank first column, and a style."""
    first = head.cells[0] if head.cells else Cell("")
    if not first.text.startswith(" "):
        return Line(head.cells, "head-focused")
    return Line((Cell(FOCUS, "pointer"), Cell(first.text[1:], first.style), *head.cells[1:]), "head-focused")


def changed(old: Line | None, new: Line) -> list[tuple[int, int]]:
    """The (x, width) stretches of ``new`` that differ from ``old``; adjacent ones are merged."""
    whole = [(0, new.width)] if new.width else []
    if old is None or old.tone != new.tone or len(old.cells) != len(new.cells):
        return whole
    found: list[tuple[int, int]] = []
    x = 0
    for was, now in zip(old.cells, new.cells, strict=True):
        size = size_of(now.text)
        if size_of(was.text) != size:
            return whole
        if was != now:
            if found and sum(found[-1]) == x:
                found[-1] = (found[-1][0], found[-1][1] + size)
            else:
                found.append((x, size))
        x += size
    return found
