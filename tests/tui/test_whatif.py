# SPDX-License-Identifier: Apache-2.0
"""What a candidate would do to packets, in the terminal program."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.arming import no_guardian_survives
from tests.tui.driving import Driver, driving, look_at, names, run_chain
from xdpchain.errors import KernelRefused
from xdpchain.testing.playground import Playground
from xdpchain.trial import whatif
from xdptui.screens.load import LoadDialog
from xdptui.screens.plan import PlanDialog
from xdptui.screens.question import Confirm
from xdptui.screens.whatif import WhatIfScreen


@pytest.fixture
def ground(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> Iterator[Playground]:
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    address = ["ip", "-n", playground.netns, "addr", "replace", "203.0.113.2/24", "dev", playground.ifname]
    subprocess.run(address, check=True)
    with no_guardian_survives(playground):
        yield playground


async def add(driver: Driver, samples: Path, name: str) -> None:
    """Add a sample to the candidate through the load dialog."""
    before = len(driver.session.chain)
    await driver.press("l")
    await driver.until(lambda: driver.dialog(LoadDialog))
    driver.app.screen.query_one("#path").value = str(samples / f"{name}.o")  # type: ignore[attr-defined]
    await driver.answer("add")
    await driver.until(lambda: not driver.dialog() and len(driver.session.chain) == before + 1)


async def matrix(driver: Driver) -> None:
    await driver.until(lambda: driver.dialog(WhatIfScreen) and "packets:" in driver.label("#summary"))


async def test_the_matrix_of_a_candidate(ground: Playground, samples: Path) -> None:
    run_chain(ground, samples, "firewall", "monitor")
    async with driving(ground.netns, ground.ifname) as driver:
        await driver.press("y")
        await matrix(driver)
        assert "through what runs (no candidate)" in driver.text()
        assert driver.label("#summary") == (
            "20 packets: 20 as before. Current traffic may differ: press o, enter live"
        )
        await driver.press("escape")
        await add(driver, samples, "drop")
        await driver.press("p")
        await driver.until(lambda: driver.dialog(PlanDialog))
        await driver.until(lambda: "20 packets: 20 PASS → DROP" in driver.label("#packets"))
        await driver.press("y")
        await matrix(driver)
        assert driver.label("#summary") == "20 packets: 20 PASS → DROP"
        text = driver.text()
        assert "! ARP request " in text
        assert "PPD" not in text  # the drop comes before the monitor
        assert "PP   PD·  PASS → DROP" in text
        assert "0 xdp_firewall PASS › 1 xdp_drop DROP = DROP" in text
        await driver.press("escape")
        assert driver.dialog(PlanDialog), "it leads back to where one was"
        await driver.press("escape")
    assert names(look_at(ground)) == ["xdp_firewall", "xdp_monitor"]


async def test_packets_of_a_file_and_the_bytes_that_change(
    ground: Playground, samples: Path, tmp_path: Path
) -> None:
    run_chain(ground, samples, "monitor")
    frame = bytes(range(12)) + b"\x88\xb5" + bytes(range(46))
    (tmp_path / "some.hex").write_text(frame.hex(":") + "\n" + frame[:13].hex())
    async with driving(ground.netns, ground.ifname, (100, 40)) as driver:
        await add(driver, samples, "meta")
        await driver.press("y")
        await matrix(driver)
        await driver.press("o")
        await driver.type(f"{tmp_path}/so")
        await driver.press("right")
        source = driver.app.screen.query_one("#source")
        await driver.until(lambda: source.value.endswith("some.hex"))  # type: ignore[attr-defined]
        await driver.press("enter")
        await driver.until(lambda: "2 packets: 1 PASS, rewritten differently" in driver.label("#summary"))
        text = driver.text()
        assert "~ ethertype 0x88b5 " in text
        assert "new: 4 bytes added at its head" in text
        assert "in   0000              00 01 02 03 04 05 06 07 08 09 0a 0b" in text
        assert "out  0000  00 01 02 03 04 05 06 07 08 09 0a 0b 81 00 00 05" in text
        await driver.press("j")
        await driver.until(lambda: "it has 13 bytes; the minimum is 14" in driver.text())
        await driver.press("o")
        await driver.type(str(tmp_path / "none"))
        await driver.press("enter")
        await driver.until(lambda: "there is no file" in driver.text())
        await driver.press("o")
        await driver.type("ssh")
        await driver.press("enter")
        await driver.until(lambda: "no ssh connection of yours arrives" in driver.text())


@pytest.fixture
def own(ground: Playground, monkeypatch: pytest.MonkeyPatch) -> Playground:
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 50022 203.0.113.2 22")
    return ground


async def test_cutting_ones_own_connection_takes_more_than_a_yes(own: Playground, samples: Path) -> None:
    run_chain(own, samples, "monitor")
    async with driving(own.netns, own.ifname) as driver:
        await driver.until(lambda: driver.session.own)
        await add(driver, samples, "drop")
        await driver.press("p")
        await driver.until(lambda: driver.dialog(PlanDialog))
        await driver.until(
            lambda: "this affects your own ssh connection's packets" in driver.label("#packets")
        )
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog() and not driver.app.main.desk.busy)
        await driver.apply()
        await driver.until(lambda: driver.dialog(Confirm))
        assert "It would cut it" in driver.text()
        assert "rolls back by itself" in driver.text()
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog() and not driver.app.main.desk.busy)

        await driver.press("w")  # without confirmation
        await driver.apply()
        await driver.until(lambda: driver.dialog(Confirm))
        text = driver.text()
        assert "This would cut your own ssh connection through xdp0." in text
        assert "XDP_DROP by slot 0 (xdp_drop)" in text
        await driver.type(own.ifname)
        assert driver.app.screen.query_one("#yes").disabled, "the interface's name is not enough"
        await driver.press(*["backspace"] * len(own.ifname))
        await driver.type("cut it")
        await driver.answer("yes")
        await driver.until(lambda: not driver.dialog() and driver.session.changes == 0)
    assert names(look_at(own)) == ["xdp_drop", "xdp_monitor"]


async def test_what_is_not_checked_takes_as_much(
    own: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise KernelRefused("it can't be tried", "of a fault that was put here")

    run_chain(own, samples, "monitor", "firewall")
    async with driving(own.netns, own.ifname) as driver:
        await driver.until(lambda: driver.session.own)
        monkeypatch.setattr(whatif, "Trial", refuse)
        await driver.press("J", "w", "a")
        await driver.until(lambda: driver.dialog(Confirm))
        text = " ".join(driver.text().replace("│", " ").split())
        assert (
            "Could not check whether this cuts it: it can't be tried: of a fault that was put here." in text
        )
        await driver.type(own.ifname)
        assert driver.app.screen.query_one("#yes").disabled, "the interface's name is not enough"
        await driver.press(*["backspace"] * len(own.ifname))
        await driver.type("cut it")
        await driver.answer("yes")
        await driver.until(lambda: not driver.dialog() and driver.session.changes == 0)


async def test_a_candidate_that_spares_it_asks_as_before(own: Playground, samples: Path) -> None:
    run_chain(own, samples, "monitor", "firewall")
    async with driving(own.netns, own.ifname) as driver:
        await driver.until(lambda: driver.session.own)
        await driver.press("J")
        await driver.apply()
        await driver.until(lambda: driver.dialog(Confirm))
        text = driver.text()
        assert "Your own connection arrives through xdp0." in text
        assert "cut it" not in text
        await driver.press("escape")
        await driver.press("y")
        await matrix(driver)
        assert "your ssh: SYN to reconnect" in driver.text(), "what is one's own comes first"
