# SPDX-License-Identifier: Apache-2.0
"""A question whose harmless answer is the default."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Button, Input

from xdptui.screens.dialog import Dialog, button, paragraph

__all__ = ["APPLY", "Confirm"]

APPLY = "Apply"
"""The yes that the key ``a`` gives, too, as on the main screen and in the plan."""


class Confirm(Dialog[bool]):
    """True only if the user chose ``yes`` and, where ``demand`` is given, typed exactly that."""

    DEFAULT_CSS = """
    Confirm Input { margin: 1 0 0 0; }
    Confirm.-low Input { margin: 0; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "yes", show=False),
        Binding("a", "apply", show=False),
    ]

    def __init__(
        self,
        heading: str,
        lines: tuple[str, ...],
        yes: str,
        no: str,
        *,
        demand: str = "",
        danger: bool = True,
    ) -> None:
        super().__init__(classes="-danger" if danger else None)
        self.heading = heading
        self._lines = lines
        self._yes, self._no = yes, no
        self._demand = demand

    def body(self) -> ComposeResult:
        for i, line in enumerate(self._lines):
            yield paragraph(line, classes="strong" if i == 0 else "gap")
        if self._demand:
            yield paragraph(f"Type {self._demand} to continue:", classes="gap")
            yield Input(id="typed", select_on_focus=False)

    def buttons(self) -> ComposeResult:
        yield button(f"{self._no} (esc)", "no")
        keys = "a or y" if self._applies else "y"
        yes = button(self._yes if self._demand else f"{self._yes} ({keys})", "yes", "error")
        yes.disabled = bool(self._demand)
        yield yes

    def first_focus(self) -> Widget | None:
        return self.query_one("#typed") if self._demand else super().first_focus()

    def dismissed(self) -> bool:
        return False

    @property
    def _applies(self) -> bool:
        """Whether the key that applies elsewhere answers yes."""
        return self._yes == APPLY and not self._demand

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("apply", "yes"):
            return self._applies if action == "apply" else not self._demand
        return super().check_action(action, parameters)

    def action_apply(self) -> None:
        self.action_yes()

    def action_yes(self) -> None:
        if not self._demand:
            self.finish(True)

    @on(Input.Changed, "#typed")
    def typed(self, event: Input.Changed) -> None:
        self.query_one("#yes", Button).disabled = event.value.strip() != self._demand

    @on(Input.Submitted, "#typed")
    def entered(self) -> None:
        # Enter in the field only moves to the button: the change itself takes a second, deliberate key.
        yes = self.query_one("#yes", Button)
        self.set_focus(self.query_one("#no", Button) if yes.disabled else yes)

    def pressed(self, id: str) -> None:
        self.finish(id == "yes" and not self.query_one("#yes", Button).disabled)
