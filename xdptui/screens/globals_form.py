# SPDX-License-Identifier: Apache-2.0
"""A form for a program's global variables: change their values before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget
from textual.widgets import Button, Input, Static

from xdpchain.errors import XdpChainError
from xdpchain.maps.globals import GlobalVariable
from xdptui.screens.dialog import Dialog, button, paragraph

__all__ = ["GlobalsForm"]


class GlobalsForm(Dialog[tuple[str, ...] | None]):
    """Answers with NAME=VALUE for the variables whose initial value differs from the object's, or None.

    ``given`` are such values by name; ``kept`` are sections inherited from a running component, whose
    variables can't be set.
    """

    DEFAULT_CSS = """
    GlobalsForm {
        #box { width: 96; max-height: 100%; }
        #variables { height: auto; max-height: 24; scrollbar-size-vertical: 1; }
        .row { height: 1; }
        .what { width: 34; text-wrap: nowrap; text-overflow: ellipsis; }
        .row Input { width: 1fr; }
        #wrong { height: auto; min-height: 1; color: $error; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "reset", show=False),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "app.focus_previous", show=False),
    ]

    def __init__(
        self,
        program: str,
        variables: Sequence[GlobalVariable],
        given: Mapping[str, str],
        kept: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self._variables, self._given, self._kept = tuple(variables), given, kept
        self.heading = f"Initial global variables of {program}"

    def body(self) -> ComposeResult:
        with VerticalScroll(id="variables", can_focus=False):
            for i, variable in enumerate(self._variables):
                with Horizontal(classes="row"):
                    kind = "constant" if variable.constant else variable.section
                    yield paragraph(f"{variable.name}  ({kind})", classes="what")
                    field = Input(
                        self._given.get(variable.name, variable.text),
                        id=f"v{i}",
                        compact=True,
                        select_on_focus=False,
                    )
                    field.disabled = variable.section in self._kept
                    yield field
        yield paragraph("", id="wrong")
        yield paragraph(self._hint(), classes="dim")

    def _hint(self) -> str:
        if self._kept:
            return f"{', '.join(sorted(self._kept))}: passed on by the running program, with their values."
        return "Numbers can be 0x…; {a=1} sets members and leaves the others as in the object."

    def buttons(self) -> ComposeResult:
        yield button("Cancel (esc)", "cancel")
        yield button("Object's values (ctrl+r)", "reset")
        yield button("Set (ctrl+s)", "set", "primary")

    def first_focus(self) -> Widget | None:
        return (
            next((field for field in self.query(Input) if not field.disabled), None) or super().first_focus()
        )

    def _assignments(self) -> tuple[str, ...]:
        """The values that differ. Raises InvalidInput for a value that does not fit."""
        found = []
        for i, variable in enumerate(self._variables):
            text = self.query_one(f"#v{i}", Input).value.strip()
            if not self.query_one(f"#v{i}", Input).disabled and variable.value(text).data != variable.initial:
                found.append(f"{variable.name}={text}")
        return tuple(found)

    @on(Input.Changed)
    def typed(self) -> None:
        why = ""
        try:
            self._assignments()
        except XdpChainError as error:
            why = f"{error.what}: {error.why}" if error.why else error.what
        self.query_one("#wrong", Static).update(why)
        self.query_one("#set", Button).disabled = bool(why)

    @on(Input.Submitted)
    def entered(self) -> None:
        self.app.action_focus_next()

    def action_set(self) -> None:
        if not self.query_one("#set", Button).disabled:
            self.finish(self._assignments())

    def action_reset(self) -> None:
        for i, variable in enumerate(self._variables):
            self.query_one(f"#v{i}", Input).value = variable.text
