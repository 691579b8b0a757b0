# SPDX-License-Identifier: Apache-2.0
"""Native or generic: a choice of two, with brackets around the current one."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from xdpchain.model.interface import Mode
from xdptui.view.cells import Cell, Line
from xdptui.widgets.cell_grid import CellGrid

__all__ = ["ModeChoice"]

MODES = (Mode.NATIVE, Mode.GENERIC)


class ModeChoice(CellGrid, can_focus=True):
    """Left and right choose, space and a click switch to the other."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    ModeChoice { height: 1; width: 22; background: $surface; }
    ModeChoice:focus { background: $row; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "choose(0)", show=False),
        Binding("right", "choose(1)", show=False),
        Binding("space,enter", "other", show=False),
    ]

    class Changed(Message):
        """Another mode was chosen."""

        def __init__(self, mode: Mode) -> None:
            super().__init__()
            self.mode = mode

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._mode = Mode.NATIVE

    @property
    def mode(self) -> Mode:
        return self._mode

    def _redraw(self) -> None:
        cells = []
        for mode in MODES:
            on = mode is self._mode
            style = ("picked" if self.has_focus else "on-P") if on else "plain"
            cells += [Cell(f"[{mode}]" if on else f" {mode} ", style), Cell(" ")]
        self.paint([Line(tuple(cells))])

    def on_mount(self) -> None:
        self._redraw()

    def focus_changed(self) -> None:
        self._redraw()

    def action_choose(self, place: int) -> None:
        if self._mode is not MODES[place]:
            self._mode = MODES[place]
            self._redraw()
            self.post_message(self.Changed(self._mode))

    def action_other(self) -> None:
        self.action_choose(1 - MODES.index(self._mode))

    def on_click(self, event: events.Click) -> None:
        self.action_choose(0 if event.x < len(MODES[0]) + 3 else 1)
