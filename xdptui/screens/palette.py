# SPDX-License-Identifier: Apache-2.0
"""The command palette, which goes once: a second enter that was typed ahead does not take the screen below
with it.
"""

from __future__ import annotations

from textual.await_complete import AwaitComplete
from textual.command import CommandPalette

__all__ = ["Palette"]


class Palette(CommandPalette):
    """Textual's own, which dismisses whatever is on top when it is told twice (8.2)."""

    def dismiss(self, result: object = None) -> AwaitComplete:
        if self not in self.app.screen_stack or not self.is_active:
            return AwaitComplete()
        return super().dismiss(None)
