# SPDX-License-Identifier: Apache-2.0
"""What failed, why, and what to do; the kernel's own message is one key away."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from xdpchain.errors import XdpChainError
from xdptui.screens.dialog import Dialog, button, paragraph
from xdptui.words.advice import worded
from xdptui.words.printable import printable

__all__ = ["Failure"]


ARTICLES = ("the ", "a ", "an ", "there ", "this ", "that ", "no ", "nothing ", "it ", "can't ")
"""How a sentence begins that does not begin with a name: names are written as they are."""


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" if text.startswith(ARTICLES) else text


class Failure(Dialog[None]):
    """An engine error as a dialog."""

    DEFAULT_CSS = """
    Failure #detail { display: none; color: $foreground 80%; }
    Failure.-detailed #detail { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "details", show=False),
    ]
    heading = "It failed"

    def __init__(
        self, error: BaseException, heading: str = "", *, netns: str | None = None, detailed: bool = False
    ) -> None:
        """``netns``: the namespace that its advice is about where it names none."""
        super().__init__(classes="-danger -detailed" if detailed else "-danger")
        if isinstance(error, XdpChainError):
            self._what, self._why = error.what, error.why
            self._todo = worded(error.todo, netns, keys=True)
            self._detail = error.detail
        else:
            self._what = "Unexpected failure"
            self._why = f"{type(error).__name__}: {error}"
            self._todo = (
                "Please report this. The interface runs either the old chain or the complete new one."
            )
            self._detail = ""
        if heading:
            self.heading = heading

    def body(self) -> ComposeResult:
        yield paragraph(printable(_sentence(self._what)), classes="strong")
        if self._why:
            yield paragraph(f"Why: {printable(self._why)}", classes="gap")
        if self._todo:
            yield paragraph(f"What to do: {printable(self._todo)}", classes="gap")
        if self._detail:
            yield paragraph(self._detail, id="detail", classes="gap")

    def buttons(self) -> ComposeResult:
        yield button("Close (esc)", "close")
        if self._detail:
            yield button("Details (d)", "details")

    def action_details(self) -> None:
        if self._detail:
            self.toggle_class("-detailed")
