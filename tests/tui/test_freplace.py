# SPDX-License-Identifier: Apache-2.0
"""The terminal program on a freplace chain, as on most machines: loaded, counted, edited, undone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from textual.widgets import Input

from tests.tui.driving import Driver, change, driving, look_at, names
from xdpchain.model.actions import Action
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.screens.history import HistoryScreen
from xdptui.screens.load import LoadDialog
from xdptui.screens.plan import PlanDialog
from xdptui.view.session import BannerState

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("own_bpffs")]

MOST_PACKETS = 6000
MOST_SAMPLES = 5


@contextmanager
def packets_flowing(playground: Playground) -> Iterator[None]:
    """Twenty packets arrive per second, fewer on a busy machine."""
    stop = threading.Event()

    def send() -> None:
        for _ in range(MOST_PACKETS):
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


async def runs(driver: Driver, playground: Playground, *wanted: str) -> Chain:
    """The running chain, once the screen shows these slots running."""
    await driver.until(
        lambda: (
            not driver.dialog()
            and driver.session.state is BannerState.RUNNING
            and [slot.name for slot in driver.session.chain] == [*wanted]
        )
    )
    now = look_at(playground)
    assert names(now) == [*wanted]
    assert now.chain is not None
    assert now.chain.linkage is Linkage.FREPLACE
    return now.chain


async def test_a_freplace_chain_from_first_screen_to_undo(playground: Playground, samples: Path) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("l")
        await driver.until(lambda: driver.dialog(LoadDialog))
        driver.app.screen.query_one("#path", Input).value = str(samples / "drop.o")
        await driver.answer("add")
        await driver.until(lambda: not driver.dialog())
        await driver.apply()
        await runs(driver, playground, "xdp_drop")
        assert "freplace" in driver.lines("banner")[0]

        monitor = Slot.of(load_component(str(samples / "monitor.o")))
        before = change(playground, lambda chain: chain.add(monitor))
        await runs(driver, playground, "xdp_drop", "xdp_monitor")

        await driver.press("t")  # packets instead of packets/s
        playground.send([scripted(b"")] * 137)
        await driver.until(lambda: "137" in driver.lines("chain")[1])
        playground.send([scripted(b"")] * 100)
        await driver.until(lambda: "237" in driver.lines("chain")[1])

        await driver.press("J", "D")
        with packets_flowing(playground):
            await driver.press("p")
            await driver.until(lambda: driver.dialog(PlanDialog))
            # Sampling swaps nothing, so it needs no key, unless nothing arrived during its second.
            for _ in range(MOST_SAMPLES):
                await driver.until(lambda: "sampled" in driver.label("#sampled"))
                if "no packet arrived" not in driver.label("#sampled"):
                    break
                await driver.press("s")
            assert "dropped now, will be passed" in driver.label("#sampled")
        assert look_at(playground).hook == before.hook
        await driver.press("a")
        chain = await runs(driver, playground, "xdp_monitor", "xdp_drop")
        assert Action.DROP in chain.slots[1].actions

        await driver.press("h")
        await driver.until(lambda: driver.dialog(HistoryScreen))
        if (
            "[messages]" in driver.text()
        ):  # they come first if it was noticed that somebody else made a change
            await driver.press("n")
        await driver.until(lambda: "2 changes" in driver.text())
        await driver.press("z")
        await driver.until(lambda: driver.dialog(PlanDialog))
        await driver.press("a")
        chain = await runs(driver, playground, "xdp_drop", "xdp_monitor")
        assert Action.DROP not in chain.slots[0].actions
