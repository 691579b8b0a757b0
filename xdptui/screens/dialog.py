# SPDX-License-Identifier: Apache-2.0
"""The base of all dialogs: a box over the main screen, a title, a body, a row of buttons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content, ContentText
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Button, OptionList, Static

from xdptui.screens.key_words import key_lines
from xdptui.widgets.button_rows import ButtonRows
from xdptui.widgets.cell_grid import Selecting
from xdptui.widgets.row_list import RowList

__all__ = ["Dialog", "DialogKeys", "button", "paragraph"]

Answer = TypeVar("Answer")
Found = TypeVar("Found")

LOW, NARROW = 16, 90
"""Lines and columns of a terminal below which dialogs have no margins."""

COVERED_WAIT = 0.1
"""Seconds until a covered dialog tries again to close."""


class _Button(Button):
    """Brackets around the label, in place of blanks, show the focus. The label is shown verbatim."""

    def validate_label(self, label: ContentText) -> Content:
        return Content.from_text(label, markup=False)

    def render(self) -> Content:
        label = Content.from_text(self.label, markup=False)
        return Content.assemble("[", label, "]") if self.has_focus else Content.assemble(" ", label, " ")

    def watch_label(self) -> None:
        self.refresh(layout=True)  # Textual 8.2.8 keeps the width of the first label


def button(label: str, id: str, variant: str = "default") -> Button:
    """A button one line high; ``variant`` may be ``error`` for what can't be undone."""
    made = _Button(Content(label), id=id, compact=True)
    made.styles.line_pad = 0
    made.variant = variant
    return made


def paragraph(
    text: str | Content, style: str = "", *, id: str | None = None, classes: str | None = None
) -> Static:
    """Text shown verbatim, after an update too: no markup in names chosen by others."""
    shown = Content.styled(text, style) if isinstance(text, str) and style else text
    return Static(shown, id=id, classes=classes, markup=False)


