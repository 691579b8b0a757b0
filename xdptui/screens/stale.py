# SPDX-License-Identifier: Apache-2.0
"""Another editor changed the chain under the candidate: what to do?"""

from __future__ import annotations

from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from xdpchain.change.differences import Change
from xdpchain.model.running import Running
from xdptui.screens.dialog import Dialog, button, paragraph
from xdptui.screens.plan import change_line

__all__ = ["StaleDialog"]


class StaleDialog(Dialog[Literal["drop", "rebase"] | None]):
    """Answers ``drop``, ``rebase``, or None to keep looking."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "drop", show=False),
        Binding("b", "rebase", show=False),
    ]

    def __init__(self, running: Running, changes: tuple[Change, ...], mine: int) -> None:
        super().__init__(classes="-danger")
        self.heading = f"Somebody else changed {running.interface.name}"
        self._target, self._changes, self._mine = running, changes, mine

    def body(self) -> ComposeResult:
        running = self._target
        if running.hook is None:
            now = "No XDP program runs there now."
        else:
            whose = f"{running.owner or 'an unknown owner'}'s {running.hook.name}"
            now = f"Now {whose} (id {running.hook.prog_id}) runs there."
        yield paragraph("Your candidate is based on a chain that no longer runs.", classes="strong")
        yield paragraph(now, id="whose")
        for i, change in enumerate(self._changes):
            yield paragraph(change_line(change), classes="gap" if i == 0 else None)
        if self._rebasable:
            yield paragraph(
                f"Rebase repeats your {self._mine} change{'s' * (self._mine != 1)} on what runs now.",
                classes="gap",
            )
        else:
            yield paragraph(f"There is nothing to rebase on. {running.note}", classes="gap")

    def on_mount(self) -> None:
        super().on_mount()
        if self._target.hook is not None:
            self.ask(self._whose, self._say_whose, "whose")

    def _whose(self) -> str:
        from xdpchain.observe.hook import author_of

        return author_of(self._target)

    def _say_whose(self, text: str | Exception) -> None:
        if not isinstance(text, Exception):  # otherwise what it says already stays
            self.query_one("#whose", Static).update(Content(f"{text[:1].upper()}{text[1:]}."))

    @property
    def _rebasable(self) -> bool:
        return self._target.editable

    def buttons(self) -> ComposeResult:
        yield button("Keep looking (esc)", "cancel")
        if self._rebasable:
            yield button("Rebase (b)", "rebase", "primary")
        yield button("Discard mine (d)", "drop", "error")

    def action_drop(self) -> None:
        self.finish("drop")

    def action_rebase(self) -> None:
        if self._rebasable:
            self.finish("rebase")
