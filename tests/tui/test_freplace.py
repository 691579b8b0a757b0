# SPDX-License-Identifier: Apache-2.0
"""The terminal program on a freplace chain, as most machines have it: counted, sampled, edited, undone."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.tui.driving import driving, look_at, names, run_chain
from xdpchain.model.actions import Action
from xdpchain.model.chain import Linkage
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.screens.history import HistoryScreen
from xdptui.screens.plan import PlanDialog
from xdptui.view.session import State

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("own_bpffs")]


MOST = 6000
"""Packets sent in all."""


@asynccontextmanager
async def sending(playground: Playground) -> AsyncIterator[None]:
    """Packets come in, twenty a second."""
    stop = threading.Event()

    def send() -> None:
        for _ in range(MOST):
            if stop.wait(0.05):
                return
            playground.send([scripted(b"")])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        stop.set()
        sender.join()


async def test_a_freplace_chain_from_first_screen_to_undo(playground: Playground, samples: Path) -> None:
    before = run_chain(playground, samples, "drop", "monitor", linkage=Linkage.FREPLACE)
    assert before.linkage is Linkage.FREPLACE
    async with sending(playground), driving(playground.netns, playground.ifname) as driver:
        assert "freplace" in driver.lines("banner")[0]

        def counted() -> bool:
            reading = driver.app.main.meter.last(playground.ifindex)
            return reading is not None and reading.verdict_totals.packets[Action.DROP] > 0

        await driver.until(counted)
        await driver.press("D", "p")
        await driver.until(lambda: driver.dialog(PlanDialog))
        # Nothing is swapped for a sample, so it needs no key.
        await driver.until(lambda: "dropped now, will be passed" in driver.label("#sampled"))
        assert look_at(playground).hook == before.hook
        await driver.press("a")
        await driver.until(lambda: not driver.dialog() and driver.session.state is State.RUNNING)
        after = look_at(playground).chain
        assert after is not None
        assert after.linkage is Linkage.FREPLACE
        assert Action.DROP in after.slots[0].actions

        await driver.press("h")
        await driver.until(lambda: driver.dialog(HistoryScreen) and "continues on" in driver.text())
        await driver.press("z")
        await driver.until(lambda: driver.dialog(PlanDialog))
        await driver.press("a")
        await driver.until(lambda: not driver.dialog() and driver.session.state is State.RUNNING)
    now = look_at(playground)
    assert names(now) == ["xdp_drop", "xdp_monitor"]
    assert now.chain is not None
    assert Action.DROP not in now.chain.slots[0].actions
