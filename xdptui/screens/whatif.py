# SPDX-License-Identifier: Apache-2.0
"""What a candidate would do to packets, compared with what runs: a matrix, and each packet in detail."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.suggester import Suggester
from textual.widgets import Input, Static

from xdpchain.errors import XdpChainError
from xdpchain.model.chain import Chain
from xdpchain.model.running import Running
from xdptui.screens.dialog import button, paragraph
from xdptui.screens.object_files import PathInput
from xdptui.screens.object_paths import complete
from xdptui.screens.two_panes import TwoPanes
from xdptui.view.whatif_lines import detail_lines, whatif_cells, whatif_head
from xdptui.widgets.row_list import RowList
from xdptui.words.advice import told
from xdptui.words.whatif_words import arranged, mark, summary, verdicts

if TYPE_CHECKING:
    from xdpchain.trial.whatif import Crossing, WhatIf

__all__ = ["WhatIfScreen"]

BUILTIN = "builtin"
UNPROVEN = ". Current traffic may differ: press o, enter live"
BEGUN = "linking both chains in the background…"
WORDS = (BUILTIN, "live", "ssh")
"""Sources that are not files."""
CAPTURES = (".pcap", ".pcapng", ".cap", ".hex", ".txt")
"""Suffixes of files with packets."""


class _Sources(Suggester):
    """Completes a path or one of the words."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        words = [word for word in WORDS if value and word.startswith(value)]
        return words[0] if words else await asyncio.to_thread(complete, value, CAPTURES)


class WhatIfScreen(TwoPanes[None]):
    """Tries packets when it opens, and again when other packets are chosen; changes nothing."""

    DEFAULT_CSS = """
    WhatIfScreen {
        #box { width: 110; height: 100%; }
        #body { height: 1fr; padding: 0; }
        .line { height: 1; }
        .name { width: 9; color: $foreground 70%; }
        .kinds { width: auto; color: $foreground 70%; }
        #source { width: 1fr; min-width: 12; }
        #summary { height: auto; max-height: 3; text-style: bold; }
        #packets { height: auto; max-height: 50%; }
        CellGrid { background: $surface; }
        #more { height: 1fr; min-height: 3; margin: 1 0 0 0; padding: 0 0 0 1; scrollbar-size-vertical: 1; }
        #detail, #unknown { height: auto; }
    }
    WhatIfScreen.-low #more { margin: 0; min-height: 2; }
    """
    panes = ("#packets", "#more")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "back", show=False),
        Binding("o", "another", show=False),
    ]
    first = "#packets"

    def __init__(
        self, running: Running, candidate: Chain, changes: bool = True, *, adopts: int | None = None
    ) -> None:
        super().__init__()
        self._target, self._candidate, self._adopts = running, candidate, adopts
        self._tried: WhatIf | None = None
        self._rows: tuple[Crossing, ...] = ()
        self._notes: tuple[str, ...] = ()
        self._builtin = True
        what = "the candidate" if changes else "what runs (no candidate)"
        self.heading = f"What if: packets through {what} on {running.interface.name}"

    def body(self) -> ComposeResult:
        with Horizontal(classes="line"):
            yield paragraph("Packets", classes="name")
            yield PathInput(BUILTIN, _Sources(), id="source", select_on_focus=True)
            yield paragraph(" or live, ssh, file (pcap, hex)", classes="kinds")
        yield paragraph(BEGUN, id="summary")
        yield RowList(id="packets", choosing=False)
        with VerticalScroll(id="more"):
            yield paragraph("", id="detail")
            yield paragraph("", id="unknown", classes="dim")

    def buttons(self) -> ComposeResult:
        yield button("Close (esc)", "close")
        yield button("Other packets (o)", "another")

    def on_mount(self) -> None:
        super().on_mount()
        self._try(BUILTIN)

    # Trying

    def _try(self, source: str) -> None:
        self._builtin = source == BUILTIN
        running, candidate, adopts = self._target, self._candidate, self._adopts

        def work() -> tuple[WhatIf, tuple[str, ...]]:
            from xdpchain.follow.sample import supply_of
            from xdpchain.trial.whatif import what_if

            supply = supply_of(source, running)
            found = what_if(running, candidate, supply.packets, adopts=adopts, call_lines=True)
            return found, supply.notes

        begun = "sampling current traffic…" if source == "live" else BEGUN
        self.query_one("#summary", Static).update(begun)
        self.ask(work, self._show_tried, "whatif")

    def _show_tried(self, found: tuple[WhatIf, tuple[str, ...]] | Exception) -> None:
        if isinstance(found, Exception):
            self._tried, self._rows, self._notes = None, (), ()
            known = isinstance(found, XdpChainError)
            text = told(found, keys=True) if known else f"{type(found).__name__}: {found}"
            self._show(Content.styled(text, "$error"))
            return
        tried, self._notes = found
        self._tried, self._rows = tried, arranged(tried)
        only = "" if tried.changed or not self._builtin else UNPROVEN
        self._show(Content(f"{summary(tried)}{only}"))

    @on(Input.Submitted, "#source")
    def chosen(self, event: Input.Submitted) -> None:
        value = event.value.strip() or BUILTIN
        self._try(value if value in WORDS else os.path.expanduser(value))
        self.set_focus(self.query_one("#packets"))

    # Display

    def _show(self, said: Content) -> None:
        self.query_one("#summary", Static).update(said)
        packets, tried, rows = self.query_one("#packets", RowList), self._tried, self._rows
        if tried is None:
            packets.present(0, lambda _row, _width: ())
        else:
            packets.present(
                len(rows),
                lambda row, width: whatif_cells(rows[row], tried, width),
                empty="There are no packets.",
                head=lambda width, position: whatif_head(tried, width, position),
                sorts={
                    "packet": lambda row: rows[row].packet.name,
                    "bytes": lambda row: len(rows[row].packet.data),
                    "verdict": lambda row: verdicts(rows[row]),
                },
                words=lambda row: f"{mark(rows[row])} {rows[row].packet.name} {verdicts(rows[row])}",
            )
        texts = [*tried.unknown, *self._notes] if tried else []
        self.query_one("#unknown", Static).update(
            Content("\n".join(("Not known:", *(f"• {text}" for text in texts))) if texts else "")
        )
        self.moved()

    @on(RowList.Moved, "#packets")
    def moved(self) -> None:
        row = self.query_one("#packets", RowList).under(self._rows)
        lines = detail_lines(row, self._tried) if self._tried and row is not None else []
        text = Content("\n").join(Content.assemble(*parts) for parts in lines)
        self.query_one("#detail", Static).update(text)
        self.query_one("#more").scroll_home(animate=False)

    def action_another(self) -> None:
        self.set_focus(self.query_one("#source"))
