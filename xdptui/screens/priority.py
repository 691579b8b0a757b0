# SPDX-License-Identifier: Apache-2.0
"""A new run priority for a slot."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.validation import Integer
from textual.widgets import Button, Input, Static

from xdpchain.model.chain import Chain
from xdpchain.model.runconfig import MAX_PRIORITY
from xdptui.screens.dialog import Dialog, paragraph

__all__ = ["PriorityDialog"]


class PriorityDialog(Dialog[int | None]):
    """Answers with the priority, or None; shows meanwhile where the slot would be."""

    DEFAULT_CSS = "PriorityDialog Input { margin: 1 0; }"
    first = "#priority"
    primary = ("Set (ctrl+s)", "set")

    def __init__(self, chain: Chain, index: int) -> None:
        super().__init__()
        slot = chain.slots[index]
        self._chain, self._index = chain, index
        self.heading = f"Run priority of {slot.name}"

    def body(self) -> ComposeResult:
        slot = self._chain.slots[self._index]
        yield paragraph(f"Lower runs first. The program declares {slot.component.declared.priority}.")
        yield Input(
            str(slot.priority),
            type="integer",
            id="priority",
            validators=[Integer(0, MAX_PRIORITY, f"The priority must be 0 to {MAX_PRIORITY}.")],
        )
        yield paragraph("", id="outcome")

    @on(Input.Changed, "#priority")
    def preview(self, event: Input.Changed) -> None:
        value = self._value()
        if value is None:
            text = f"The priority must be a whole number from 0 to {MAX_PRIORITY}."
        else:
            key = self._chain.slots[self._index].key
            place = self._chain.retune(self._index, priority=value).position(key)
            text = f"It stays slot {place}." if place == self._index else f"It becomes slot {place}."
        self.query_one("#outcome", Static).update(text)
        self.query_one("#set", Button).disabled = value is None

    def _value(self) -> int | None:
        try:
            value = int(self.query_one("#priority", Input).value)
        except ValueError:
            return None
        return value if 0 <= value <= MAX_PRIORITY else None

    @on(Input.Submitted, "#priority")
    def action_set(self) -> None:
        value = self._value()
        if value is not None:
            self.finish(value)
