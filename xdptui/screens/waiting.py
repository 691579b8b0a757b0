# SPDX-License-Identifier: Apache-2.0
"""Quitting with a pending change: confirm it, roll it back, or leave it to its deadline?"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from xdptui.screens.dialog import Dialog, button, paragraph

__all__ = ["WaitingDialog"]

Answer = Literal["keep", "back", "leave"]

PERIOD = 0.5
"""Seconds between two updates of the time left."""


class WaitingDialog(Dialog[Answer | None]):
    """Answers with what to do before the program ends, or None: keep running. ``lines`` lists the pending
    changes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("C", "answer('keep')", show=False),
        Binding("B", "answer('back')", show=False),
        Binding("q,ctrl+q,ctrl+c", "answer('leave')", show=False),
    ]

    def __init__(self, heading: str, lines: Callable[[], tuple[str, ...]]) -> None:
        super().__init__(classes="-danger")
        self.heading = heading
        self._lines = lines

    def body(self) -> ComposeResult:
        yield paragraph("\n".join(self._lines()), id="waiting", classes="strong")
        yield paragraph("C keeps it, B rolls it back, q leaves it to roll back.", classes="gap")

    def buttons(self) -> ComposeResult:
        yield button("Stay (esc)", "cancel")
        yield button("Keep (C)", "keep")
        yield button("Roll back (B)", "back")
        yield button("Leave (q)", "leave", "error")

    def on_mount(self) -> None:
        super().on_mount()
        self.set_interval(PERIOD, self._count_down)

    def _count_down(self) -> None:
        self.query_one("#waiting", Static).update(Content("\n".join(self._lines())))

    def action_answer(self, answer: Answer) -> None:
        self.finish(answer)

    def pressed(self, id: str) -> None:
        self.finish(None if id == "cancel" else cast("Answer", id))
