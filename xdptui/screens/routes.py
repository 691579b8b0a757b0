# SPDX-License-Identifier: Apache-2.0
"""Where a slot's return codes lead: on, out of the chain, or to a later slot by name."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, OptionList
from textual.widgets.option_list import Option

from xdpchain.model.actions import ALL_ACTIONS, Action
from xdpchain.model.chain import Chain
from xdpchain.model.routes import route_name
from xdptui.screens.dialog import Dialog, paragraph
from xdptui.widgets.one_of import OneOf

__all__ = ["RoutesDialog"]

CODES: tuple[Action | None, ...] = (*ALL_ACTIONS, None)


class RoutesDialog(Dialog[Chain | None]):
    """Answers with the routed chain, or None. Codes are on the left, possible targets on the right."""

    DEFAULT_CSS = """
    RoutesDialog #lists { height: auto; margin: 1 0 0 0; }
    RoutesDialog .half { height: auto; width: 1fr; padding: 0 1 0 0; }
    RoutesDialog #codes, RoutesDialog #codes:focus {
        height: auto; border: none; padding: 0 0 0 1; background: $surface;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    RoutesDialog #codes:focus { background: $panel; }
    """
    first = "#codes"
    primary = ("Set (ctrl+s)", "set")

    def __init__(self, chain: Chain, index: int, action: Action) -> None:
        super().__init__()
        self._before = self._chain = chain
        self._index, self._action = index, action
        self.heading = f"Where {chain.slots[index].name} leads (slot {index})"

    def body(self) -> ComposeResult:
        yield paragraph("Choose a return code, then the slot that runs after it. Routes lead forward only.")
        with Horizontal(id="lists"):
            with Vertical(classes="half"):
                yield paragraph("after this code", "bold")
                yield OptionList(id="codes", compact=True, markup=False)
            with Vertical(classes="half"):
                yield paragraph("this slot runs", "bold")
                yield OneOf([words for _, words in self._targets()], id="targets")

    def on_mount(self) -> None:
        super().on_mount()
        codes = self.query_one("#codes", OptionList)
        codes.add_options(Option("") for _ in CODES)
        codes.highlighted = CODES.index(self._action)
        self._show()

    def _code(self) -> Action | None:
        return CODES[self.query_one("#codes", OptionList).highlighted or 0]

    def _targets(self) -> list[tuple[str | None, str]]:
        """(slot key, description) of every target for a code; key None: no route."""
        slots = self._chain.slots
        return [(None, "")] + [
            (slot.key, f"{i} {slot.name}") for i, slot in enumerate(slots) if i > self._index
        ]

    def _unrouted(self, code: Action | None) -> str:
        """What happens after a code without a route."""
        slot = self._chain.slots[self._index]
        if code is None or code not in slot.actions:
            return "returned"
        if self._index + 1 == len(self._chain):
            return "end of the chain"
        return f"next: {self._index + 1} {self._chain.slots[self._index + 1].name}"

    def _target_of(self, code: Action | None) -> str | None:
        return next((r.target for r in self._chain.slots[self._index].routes if r.code is code), None)

    def _words(self, code: Action | None) -> str:
        target = self._target_of(code)
        return next(
            (words for key, words in self._targets() if target and key == target), self._unrouted(code)
        )

    def _code_line(self, code: Action | None) -> Content:
        name = "any other" if code is None else route_name(code)
        here = "▶" if code is self._code() else " "
        return Content(f"{here} {name:13} → {self._words(code)}")

    def _show(self) -> None:
        """Update both lists."""
        codes = self.query_one("#codes", OptionList)
        for i, code in enumerate(CODES):
            codes.replace_option_prompt_at_index(i, self._code_line(code))
        keys = [key for key, _ in self._targets()]
        words = [words or self._unrouted(self._code()) for _, words in self._targets()]
        self.query_one(OneOf).present(words, keys.index(self._target_of(self._code())))
        self.query_one("#set", Button).disabled = self._chain == self._before

    @on(OptionList.OptionHighlighted, "#codes")
    def another_code(self) -> None:
        self._show()

    @on(OptionList.OptionSelected, "#codes")
    def to_targets(self) -> None:
        self.set_focus(self.query_one("#targets"))

    @on(OneOf.Chosen)
    def choose(self, event: OneOf.Chosen) -> None:
        key, _ = self._targets()[event.choice]
        self._chain = self._chain.route(self._index, self._code(), key)
        self._show()

    def action_set(self) -> None:
        self.finish(self._chain)
