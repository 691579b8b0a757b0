# SPDX-License-Identifier: Apache-2.0
"""What a slot may return, and the answer to anything else."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.widgets import Button, Static

from xdpchain.errors import InvalidInput
from xdpchain.model.actions import ALL_ACTIONS, ActionSet
from xdpchain.model.policy import Answer, Policy
from xdpchain.model.slot import Slot
from xdptui.screens.dialog import Dialog, paragraph
from xdptui.widgets.action_toggles import ActionToggles
from xdptui.widgets.one_of import OneOf
from xdptui.words.advice import told

__all__ = ["PolicyDialog"]

EVERYTHING = ActionSet.of(*ALL_ACTIONS)
WORDS = {
    Answer.AS_IS: "keep it (count and report it)",
    Answer.DROP: "replace it with XDP_DROP",
    Answer.PASS: "replace it with XDP_PASS",
}


class PolicyDialog(Dialog[tuple[Policy | None] | None]):
    """Answers with a tuple that holds the policy (or None: anything is allowed); None: nothing was
    decided.
    """

    DEFAULT_CSS = """
    PolicyDialog ActionToggles { margin: 1 0; }
    PolicyDialog #outcome { margin: 1 0 0 0; }
    """
    first = "#may"
    primary = ("Set (ctrl+s)", "set")

    def __init__(self, slot: Slot, index: int) -> None:
        super().__init__()
        self._before = slot.policy
        self.heading = f"What {slot.name} may return (slot {index})"

    def body(self) -> ComposeResult:
        may = self._before.may if self._before else EVERYTHING
        answer = self._before.otherwise if self._before else Answer.AS_IS
        yield paragraph("It may return these actions. All five: no policy.")
        yield ActionToggles(may, id="may")
        yield paragraph("If it returns anything else:")
        yield OneOf([WORDS[choice] for choice in Answer], list(Answer).index(answer), id="answer")
        yield paragraph("", id="outcome")

    def on_mount(self) -> None:
        super().on_mount()
        self.preview()

    def _policy(self) -> Policy | None:
        """The policy as entered. Raises InvalidInput."""
        may = self.query_one(ActionToggles).actions
        answer = tuple(Answer)[self.query_one(OneOf).chosen]
        return None if may == EVERYTHING else Policy(may, answer)

    @on(ActionToggles.Changed)
    @on(OneOf.Chosen)
    def preview(self) -> None:
        try:
            policy = self._policy()
        except InvalidInput as error:
            text, fits = told(error, keys=True), False
        else:
            text, fits = f"It {policy}." if policy else "It may return anything.", policy != self._before
        self.query_one("#outcome", Static).update(text)
        self.query_one("#set", Button).disabled = not fits

    def action_set(self) -> None:
        self.finish((self._policy(),))
