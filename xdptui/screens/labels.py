# SPDX-License-Identifier: Apache-2.0
"""The labels of a slot, on one line."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.widgets import Button, Input, Static

from xdpchain.errors import InvalidInput
from xdpchain.model.labels import changed_labels, labels_change, labels_text, parse_labels
from xdpchain.model.slot import Slot
from xdptui.screens.dialog import Dialog, paragraph
from xdptui.words.advice import told

__all__ = ["LabelsDialog"]


class LabelsDialog(Dialog[dict[str, str] | None]):
    """Answers with the argument for `Chain.label`, or None."""

    DEFAULT_CSS = "LabelsDialog Input { margin: 1 0; }"
    first = "#labels"
    primary = ("Set (ctrl+s)", "set")

    def __init__(self, slot: Slot) -> None:
        super().__init__()
        self._before = slot.labels
        self.heading = f"Labels of {slot.name}"

    def body(self) -> ComposeResult:
        yield paragraph("KEY=VALUE, separated by commas or spaces. Labels not on the line are removed.")
        yield Input(labels_text(self._before), placeholder="team=edge, tier=1", id="labels")
        yield paragraph("", id="outcome")

    def _change(self) -> dict[str, str]:
        """The labels that change. Raises InvalidInput."""
        words = self.query_one("#labels", Input).value.replace(",", " ").split()
        return labels_change(self._before, changed_labels((), parse_labels(words)))

    @on(Input.Changed, "#labels")
    def preview(self) -> None:
        try:
            change = self._change()
        except InvalidInput as error:
            text, fits = told(error, keys=True), False
        else:
            after = labels_text(changed_labels(self._before, change)) or "none"
            text, fits = f"Its labels: {after}." if change else "No change.", bool(change)
        self.query_one("#outcome", Static).update(text)
        self.query_one("#set", Button).disabled = not fits

    @on(Input.Submitted, "#labels")
    def entered(self) -> None:
        self.query_one("#set", Button).press()

    def action_set(self) -> None:
        self.finish(self._change())
