# SPDX-License-Identifier: Apache-2.0
"""All keys by group, and the words and signs of the screen."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Button, Static

from xdptui.screens.dialog import Dialog, button, paragraph
from xdptui.view.keys import GROUPS, KEYS

__all__ = ["HelpScreen"]

SIGNS = (
    (
        "A D P T R",
        "aborted, drop, pass, tx (sent back), redirect: shown where the next program runs after it",
    ),
    ("*", "differs from what runs"),
    ("+ - ↕ ~ ≠", "added, removed, moved, retuned, replaced"),
    ("≡", "the slot that is being dragged"),
    ("-", "a number that is not known"),
)


class HelpScreen(Dialog[None]):
    """Help; any of its keys closes it."""

    DEFAULT_CSS = """
    HelpScreen #box { width: 84; }
    HelpScreen .section { color: $primary; text-style: bold; margin: 1 0 0 0; }
    HelpScreen .first { margin: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "back", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("pagedown,space", "scroll(10)", show=False),
        Binding("pageup", "scroll(-10)", show=False),
    ]
    heading = "Keys"

    def body(self) -> ComposeResult:
        for i, group in enumerate(GROUPS):
            yield paragraph(group, classes="section first" if i == 0 else "section")
            for key in KEYS:
                if key.group == group:
                    yield Static(Content.assemble((f"  {key.label:<12}", "bold"), key.text))
        yield paragraph("Signs", classes="section")
        for sign, text in SIGNS:
            yield Static(Content.assemble((f"  {sign:<12}", "bold"), text))
        yield paragraph(
            "Edits change the candidate only; a applies it in one atomic step, and p shows beforehand what "
            "that will do. The waterfall always shows what runs.",
            classes="gap dim",
        )

    def buttons(self) -> ComposeResult:
        yield button("Close (esc)", "close")

    def action_scroll(self, by: int) -> None:
        self.query_one("#body").scroll_relative(y=by, animate=False)

    @on(Button.Pressed)
    def close(self) -> None:
        self.finish(None)
