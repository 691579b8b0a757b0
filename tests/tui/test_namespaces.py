# SPDX-License-Identifier: Apache-2.0
"""From one network namespace to another, without leaving the program."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tui.driving import Driver, driving, run_chain
from tests.tui.terminal import Tmux
from xdpchain.testing.playground import Playground
from xdptui.main.kernel_news import JOURNAL_DELAY
from xdptui.screens.failure import Failure
from xdptui.screens.namespaces import Namespaces
from xdptui.screens.question import Confirm
from xdptui.view.session import BannerState

CONTAINERS = 120


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_the_program_goes_on_in_the_other_namespace(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "firewall")
    with Tmux(playground.peer_netns, "peer0", size=(120, 30)) as tmux:
        tmux.until(lambda lines: "peer0" in str(lines) and playground.ifname not in str(lines))
        tmux.keys("N")
        lines = tmux.until(
            lambda lines: "Reading" not in str(lines) and f" {playground.netns} " in str(lines)
        )
        (row,) = (line for line in lines if f" {playground.netns} " in line)
        assert playground.ifname in row
        tmux.keys("/")
        tmux.keys("-l", playground.netns)
        tmux.keys("Enter")
        tmux.keys("Enter")
        tmux.until(lambda lines: playground.netns in lines[0] and "xdp_firewall" in str(lines))


@contextmanager
def containers(count: int) -> Iterator[list[str]]:
    """As many named namespaces, each with a veth pair."""
    names = [f"xdptui-{os.getpid()}-many-{i:03}" for i in range(count)]
    made = [f"netns add {name}" for name in names]
    links = [f"link add eth0 netns {name} type veth peer name peer netns {name}" for name in names]
    try:
        for lines in (made, links):
            subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
        yield names
    finally:
        gone = "\n".join(f"netns del {name}" for name in names)
        subprocess.run(["ip", "-force", "-batch", "-"], input=gone, text=True, check=False)


async def test_many_are_listed_at_once_and_read_then(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "firewall")
    with containers(CONTAINERS) as names:
        async with driving(playground.netns, playground.ifname, size=(80, 24)) as driver:
            await driver.press("N")
            await driver.until(lambda: driver.dialog(Namespaces))
            await driver.until(lambda: f"▶ {playground.netns[:20]}" in driver.text())
            await driver.until(lambda: "Reading" not in driver.text())
            await driver.press("slash")
            await driver.type(playground.netns.rpartition("-")[0][-12:])
            await driver.until(lambda: f" {playground.ifname} " in driver.text())  # XDP is on there
            await driver.press("escape", "slash")
            await driver.type(f"{os.getpid()}-many 9")  # not those of a test that runs at the same time
            await driver.press("enter", "end")
            assert f"▶ {[name for name in names if '9' in name][-1][:30]}" in driver.text()
            await driver.press("home", "enter")
            await driver.until(lambda: driver.app.elsewhere is not None)
        assert driver.app.elsewhere is not None
        assert driver.app.elsewhere.netns in names


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_one_of_many_in_a_terminal(playground: Playground, size: tuple[int, int]) -> None:
    with containers(CONTAINERS) as names, Tmux(playground.netns, playground.ifname, size=size) as tmux:
        tmux.until(lambda lines: playground.ifname in str(lines))
        tmux.keys("N")
        lines = tmux.until(lambda lines: names[0] in str(lines) and "Reading" not in str(lines))
        shown = [line for line in lines if "-many-" in line]
        assert len(shown) > size[1] // 3, "the list uses the terminal's height"
        assert all("  3  -" in line for line in shown)
        assert any("Go there (enter)" in line for line in lines)
        tmux.keys("/")
        tmux.keys("-l", names[77])
        tmux.until(lambda lines: "1 of " in str(lines))
        tmux.keys("Enter")
        tmux.keys("Enter")
        tmux.until(lambda lines: names[77] in lines[0] and "peer" in str(lines))


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


@contextmanager
def namespace(name: str) -> Iterator[str]:
    """A named namespace that the test may delete."""
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


async def test_a_namespace_made_anew_is_no_change_of_what_runs(root: None) -> None:
    with namespace(f"xdptui-{os.getpid()}-anew") as name:
        ip("-n", name, "link", "add", "before", "type", "veth", "peer", "name", "peer")
        async with driving(name) as driver:
            ip("netns", "del", name)
            ip("netns", "add", name)
            ip("-n", name, "link", "add", "after", "type", "veth", "peer", "name", "peer")
            await driver.until(lambda: any("after" in line for line in driver.lines("interfaces")))
            await asyncio.sleep(2 * JOURNAL_DELAY)
            await driver.pilot.pause()
            assert not [notice for notice in driver.app.main.desk.notices if "changed" in notice.text]


async def test_one_that_was_deleted_meanwhile_is_not_gone_to(playground: Playground) -> None:
    with namespace(f"xdptui-{os.getpid()}-gone") as gone, namespace(f"xdptui-{os.getpid()}\nline"):
        async with driving(playground.netns, playground.ifname, size=(120, 30)) as driver:
            await choose(driver, gone)
            ip("netns", "del", gone)
            await driver.press("enter")
            await driver.until(lambda: driver.dialog(Failure))
            assert "does not exist" in driver.text()
            assert "\\nline" in driver.text(), "among those that exist"
            await driver.press("escape")
            assert driver.app.elsewhere is None


async def choose(driver: Driver, name: str) -> None:
    """Put the cursor of the list on a namespace."""
    await driver.press("N")
    await driver.until(lambda: driver.dialog(Namespaces))
    await driver.until(lambda: "Reading" not in driver.text())
    await driver.press("slash")
    await driver.type(name)
    await driver.press("enter")
    await driver.until(lambda: f"▶ {name}" in driver.text())
