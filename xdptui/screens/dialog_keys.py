# SPDX-License-Identifier: Apache-2.0
"""The keys of the dialog underneath."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Button, Static

from xdptui.screens.dialog import Dialog, button, paragraph

__all__ = ["DialogKeys"]


class DialogKeys(Dialog[None]):
    """A list of (keys, description)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1", "back", show=False),
    ]

    def __init__(self, title: str, lines: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self.heading = f"Keys: {title}"
        self._lines = lines

    def body(self) -> ComposeResult:
        width = max((len(keys) for keys, _ in self._lines), default=0)
        for keys, words in self._lines:
            yield Static(Content.assemble((f" {keys:<{width}}  ", "bold"), words))
        yield paragraph("tab moves between fields and buttons; enter presses a button.", classes="gap dim")

    def buttons(self) -> ComposeResult:
        yield button("Close (esc)", "close")

    @on(Button.Pressed)
    def close(self) -> None:
        self.finish(None)
