# SPDX-License-Identifier: Apache-2.0
"""The line that shows the position in a replay."""

from __future__ import annotations

from xdptui.view.time_line import TimeView, time_line
from xdptui.widgets.cell_grid import CellGrid

__all__ = ["TimeBar"]


class TimeBar(CellGrid):
    """Below the banner, in a replay."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "TimeBar { height: 1; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._view: TimeView | None = None

    def present(self, view: TimeView) -> None:
        self._view = view
        self.resized()

    def resized(self) -> None:
        if self._view is not None:
            self.paint([time_line(self._view, self.size.width)])
