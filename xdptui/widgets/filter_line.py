# SPDX-License-Identifier: Apache-2.0
"""The line that filters a list: the interfaces, or the entries of a map."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

__all__ = ["FilterLine"]


class FilterLine(Input):
    """Enter keeps the filter, escape clears it; both go back to the list."""

    DEFAULT_CSS = """
    FilterLine, FilterLine:focus { height: 1; border: none; padding: 0 1 !important; background: $panel; }
    FilterLine:focus { outline-left: heavy $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close(True)", show=False),
        Binding("enter,down,tab", "close(False)", show=False),
    ]

    class Closed(Message):
        """The user is done with the filter; ``clear`` says to forget it."""

        def __init__(self, clear: bool) -> None:
            super().__init__()
            self.clear = clear

    def __init__(
        self,
        *,
        id: str | None = None,
        placeholder: str = "filter: words in name, owner, mode, driver or program; esc clears",
    ) -> None:
        super().__init__(
            placeholder=placeholder,
            id=id,
            compact=True,
            select_on_focus=False,
        )

    def open(self) -> None:
        """Show it, and type into it."""
        self.display = True
        self.focus()

    def close(self, clear: bool) -> None:
        """Hide it if it is empty, or ``clear`` empties it."""
        if clear:
            self.value = ""
        self.display = bool(self.value)

    def action_close(self, clear: bool) -> None:
        self.post_message(self.Closed(clear))
