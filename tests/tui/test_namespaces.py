# SPDX-License-Identifier: Apache-2.0
"""From one network namespace to another, without leaving the program."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tui.driving import driving, run_chain
from tests.tui.terminal import Tmux
from xdpchain.testing.playground import Playground
from xdptui.screens.namespaces import Namespaces
from xdptui.screens.question import Confirm
from xdptui.view.session import BannerState


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_the_program_goes_on_in_the_other_namespace(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "firewall")
    with Tmux(playground.peer_netns, "peer0", size=(120, 30)) as tmux:
        tmux.until(lambda lines: "peer0" in str(lines) and playground.ifname not in str(lines))
        tmux.keys("N")
        lines = tmux.until(lambda lines: f" {playground.netns} " in str(lines))
        (row,) = (line for line in lines if f" {playground.netns} " in line)
        assert playground.ifname in row
        tmux.keys("/")
        tmux.keys("-l", playground.netns)
        tmux.keys("Enter")
        tmux.keys("Enter")
        tmux.until(lambda lines: playground.netns in lines[0] and "xdp_firewall" in str(lines))


async def test_a_candidate_is_not_lost_on_the_way(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "firewall", "monitor")
    async with driving(playground.netns, playground.ifname, size=(110, 30)) as driver:
        await driver.press("J", "N")
        await driver.until(lambda: driver.dialog(Namespaces))
        await driver.press("home", "enter")  # our own
        await driver.until(lambda: driver.dialog(Confirm))
        assert "not applied" in driver.text()
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())
        assert driver.app.elsewhere is None
        assert driver.session.state is BannerState.CANDIDATE
