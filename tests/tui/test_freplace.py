# SPDX-License-Identifier: Apache-2.0
"""The terminal program on a freplace chain, as most machines have it: counted, sampled, edited, undone."""

from __future__ import annotations

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


async def test_a_freplace_chain_from_first_screen_to_undo(playground: Playground, samples: Path) -> None:
    before = run_chain(playground, samples, "monitor", "drop", linkage=Linkage.FREPLACE)
    assert before.linkage is Linkage.FREPLACE
    async with driving(playground.netns, playground.ifname) as driver:
        assert "freplace" in driver.lines("banner")[0]

        def counted() -> bool:
            playground.send([scripted(b"")])
            reading = driver.app.main.meter.last(playground.ifindex)
            return reading is not None and reading.verdict_totals.packets[Action.DROP] >= 3

        await driver.until(counted)
        await driver.press("down", "D", "p")
        await driver.until(lambda: driver.dialog(PlanDialog))

        def sampled() -> bool:
            playground.send([scripted(b"")])
            return "dropped now, will be passed" in driver.label("#sampled")

        await driver.until(sampled)  # nothing is swapped for it, so it needs no key
        assert look_at(playground).hook == before.hook
        await driver.press("a")
        await driver.until(lambda: not driver.dialog() and driver.session.state is State.RUNNING)
        after = look_at(playground).chain
        assert after is not None
        assert after.linkage is Linkage.FREPLACE
        assert Action.DROP in after.slots[1].actions

        await driver.press("h")
        await driver.until(lambda: driver.dialog(HistoryScreen) and "continues on" in driver.text())
        await driver.press("z")
        await driver.until(lambda: driver.dialog(PlanDialog))
        await driver.press("a")
        await driver.until(lambda: not driver.dialog() and driver.session.state is State.RUNNING)
    now = look_at(playground)
    assert names(now) == ["xdp_monitor", "xdp_drop"]
    assert now.chain is not None
    assert Action.DROP not in now.chain.slots[1].actions
