# SPDX-License-Identifier: Apache-2.0
"""The doctor's screen, and what the plan's screen says about the kernel, on the real engine."""

from __future__ import annotations

from pathlib import Path

from tests.tui.driving import driving, run_chain
from xdpchain.sys import bpf
from xdpchain.sys.netlink import Netlink
from xdpchain.testing.frames import NEAR, PEER, udp
from xdpchain.testing.playground import Playground
from xdptui.screens.doctor import DoctorScreen
from xdptui.screens.plan import PlanDialog

RETURN_PASS = bytes.fromhex("b7000000020000009500000000000000")


async def test_it_examines_the_selected_interface(playground: Playground) -> None:
    with (
        bpf.prog_load(bpf.ProgType.XDP, RETURN_PASS, name="balancer_ingres") as program,
        Netlink(playground.netns) as netlink,
    ):
        netlink.attach_xdp(playground.ifindex, program, "native", None)
        async with driving(playground.netns, playground.ifname, size=(120, 60)) as driver:
            await driver.press("d")
            await driver.until(lambda: driver.dialog(DoctorScreen))
            await driver.until(lambda: f"interface {playground.ifname}" in driver.text())
            text = driver.text()
            assert "katran's" in text
            assert "Stop katran's server" in text
            assert "warning" in text
            assert "MTU 1500 fits" not in text, "what is fine is only counted"
            await driver.press("f")
            await driver.until(lambda: "XDP programs load" in driver.text())
            for _ in range(6):
                await driver.press("pagedown")
            assert "MTU 1500 fits" in driver.text()
            netlink.attach_xdp(playground.ifindex, -1, "native", program)
            await driver.press("r")
            await driver.until(lambda: "examining" not in driver.text())
            for _ in range(6):
                await driver.press("pagedown")
            assert "no XDP program runs" in driver.text()
            await driver.press("escape")
            await driver.until(lambda: not driver.dialog())
            assert driver.app._exception is None


async def test_it_fits_a_small_terminal_and_says_what_failed(playground: Playground) -> None:
    async with driving(playground.netns, playground.ifname, size=(80, 24)) as driver:
        driver.app.push_screen(DoctorScreen(playground.netns, "gone0"))
        await driver.until(lambda: "No interface gone0" in driver.text())
        await driver.press("f", "down", "r", "escape")
        await driver.until(lambda: not driver.dialog())
        driver.app.push_screen(DoctorScreen(playground.netns, None))
        await driver.until(lambda: "kernel" in driver.text())
        assert all(len(line) <= 80 for line in driver.text().splitlines())
        await driver.press("escape")


async def test_the_plan_says_what_state_is_lost(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "ratelimit", "pass")
    playground.send([udp(PEER, NEAR, 53)])
    async with driving(playground.netns, playground.ifname, size=(120, 40)) as driver:
        await driver.until(lambda: driver.session.chain.slots)
        driver.app.main.desk.put(driver.session.edited(driver.session.chain.remove([0])))
        await driver.press("p")
        await driver.until(lambda: driver.dialog(PlanDialog))
        assert "buckets (lru_hash, 1 entry)" in " ".join(driver.text().replace("│", " ").split())
