# SPDX-License-Identifier: Apache-2.0
"""An apply in progress: its steps as they happen, and a way to cancel it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from textual.app import ComposeResult
from textual.widgets import Button, Static

from xdpchain.change.plan import Plan
from xdpchain.model.naming import some
from xdpchain.model.running import Running
from xdptui.screens.dialog import Dialog, button, paragraph

__all__ = ["Applying", "Outcome"]

Outcome = tuple[Running, ...] | Exception


class Applying(Dialog[Outcome]):
    """Answers with what runs afterwards on each interface, or with the error that stopped it (in which case
    nothing was changed on any).
    """

    def __init__(self, plans: Sequence[Plan], confirm: float | None = None) -> None:
        super().__init__()
        self.heading = f"Applying to {some(plan.running.interface.name for plan in plans)}"
        self._plans = plans
        self._confirm = confirm
        self._trouble: list[str] = []
        self._stop = threading.Event()
        self._steps: list[str] = []

    def body(self) -> ComposeResult:
        yield paragraph("starting", id="steps")

    def buttons(self) -> ComposeResult:
        yield button("Cancel (esc)", "back")

    def on_mount(self) -> None:
        super().on_mount()
        self.ask(self._work, self._done, "apply")

    def _work(self) -> tuple[Running, ...]:
        from xdpchain.editing import apply_all

        edited = apply_all(
            self._plans,
            progress=self._begin,
            cancelled=self._stop.is_set,
            confirm=self._confirm,
            warn=self._trouble.append,
        )
        return tuple(each.running for each in edited)

    def _begin(self, step: str) -> None:
        """Called in the thread."""
        self.call_later(self._step, step)

    def _step(self, text: str) -> None:
        self._steps.append(text)
        self.query_one("#steps", Static).update("\n".join(f" • {step}" for step in self._steps[-8:]))

    def _done(self, outcome: Outcome) -> None:
        for text in self._trouble:
            self.app.notify(text, severity="warning", timeout=10)
        self.finish(outcome)

    def action_back(self) -> None:
        # The engine undoes what it began and then reports; the dialog stays until it has.
        if not self._stop.is_set():
            self._stop.set()
            self.query_one("#back", Button).disabled = True
            self._step("cancelling: undoing the steps so far")
