# SPDX-License-Identifier: Apache-2.0
"""Choose what to copy to the clipboard, or to save."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from xdpchain.frozen import frozen
from xdptui.screens.dialog import Dialog, paragraph

__all__ = ["CopyDialog", "Copyable"]


@frozen
class Copyable:
    """Something to copy: its ``key``, ``what`` it is, and the ``text`` (empty for the screen)."""

    key: str
    what: str
    text: str = ""


SCREEN = (
    Copyable("s", "the screen as text"),
    Copyable("t", "save the screen as text"),
    Copyable("v", "save the screen as SVG"),
)


class CopyDialog(Dialog[Copyable | None]):
    """Answers with the choice."""

    DEFAULT_CSS = """
    CopyDialog OptionList { height: auto; border: none; padding: 0 0 0 1 !important; background: $surface; }
    """
    BINDINGS: ClassVar[list[BindingType]] = []
    heading = "Copy"
    first = "#things"

    def __init__(self, things: Sequence[Copyable], folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._things = (*things, *SCREEN)

    def body(self) -> ComposeResult:
        options = OptionList(id="things", compact=True, markup=False)
        for thing in self._things:
            shown = f"  {thing.text}" if thing.text else ""
            options.add_option(
                Option(Content.assemble((f" {thing.key} ", "bold"), thing.what, (shown, "dim")))
            )
        options.highlighted = 0
        yield options
        yield paragraph(f"Screens are saved in {self._folder}.", classes="gap dim")

    def on_key(self, event: events.Key) -> None:
        chosen = next((thing for thing in self._things if thing.key == event.character), None)
        if chosen is not None:
            event.stop()
            self.finish(chosen)

    @on(OptionList.OptionSelected)
    def selected(self, event: OptionList.OptionSelected) -> None:
        self.finish(self._things[event.option_index])
