# SPDX-License-Identifier: Apache-2.0
"""A choice of several, one per line; a sign, not a colour, marks the current one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

__all__ = ["OneOf"]


class OneOf(OptionList):
    """Space, enter or a click chooses."""

    DEFAULT_CSS = """
    OneOf, OneOf:focus {
        height: auto; max-height: 12; border: none; padding: 0 0 0 1; background: $surface;
        scrollbar-size-vertical: 1; text-wrap: nowrap; text-overflow: ellipsis;
    }
    OneOf:focus { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "select", show=False)]

    class Chosen(Message):
        """Another one was chosen."""

        def __init__(self, choice: int) -> None:
            super().__init__()
            self.choice = choice

    def __init__(self, words: Sequence[str], chosen: int = 0, *, id: str | None = None) -> None:
        super().__init__(id=id, compact=True, markup=False)
        self._words = list(words)
        self._chosen = chosen
        self.add_options(Option(self._prompt(i)) for i in range(len(words)))
        self.highlighted = chosen

    @property
    def chosen(self) -> int:
        return self._chosen

    def present(self, words: Sequence[str], chosen: int) -> None:
        """The same number of choices with new texts; the cursor follows the choice unless it is in use."""
        self._words, self._chosen = list(words), chosen
        for i in range(len(words)):
            self.replace_option_prompt_at_index(i, self._prompt(i))
        if not self.has_focus:
            self.highlighted = chosen

    def _prompt(self, index: int) -> Content:
        return Content(f"{'(•)' if index == self._chosen else '( )'} {self._words[index]}")

    @on(OptionList.OptionSelected)
    def choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.present(self._words, event.option_index)
        self.post_message(self.Chosen(event.option_index))