class Dialog(ModalScreen[Answer], Selecting[Answer]):
    """Subclasses provide ``heading`` and ``body()``; escape answers ``dismissed``. ``first`` selects what is
    focused first, ``primary`` is the label and the id of the main button, if there is one.
    """

    DEFAULT_CSS = """
    Dialog {
        align: center middle;
        background: $background 60%;
        #box {
            width: 76; max-width: 100%; height: auto; max-height: 100%;
            background: $surface; border: round $primary; padding: 0 1;
            border-title-color: $foreground; border-title-style: bold;
        }
        #body { height: auto; max-height: 100%; padding: 1 1 0 1; scrollbar-size-vertical: 1; }
        #buttons { height: auto; margin: 1 0 0 0; align-horizontal: right; }
        Button { margin: 0 0 0 2; min-width: 10; }
        Button:focus { text-style: bold underline; }
        /* Over the blank first column of what has the focus. */
        VerticalScroll:focus, RichLog:focus, OptionList:focus, Tabs:focus, Input:focus {
            outline-left: heavy $primary;
        }
        /* What enter does is the only button that stands out. */
        #buttons:focus-within Button.-primary { background: $panel; color: $primary; }
        #buttons Button.-error { background: $panel; color: $error; }
        #buttons:focus-within Button.-primary:focus { background: $primary; color: $background; }
        #buttons Button.-error:focus { background: $error; color: $background; }
        #buttons Button { border: none !important; height: 1; }
        Input, Input:focus { height: 1; border: none; padding: 0 1 !important; background: $panel; }
        .gap { height: auto; margin: 1 0 0 0; }
        .dim { color: $foreground 70%; }
        .warn { color: $warning; }
        .bad { color: $error; }
        .strong { text-style: bold; }
        &.-danger #box { border: round $error; }
        &.-low #body { padding: 0; }
        &.-low #buttons { margin: 0; }
        &.-narrow Button { margin: 0 0 0 1; min-width: 0; }
    }
    Dialog:ansi .dim { color: ansi_default; text-style: dim; }
    Dialog:ansi { background: ansi_default; }
    Dialog:ansi Button:disabled { text-style: dim; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,ctrl+q,ctrl+c", "back", "Back", show=False),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
        Binding("question_mark,f1", "keys", show=False),
        Binding("ctrl+s", "accept", show=False),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("pageup", "scroll(0, -1)", show=False),
        Binding("pagedown", "scroll(0, 1)", show=False),
        Binding("home", "scroll(0, -1000)", show=False),
        Binding("end", "scroll(0, 1000)", show=False),
    ]

    heading: str = ""
    first: ClassVar[str] = "#buttons Button"
    primary: ClassVar[tuple[str, str] | None] = None
    _answered = False

    def __init__(self, *, classes: str | None = None) -> None:
        super().__init__(classes=classes)
        self._asked: dict[str, int] = {}

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = Content(self.heading)
            with VerticalScroll(id="body", can_focus=False):
                yield from self.body()
            with ButtonRows(id="buttons"):
                yield from self.buttons()

    def body(self) -> ComposeResult:
        """The widgets between the title and the buttons."""
        raise NotImplementedError

    def buttons(self) -> ComposeResult:
        """The buttons, the harmless one first; their ids say what they do (`pressed`)."""
        if self.primary is None:
            yield button("Close (esc)", "close")
        else:
            yield button("Cancel (esc)", "cancel")
            yield button(*self.primary, "primary")

    def on_mount(self) -> None:
        self._fit()
        first = self.first_focus()
        if first is not None:
            self.set_focus(first)

    def on_resize(self) -> None:
        self._fit()

    def on_button_rows_changed(self) -> None:
        self._fit()

    def _fit(self) -> None:
        height = self.app.size.height
        low = height < LOW
        self.set_class(low, "-low")
        self.set_class(self.app.size.width < NARROW, "-narrow")
        # Keep the buttons in sight however long the body is: subtract the borders, button lines and margin.
        buttons = self.query_one("#buttons")
        margin = 0 if low else buttons.styles.margin.top
        self.query_one("#body").styles.max_height = max(1, height - 2 - max(1, buttons.size.height) - margin)

    def first_focus(self) -> Widget | None:
        """The widget focused first."""
        return next(iter(self.query(self.first).results(Widget)), None)

    def dismissed(self) -> Answer | None:
        """The answer that escape gives."""
        return None

    def action_back(self) -> None:
        self.finish(self.dismissed())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "scroll":
            return any(body.max_scroll_y > 0 for body in self.query("#body"))
        return super().check_action(action, parameters)

    def action_scroll(self, rows: int, pages: int = 0) -> None:
        """Scroll by rows and pages; a focused list handles these keys itself."""
        body = self.query_one("#body")
        body.scroll_relative(y=rows + pages * max(1, body.size.height - 1), animate=False)

    def action_accept(self) -> None:
        """Press the primary button unless it is disabled; never one marked as dangerous."""
        for main in self.query("#buttons Button").results(Button):
            if main.variant == "primary" and not main.disabled:
                main.press()

    @on(Button.Pressed, "#buttons Button")
    def _pressed(self, event: Button.Pressed) -> None:
        self.pressed(event.button.id or "")

    def pressed(self, id: str) -> None:
        """``close`` and ``cancel`` answer `dismissed`, any other button runs the action with its name."""
        if id in ("close", "cancel"):
            self.finish(self.dismissed())
        else:
            getattr(self, f"action_{id}")()

    def action_keys(self) -> None:
        """Show the keys that work here."""
        bound = [
            (binding.key, binding.action)
            for node in (self.focused, self)
            if node is not None
            for _, binding in node._bindings
            if (node is self and self._has(binding.action)) or isinstance(node, RowList | OptionList)
            if node.check_action(binding.action.partition("(")[0], ())
        ]
        self.app.push_screen(DialogKeys(self.heading, key_lines(bound)))

    def _has(self, action: str) -> bool:
        """Whether the button that an action presses exists; True for actions without one."""
        buttons = self.query("#buttons Button").results(Button)
        return action != "accept" or any(button.variant == "primary" for button in buttons)

    def ask(self, work: Callable[[], Found], then: Callable[[Found | Exception], None], group: str) -> None:
        """Run ``work`` in a thread, then ``then`` in ours with what it returned or raised; of the questions
        of a ``group`` only the last is answered.
        """
        number = self._asked[group] = self._asked.get(group, 0) + 1

        def answer(found: Found | Exception) -> None:
            if self._asked[group] == number and not self.closed:
                then(found)

        def run() -> None:
            found: Found | Exception
            try:
                found = work()
            except Exception as error:  # each dialog shows it
                found = error
            self.call_later(answer, found)

        self.run_worker(run, thread=True, group=group, exclusive=True, exit_on_error=False)

    @property
    def closed(self) -> bool:
        """Whether it is being removed, and its widgets with it."""
        return not self.display

    def finish(self, result: Answer | None) -> None:
        """Answer once. If another dialog covers this one, wait until it is gone, because Textual removes
        whatever is on top.
        """
        if self._answered:
            return
        if not self.is_active:  # "current" includes a covered screen if a dialog covers it
            self.set_timer(COVERED_WAIT, partial(self.finish, result))
            return
        self._answered = True
        self.dismiss(result)


class DialogKeys(Dialog[None]):
    """The keys of the dialog underneath, as (keys, description)."""

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
            yield paragraph(Content.assemble((f" {keys:<{width}}  ", "bold"), words))
        yield paragraph("tab moves between fields and buttons; enter presses a button.", classes="gap dim")
