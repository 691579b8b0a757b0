# SPDX-License-Identifier: Apache-2.0
"""Slots of a chain to mark: one, several, all. A mark is a sign, not a colour."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from xdpchain.model.chain import Chain

__all__ = ["SlotChoice"]


class SlotChoice(OptionList):
    """A list of slots; space, enter or a click marks or unmarks one."""

    DEFAULT_CSS = """
    SlotChoice, SlotChoice:focus {
        height: auto; max-height: 12; border: none; padding: 0 0 0 1; background: $surface;
        scrollbar-size-vertical: 1; text-wrap: nowrap; text-overflow: ellipsis;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "select", show=False)]

    class Marked(Message):
        """The marks changed."""

    def __init__(self, chain: Chain, marked: Iterable[int], *, id: str | None = None) -> None:
        super().__init__(id=id, compact=True, markup=False)
        self._chain = chain
        self._marked = set(marked)
        self.add_options(Option(self._prompt(i), id=str(i)) for i in range(len(chain)))
        self.highlighted = min(self._marked, default=0)

    @property
    def marked(self) -> tuple[int, ...]:
        """The indices of the marked slots, in order."""
        return tuple(sorted(self._marked))

    def mark_all_or_none(self) -> None:
        """Mark all slots; if all are marked, none."""
        every = set(range(len(self._chain)))
        self._marked = set() if self._marked == every else every
        self._redraw()

    def _prompt(self, index: int) -> Content:
        slot = self._chain.slots[index]
        sign = "[x]" if index in self._marked else "[ ]"
        return Content(f"{sign} {index}  {slot.name}  priority {slot.priority}")

    def _redraw(self) -> None:
        for i in range(len(self._chain)):
            self.replace_option_prompt_at_index(i, self._prompt(i))
        self.post_message(self.Marked())

    @on(OptionList.OptionSelected)
    def toggle_one(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._marked ^= {event.option_index}
        self._redraw()
