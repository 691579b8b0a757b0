# SPDX-License-Identifier: Apache-2.0
"""The chain: draggable slots, clickable toggles, live counters."""

from __future__ import annotations

from dataclasses import replace

from textual import events
from textual.message import Message

from xdpchain.model.actions import Action
from xdptui.view.cells import Line, message
from xdptui.view.chain_lines import ChainView, heading, slot_lines
from xdptui.widgets.pane import Pane

__all__ = ["ChainTable"]


class ChainTable(Pane, can_focus=True):
    """One or two lines per slot. Changes nothing itself: it reports what the user asked for."""

    ALLOW_SELECT = False

    class Picked(Message):
        """The mouse placed the cursor."""

        def __init__(self, slot: int, action: Action | None = None) -> None:
            super().__init__()
            self.slot, self.action = slot, action

    class Toggled(Picked):
        """A toggle was clicked."""

    class Opened(Picked):
        """A slot was double-clicked."""

    class PriorityAsked(Picked):
        """A priority was double-clicked."""

    class Moved(Message):
        """A slot was dragged from one place to another."""

        def __init__(self, source: int, target: int) -> None:
            super().__init__()
            self.source, self.target = source, target

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.movable = True
        self._view = ChainView()
        self._note = ""
        self._two = False
        self._top = 0

    @property
    def view(self) -> ChainView:
        return self._view

    @property
    def dragging(self) -> bool:
        return self._view.drag is not None

    def present(self, view: ChainView, note: str, *, two: bool, movable: bool) -> None:
        """Show this chain, with two lines per slot if ``two``; ``note`` is shown if there are no slots."""
        drag = self._view.drag
        if drag and view.chain != self._view.chain:
            # Something else changed the chain during the drag: there is nothing left to put down.
            drag = None
            self.release_mouse()
        self._view = replace(view, focused=self.has_focus, drag=drag)
        self._note, self._two, self.movable = note, two, movable
        self._redraw()

    def _redraw(self) -> None:
        width, rows = self.size.width, self.size.height - 1
        if rows < 0 or width <= 0:
            return
        cols = self._view.columns(width)
        each = 2 if self._two else 1
        groups = slot_lines(self._view, cols, self._two)
        starts: list[int] = []
        flat: list[Line] = []
        for group in groups:
            starts.append(len(flat))
            flat += group
        if groups:
            here = starts[min(self._view.cursor, len(starts) - 1)]
            self._top = max(here + each - rows, min(self._top, here))
        self._top = max(0, min(self._top, len(flat) - rows))
        lines = [self.headed(heading(cols, self._view.shown, self._two, self._view.picked))]
        lines += flat[self._top : self._top + rows]
        if self._note and rows - len(flat) > 0:
            lines += message(self._note, width)[: rows - len(flat)]
        self.paint(lines)

    def resized(self) -> None:
        self._redraw()

    def focus_changed(self) -> None:
        self._view = replace(self._view, focused=self.has_focus)
        self._redraw()

    def _slot_at(self, y: int) -> int | None:
        """The slot whose line is at this row of the widget, None if there is none."""
        place = (y - 1 + self._top) // (2 if self._two else 1)
        return place if y >= 1 and 0 <= place < len(self._view.chain) else None

    # Dragging: a press captures the mouse, moves show where the slot would go. The only exit is the release,
    # which comes when the button is let go, when a dialog takes the mouse away, and on escape.

    def on_mouse_down(self, event: events.MouseDown) -> None:
        slot = self._slot_at(event.y)
        if event.button != 1 or slot is None:
            return
        event.stop()
        action = self._view.columns(self.size.width).action_at(event.x) if self._first_line(event.y) else None
        if action is not None:
            self.post_message(self.Toggled(slot, action))
            return
        self.post_message(self.Picked(slot))
        if self.movable:
            self._view = replace(self._view, slot=slot, drag=(slot, slot))
            self.capture_mouse()
            self._redraw()

    def _first_line(self, y: int) -> bool:
        return not self._two or (y - 1 + self._top) % 2 == 0

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._view.drag is None:
            return
        y = int(event.screen_y) - self.region.y
        place = (y - 1 + self._top) // (2 if self._two else 1)
        target = max(0, min(len(self._view.chain) - 1, place))
        source, before = self._view.drag
        if target != before:
            self._view = replace(self._view, drag=(source, target))
            self._redraw()

    def on_mouse_up(self, event: events.MouseUp) -> None:
        if self.dragging:
            self.release_mouse()

    def on_mouse_release(self, event: events.MouseRelease) -> None:
        drag = self._view.drag
        if drag is None:
            return
        self._view = replace(self._view, drag=None)
        self._redraw()
        if drag[0] != drag[1]:
            self.post_message(self.Moved(*drag))

    def cancel_drag(self) -> bool:
        """Put the slot back where it was; False if none is being dragged."""
        if self._view.drag is None:
            return False
        self._view = replace(self._view, drag=None)
        self.release_mouse()
        self._redraw()
        return True

    def on_click(self, event: events.Click) -> None:
        slot = self._slot_at(event.y)
        cols = self._view.columns(self.size.width)
        if event.chain != 2 or slot is None or cols.action_at(event.x) is not None:
            return
        asked = self.PriorityAsked if cols.on_priority(event.x) else self.Opened
        self.post_message(asked(slot))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.post_message(self.Picked(self._view.slot + 1))
        event.stop()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.post_message(self.Picked(self._view.slot - 1))
        event.stop()
