# SPDX-License-Identifier: Apache-2.0
"""Five toggles for a set of actions, for dialogs."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from xdpchain.model.actions import ALL_ACTIONS, Action, ActionSet
from xdptui.view.cells import Cell, Line
from xdptui.widgets.cell_grid import CellGrid

__all__ = ["ActionToggles"]


class ActionToggles(CellGrid, can_focus=True):
    """Left and right move, space and the letters toggle, as does a click."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    ActionToggles { height: 1; width: 20; background: $surface; }
    ActionToggles:focus { background: $row; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "pick(-1)", show=False),
        Binding("right", "pick(1)", show=False),
        Binding("space,enter", "flip", show=False),
        *(Binding(f"{a.letter},{a.letter.lower()}", f"flip('{a.letter}')", show=False) for a in ALL_ACTIONS),
    ]

    class Changed(Message):
        """The set of actions changed."""

        def __init__(self, actions: ActionSet) -> None:
            super().__init__()
            self.actions = actions

    def __init__(self, actions: ActionSet, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._actions = actions
        self._picked = Action.PASS

    @property
    def actions(self) -> ActionSet:
        return self._actions

    @actions.setter
    def actions(self, actions: ActionSet) -> None:
        self._actions = actions
        self._redraw()

    def _redraw(self) -> None:
        cells = []
        for action in ALL_ACTIONS:
            on = action in self._actions
            style = f"on-{action.letter}" if on else "off"
            if self.has_focus and action is self._picked:
                style = "picked"
            cells += [Cell(f" {action.letter}{'✓' if on else '·'}", style), Cell(" ")]
        self.paint([Line(tuple(cells))])

    def on_mount(self) -> None:
        self._redraw()

    def focus_changed(self) -> None:
        self._redraw()

    def action_pick(self, by: int) -> None:
        place = ALL_ACTIONS.index(self._picked) + by
        self._picked = ALL_ACTIONS[max(0, min(len(ALL_ACTIONS) - 1, place))]
        self._redraw()

    def action_flip(self, letter: str = "") -> None:
        if letter:
            self._picked = Action.parse(letter)
        self.actions = self._actions.toggle(self._picked)
        self.post_message(self.Changed(self._actions))

    def on_click(self, event: events.Click) -> None:
        place = event.x // 4
        if 0 <= place < len(ALL_ACTIONS):
            self.action_flip(ALL_ACTIONS[place].letter)
