# SPDX-License-Identifier: Apache-2.0
"""Shared by the terminal's tests: the program on a playground, and waiting for what must happen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from textual.pilot import Pilot
from textual.widget import Widget

from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.model.chain import Chain
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.discover import look
from xdpchain.testing.playground import Playground
from xdptui.app import XdpTui
from xdptui.screens.dialog import Dialog
from xdptui.screens.plan import PlanDialog
from xdptui.view.chain_lines import columns
from xdptui.view.session import Session
from xdptui.widgets.cell_grid import CellGrid
from xdptui.widgets.chain_table import ChainTable

THREE = ("firewall", "ratelimit", "monitor")
PATIENCE = 20.0
"""Seconds allowed for something on a busy machine."""


def run_chain(playground: Playground, samples: Path, *names: str) -> Running:
    """Run these samples on the playground, ordered by their declared priorities."""
    chain = Chain()
    for name in names:
        chain = chain.add(Slot.of(load_component(str(samples / f"{name}.o"))))
    return change(playground, lambda _: chain)


def change(playground: Playground, edit: Callable[[Chain], Chain]) -> Running:
    """Edit what runs, as another editor would."""
    running = look_at(playground)
    return apply(make_plan(running, edit(running.chain or Chain())))


def look_at(playground: Playground) -> Running:
    return look(playground.ifname, playground.netns)


def names(running: Running) -> list[str]:
    return [slot.name for slot in running.chain or ()]


class Driver:
    """The program under a pilot."""

    def __init__(self, app: XdpTui, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def session(self) -> Session:
        return self.app.main.session

    @property
    def table(self) -> ChainTable:
        return self.app.main.query_one(ChainTable)

    def dialog(self, kind: type[Dialog[object]] = Dialog) -> bool:
        """Whether a dialog of this kind is on top."""
        return isinstance(self.app.screen, kind)

    async def until(self, holds: Callable[[], object], what: str = "") -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + PATIENCE
        while True:
            await self.pilot.pause()
            if holds():
                return
            assert time.monotonic() < deadline, what or f"it never came about:\n{self.text()}"
            await asyncio.sleep(0.02)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        """Type into what has the focus."""
        for character in text:
            await self.pilot.press("space" if character == " " else character)
        await self.pilot.pause()

    async def answer(self, id: str) -> None:
        """Press a dialog's button, once it may be pressed."""
        await self.until(
            lambda: self.app.screen.query(f"#{id}") and not self.app.screen.query_one(f"#{id}").disabled
        )
        await self.pilot.click(f"#{id}")
        await self.pilot.pause()

    async def apply(self) -> None:
        """Apply the candidate; past its plan, where there are warnings."""
        await self.press("a")
        main = self.app.main
        await self.until(lambda: self.dialog() or not main.desk.busy)
        if self.dialog(PlanDialog):
            await self.press("a")

    async def drag(self, source: int, target: int) -> None:
        """Drag a slot by its name to another place."""
        start, end = self.slot_offset(source), self.slot_offset(target)
        await self.pilot.mouse_down(offset=start)
        step = 1 if end[1] > start[1] else -1
        for y in range(start[1] + step, end[1] + step, step):
            await self.pilot.hover(offset=(start[0], y))
        await self.pilot.mouse_up(offset=end)
        await self.pilot.pause()

    def slot_offset(self, slot: int, column: int | None = None) -> tuple[int, int]:
        """Where a slot's first line is on the screen, at its name or at a column of the table."""
        table = self.table
        cols = columns(table.size.width)
        each = 2 if self.app.main.panes.layout and self.app.main.panes.layout.lines == 2 else 1
        x = cols.toggles_at - 4 if column is None else column
        return table.region.x + x, table.region.y + 1 + slot * each

    def lines(self, pane: str) -> list[str]:
        """What a pane of the main screen shows."""
        return [line.text for line in self.app.main.query_one(f"#{pane}", CellGrid).lines]

    def text(self) -> str:
        """Everything on the screen."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text for strip in strips)

    def label(self, selector: str) -> str:
        """The text of a widget of the screen on top."""
        return str(self.app.screen.query_one(selector, Widget).render())


@asynccontextmanager
async def driving(
    netns: str | None, ifname: str | None = None, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[Driver]:
    """The program on a namespace, once it has looked at the interfaces."""
    app = XdpTui(netns, ifname)
    async with app.run_test(size=size) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: driver.session.surveyed, "the interfaces were never read")
        yield driver
