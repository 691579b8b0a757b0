# SPDX-License-Identifier: Apache-2.0
"""The command palette, which goes once.

Textual's (8.2.8) takes whatever screen is on top away each time that a choice is made: two quick presses of
enter end the program.
"""

from __future__ import annotations

from textual.await_complete import AwaitComplete
from textual.command import CommandPalette

__all__ = ["Palette"]


class Palette(CommandPalette):
    """The same, but what comes after the first choice is ignored."""

    def dismiss(self, result: object = None) -> AwaitComplete:
        if not self.is_current:
            return AwaitComplete()
        return super().dismiss(result)  # type: ignore[arg-type]
