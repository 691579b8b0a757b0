# SPDX-License-Identifier: Apache-2.0
"""Off and on in the terminal program: the key, the mark; and what the details say beside XDP."""

from __future__ import annotations

from pathlib import Path

from textual.widgets import RichLog

from tests.kernel.chains import run_through, scripted_chain
from tests.tui.driving import change, driving, look_at
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.screens.details import DetailsScreen
from xdptui.view.session import State

PASS_ON = ActionSet.parse("P")


async def test_a_slot_is_switched_off_and_on(playground: Playground, samples: Path) -> None:
    change(playground, lambda _: scripted_chain(samples, [PASS_ON] * 2, Linkage.STATIC))
    async with driving(playground.netns, playground.ifname, (120, 40)) as driver:
        await driver.press("O")
        assert " 0O" in driver.lines("chain")[1]
        assert any("it does not run" in line for line in driver.lines("inspector"))
        assert not any(slot.off for slot in look_at(playground).chain or ())
        await driver.apply()
        await driver.until(lambda: driver.session.state is State.RUNNING and not driver.dialog())
        running = look_at(playground)
        assert [slot.off for slot in running.chain or ()] == [True, False]
        assert run_through(running, scripted(b"\1\2")).data[60:] == b"1"
        await driver.press("enter")
        await driver.until(lambda: isinstance(driver.app.screen, DetailsScreen))
        await driver.press("5")
        log = driver.app.screen.query_one("#beside-text", RichLog)
        await driver.until(
            lambda: any("nothing else" in line.text or "not seen" in line.text for line in log.lines)
        )
        await driver.press("escape", "O")
        await driver.apply()
        await driver.until(lambda: driver.session.state is State.RUNNING and not driver.dialog())
        assert [slot.off for slot in look_at(playground).chain or ()] == [False, False]
