# SPDX-License-Identifier: Apache-2.0
"""Choose the object file of the program on the hook, and check that it is that program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.widgets import Button

from xdpchain.model.chain import Chain
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdptui.screens.dialog import button
from xdptui.screens.load import Choice, LoadDialog, objection
from xdptui.widgets.row_list import RowList

if TYPE_CHECKING:
    from xdpchain.change.adoption import Adoption

__all__ = ["AdoptDialog"]


class AdoptDialog(LoadDialog):
    """Answers with a Choice whose component has the running maps; ``adoption`` is the proof."""

    def __init__(self, running: Running, directory: str | None = None) -> None:
        super().__init__(running, Chain(mode=running.mode or Mode.NATIVE), directory=directory)
        self.adoption: Adoption | None = None
        hook = running.hook
        name = f"{hook.name} (id {hook.prog_id})" if hook else "the program"
        self.heading = f"Adopt {name} on {running.interface.name}: its object file"

    @property
    def settles(self) -> bool:
        return False

    def buttons(self) -> ComposeResult:
        yield button("Cancel (esc)", "cancel")
        for label, id, variant in (("Try it (ctrl+t)", "trial", ""), ("Adopt (ctrl+s)", "add", "primary")):
            made = button(label, id, variant or "default")
            made.disabled = True
            yield made

    def _judge(self) -> None:
        source, running = self._object, self._target
        if source is None:
            return
        self.adoption = None

        def work() -> Adoption:
            from xdpchain.change.adoption import adoption_of

            return adoption_of(running, source)

        self.ask(work, self._compared, "judge")

    def _compared(self, outcome: Adoption | Exception) -> None:
        from xdpchain.change.checks import Finding

        if isinstance(outcome, Exception):
            self._findings = (objection(outcome),)
        else:
            self.adoption, self._component = outcome, outcome.component
            self._findings = tuple(Finding("ok", note) for note in outcome.notes)
            self._mark(outcome.component.name)
        self._show()

    def _show(self) -> None:
        super()._show()
        if self.adoption is None:  # nothing is proved yet
            for name in ("#trial", "#add"):
                self.query_one(name, Button).disabled = True

    def _mark(self, name: str) -> None:
        """Move the list's cursor to the matching program."""
        places = [spec.name for spec in self._programs]
        self.query_one("#programs", RowList).row = places.index(name)

    def _choice(self) -> Choice | None:
        if self.adoption is None:
            return None
        return Choice(Slot.of(self.adoption.component), None, self._mode)
