# SPDX-License-Identifier: Apache-2.0
"""How to link the candidate: what is available here, and why the rest is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from xdpchain.frozen import frozen
from xdpchain.model.chain import Linkage
from xdpchain.model.interface import Mode
from xdptui.screens.dialog import Dialog, button, paragraph

__all__ = ["LinkageDialog", "Offer"]

KEYS = {"f": Linkage.FREPLACE, "s": Linkage.STATIC, "t": Linkage.TAILCALL}
WHAT = {
    Linkage.FREPLACE: "a dispatcher that libxdp's tools can read and edit",
    Linkage.STATIC: "one program: fastest, with counters, routes and policies",
    Linkage.TAILCALL: "a program per slot: actions and routes change in place",
}


@frozen
class Offer:
    """A linkage, and ``why`` it is not available (empty: it is)."""

    linkage: Linkage
    why: str = ""


MODE_KEYS = {"n": Mode.NATIVE, "g": Mode.GENERIC}


class LinkageDialog(Dialog[Linkage | Mode | None]):
    """Answers with the linkage to use, or with the mode to move to."""

    DEFAULT_CSS = """
    LinkageDialog #box { width: 90; }
    LinkageDialog OptionList {
        height: auto; border: none; padding: 0 0 0 1 !important; background: $surface;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = []
    first = "#offers"

    def __init__(self, offers: Sequence[Offer], now: Linkage, mode: Mode, interface: str) -> None:
        super().__init__()
        self._offers, self._now, self._mode = tuple(offers), now, mode
        self.heading = f"Linkage and mode of the candidate on {interface}"

    def body(self) -> ComposeResult:
        options = OptionList(id="offers", compact=True, markup=False)
        for offer in self._offers:
            key = next(key for key, linkage in KEYS.items() if linkage is offer.linkage)
            sign = "●" if offer.linkage is self._now else " "
            text = f"not available: {offer.why}" if offer.why else WHAT[offer.linkage]
            prompt = Content.assemble(
                (f"{sign} {key} ", "bold"), f"{offer.linkage}  ", (text, "$warning" if offer.why else "")
            )
            options.add_option(Option(prompt, disabled=bool(offer.why)))
        yield options
        signs = {mode: "●" if mode is self._mode else " " for mode in MODE_KEYS.values()}
        modes = "   ".join(f"{signs[mode]} {key} {mode} mode" for key, mode in MODE_KEYS.items())
        yield paragraph(f"{modes}\nChanging the mode is not atomic: for a moment no program runs.")

    def buttons(self) -> ComposeResult:
        yield button("Keep it (esc)", "cancel")

    def on_key(self, event: events.Key) -> None:
        mode = MODE_KEYS.get(event.character or "")
        if mode is not None:
            event.stop()
            self.finish(mode)
            return
        wanted = KEYS.get(event.character or "")
        offer = next((offer for offer in self._offers if offer.linkage is wanted), None)
        if offer is not None:
            event.stop()
            self._take(offer)

    @on(OptionList.OptionSelected)
    def selected(self, event: OptionList.OptionSelected) -> None:
        self._take(self._offers[event.option_index])

    def _take(self, offer: Offer) -> None:
        if offer.why:
            self.notify(offer.why, title=f"{offer.linkage} is not available", timeout=8)
        else:
            self.finish(offer.linkage)
