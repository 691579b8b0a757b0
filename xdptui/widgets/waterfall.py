# SPDX-License-Identifier: Apache-2.0
"""The waterfall below the chain."""

from __future__ import annotations

from xdptui.view.cells import Cell, Line, left, message, right
from xdptui.view.waterfall import Flow
from xdptui.view.waterfall_lines import waterfall_lines
from xdptui.widgets.pane import Pane

__all__ = ["Waterfall"]


class Waterfall(Pane):
    """Received, after each slot, and the five outcomes; a note if nothing is known."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._flow: Flow | None = None
        self._unit = ""
        self._note = ""
        self._numbered = True

    def present(self, flow: Flow | None, unit: str, note: str, *, numbered: bool = True) -> None:
        self._flow, self._unit, self._note, self._numbered = flow, unit, note, numbered
        self.resized()

    def resized(self) -> None:
        width, rows = self.size.width, self.size.height - 1
        if rows < 0 or width <= 0:
            return
        title = left(" waterfall", width // 2)
        lines = [Line((title, Cell(""), right(f"{self._unit} ", width - width // 2)), "head")]
        if self._flow is not None:
            lines += waterfall_lines(self._flow, width, rows, numbered=self._numbered)
        else:
            lines += message(self._note, width)[:rows]
        self.paint(lines)
