# SPDX-License-Identifier: Apache-2.0
"""A command palette that answers once.

Textual's (8.2.8) repeats everything for each press of enter still queued when it closes: it removes the
screen underneath, which ends the program, and runs the command a second time.
"""

from __future__ import annotations

from textual.await_complete import AwaitComplete
from textual.command import CommandPalette
from textual.message import Message
from textual.widgets import Input, OptionList

__all__ = ["Palette"]


class Palette(CommandPalette):
    """The same, but everything after the first choice is ignored."""

    _gone = False

    def dismiss(self, result: object = None) -> AwaitComplete:
        if self._gone or self.app.screen is not self:
            return AwaitComplete()
        self._gone = True
        self.call_next(self._forget)
        return super().dismiss(result)  # type: ignore[arg-type]

    def _forget(self) -> None:
        self._selected_command = None

    def check_message_enabled(self, message: Message) -> bool:
        late = self._gone and isinstance(message, (Input.Submitted, OptionList.OptionSelected))
        return not late and super().check_message_enabled(message)
