# SPDX-License-Identifier: Apache-2.0
"""The events screen on the real engine: real packets, lost for known reasons."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.mishaps import fill, ip, listeners, redirecting
from tests.kernel.test_logs import compile_printers
from tests.tui.driving import change, driving, run_chain
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.screens.events import EventsScreen


@pytest.fixture
def net(root: None) -> Iterator[Playground]:
    with Playground(links=2, peer_takes_xdp=True) as made:
        yield made


async def test_it_shows_what_is_lost_and_where_others_go(net: Playground) -> None:
    running = redirecting(net, "by_devmap")
    fill(net, running, "ports", 2, net.links[1].ifindex)
    async with driving(net.netns, net.ifname) as driver:
        before = listeners()
        await driver.press("x")
        await driver.until(lambda: driver.dialog(EventsScreen))
        await driver.until(lambda: "Sent on" in driver.text())
        assert "nothing" in driver.text()
        net.send([scripted(bytes([2]))] * 5 + [scripted(bytes([3]))] * 4)
        ip(net.netns, "link", "set", "xdp1", "down")
        net.send([scripted(bytes([2]))] * 7)
        await driver.until(lambda: "ENETDOWN" in driver.text())
        lines = driver.text().splitlines()
        assert all(len(line) <= 80 for line in lines)

        def number(text: str) -> str:
            """The packets of the first row with that text."""
            row = next(line for line in lines if text in line)
            return row.strip("│ ").split()[-2]

        assert number("ENETDOWN [ports[2]]") == "7"
        assert number("EINVAL") == "4"
        assert number("xdp1 itself sent 5 in total") == "5"
        unwrapped = " ".join(driver.text().replace("│", " ").split())
        assert "link set dev xdp1 up" in unwrapped
        assert "7 × ENETDOWN: the target interface is down" in driver.text()
        await driver.press("f")
        assert "frozen" in driver.text()
        await driver.press("f", "r")
        await driver.until(lambda: "nothing" in driver.text())
        await driver.press("x")
        await driver.until(lambda: not driver.dialog())
        await driver.until(lambda: listeners() <= before, "something still listens")
        assert driver.app._exception is None


async def test_it_says_why_it_cannot_listen(net: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    from xdpchain.errors import PermissionDenied
    from xdpchain.observe.tracepoints import listener

    def refuse(*_: object) -> None:
        raise PermissionDenied("the XDP tracepoints can't be read", "not today", "Ask tomorrow")

    monkeypatch.setattr(listener, "Object", refuse)
    async with driving(net.netns, net.ifname) as driver:
        await driver.press("x")
        await driver.until(lambda: "not today" in driver.text())
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())


async def test_the_main_screen_marks_where_packets_are_lost(net: Playground) -> None:
    redirecting(net, "by_devmap")
    async with driving(net.netns, net.ifname) as driver:
        heard = listeners()
        await driver.until(lambda: listeners() - heard or heard)
        await asyncio.sleep(1.2)  # the alarm listens by then
        assert "!" not in driver.lines("interfaces")[1]
        net.send([scripted(bytes([3]))] * 6)
        await driver.until(lambda: "! 6 lost, x: why" in driver.lines("waterfall")[0])
        marked = [line for line in driver.lines("interfaces") if "!" in line]
        assert len(marked) == 1
        assert "xdp0" in marked[0]


async def test_the_next_page_is_the_account(net: Playground, samples: Path) -> None:
    run_chain(net, samples, "pass")
    async with driving(net.netns, net.ifname) as driver:
        await driver.until(lambda: driver.session.chain.slots)
        await driver.press("x")
        await driver.until(lambda: driver.dialog(EventsScreen))
        await driver.press("n")
        await driver.until(lambda: "they agree exactly" in driver.text())
        net.send([scripted(b"\2")] * 9)
        await driver.until(
            lambda: ["received", "9", "9", "="] in [x.strip("│ ").split() for x in driver.text().splitlines()]
        )
        assert "names from drivers/net/veth.c" in driver.text()
        assert all(len(line) <= 80 for line in driver.text().splitlines())
        change(net, lambda chain: chain.remove([0]))
        await driver.until(lambda: "ends here" in driver.text())
        for _ in range(3):
            await driver.press("n")
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())
        assert driver.app._exception is None


async def test_the_third_page_is_the_time(net: Playground, samples: Path) -> None:
    run_chain(net, samples, "firewall", "pass")
    async with driving(net.netns, net.ifname) as driver:
        await driver.until(lambda: driver.session.chain.slots)
        await driver.press("x")
        await driver.until(lambda: driver.dialog(EventsScreen))
        await driver.press("n", "n")
        await driver.until(lambda: "no packets arrived" in driver.text())
        await driver.until(lambda: "Slots, on test packets" in driver.text())
        assert "0 xdp_firewall" in driver.text()
        net.send([scripted(b"\2")] * 50)
        await driver.until(lambda: "ns per packet" in driver.text())
        assert all(len(line) <= 80 for line in driver.text().splitlines())
        await driver.press("x")
        await driver.until(lambda: not driver.dialog())
        assert driver.app._exception is None


async def test_the_fourth_page_is_what_programs_print(net: Playground, tmp_path: Path) -> None:
    run_chain(net, compile_printers(tmp_path), "first")
    async with driving(net.netns, net.ifname) as driver:
        await driver.until(lambda: driver.session.chain.slots)
        await driver.press("x")
        await driver.until(lambda: driver.dialog(EventsScreen))
        await driver.press("n", "n", "n")
        await driver.until(lambda: "nothing printed yet" in driver.text())
        net.send([scripted(b"\2")] * 2)
        await driver.until(lambda: driver.text().count("first saw 60 bytes") == 2)
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())
        assert driver.app._exception is None
