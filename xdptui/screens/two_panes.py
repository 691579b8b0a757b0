# SPDX-License-Identifier: Apache-2.0
"""A dialog with two panes that share its room: the border between them moves by key and mouse, and either
pane can have all of it.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget

from xdptui.screens.dialog import Dialog

__all__ = ["TwoPanes"]

Answer = TypeVar("Answer")

LEAST = 3
"""Minimum rows or columns of a pane."""


class TwoPanes(Dialog[Answer]):
    """Subclasses name the ``panes`` by selector: above and below, or side by side if ``upright``."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus", "grow(1)", show=False),
        Binding("minus", "grow(-1)", show=False),
        Binding("0", "zoom", show=False),
    ]
    panes: ClassVar[tuple[str, str]]
    upright: ClassVar[bool] = False
    _held_at: int | None = None

    def action_grow(self, by: int) -> None:
        """Enlarge the focused pane by ``by`` rows, or four columns for each if ``upright``."""
        by *= 4 if self.upright else 1
        self._move(-by if self._in_second else by)

    def action_zoom(self) -> None:
        """Give the focused pane all the room, or show both again."""
        other = self._both[0 if self._in_second else 1]
        other.display = not other.display

    def show_both(self) -> None:
        for pane in self._both:
            pane.display = True

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if event.button == 1 and all(pane.display for pane in self._both) and self._on_border(event):
            self._held_at = self._along(event)
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._held_at is not None and (by := self._along(event) - self._held_at):
            self._held_at += by
            self._move(by)

    def on_mouse_up(self) -> None:
        if self._held_at is not None:
            self._held_at = None
            self.release_mouse()

    @property
    def _both(self) -> tuple[Widget, Widget]:
        first, second = (self.query_one(selector, Widget) for selector in self.panes)
        return first, second

    @property
    def _in_second(self) -> bool:
        focused = self.focused
        return focused is not None and self._both[1] in focused.ancestors_with_self

    def _along(self, event: events.MouseEvent) -> int:
        return int(event.screen_x if self.upright else event.screen_y)

    def _on_border(self, event: events.MouseEvent) -> bool:
        """Whether the mouse is at the start of the second pane: on its border, or in the gap before it."""
        first, second = (pane.region for pane in self._both)
        if self.upright:
            return first.right <= event.screen_x < max(second.x, first.right + 1) and event.screen_y in range(
                first.y, first.bottom
            )
        return first.bottom <= event.screen_y < max(second.y, first.bottom) + 1

    def _move(self, by: int) -> None:
        first, second = self._both
        if not (first.display and second.display):
            return
        if self.upright:
            room = first.size.width + second.size.width
            share = min(max(first.size.width + by, LEAST), room - LEAST)
            first.styles.width, second.styles.width = f"{share}fr", f"{room - share}fr"
        else:
            room = first.outer_size.height + second.outer_size.height
            share = min(max(first.outer_size.height + by, LEAST), room - LEAST)
            first.styles.max_height = "100%"
            first.styles.height, second.styles.height = f"{share}fr", f"{room - share}fr"
