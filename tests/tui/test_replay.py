# SPDX-License-Identifier: Apache-2.0
"""A replay shows what was on the screen live, moves back and forth, and edits nothing"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tui.driving import Driver, driving, run_chain
from xdpchain.model.counts import Sample
from xdpchain.observe.recording import Counted, Header, RecordedReading, Recording, Writer
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground
from xdpchain.testing.traffic import mixture
from xdptui.app import XdpTui
from xdptui.commands.replay import DEMO
from xdptui.workers.meter import Opened
from xdptui.workers.replay import Replay

PANES = ("interfaces", "chain", "waterfall")
BACK, ON, MINUTE_BACK, MINUTE_ON = (
    "left_square_bracket", "right_square_bracket", "left_curly_bracket", "right_curly_bracket",
)  # fmt: skip


@asynccontextmanager
async def replaying(
    path: Path, size: tuple[int, int] = (80, 24), interface: str | None = None
) -> AsyncIterator[Driver]:
    app = XdpTui(interface=interface, replay=Replay(Recording(str(path))))
    async with app.run_test(size=size) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: driver.session.surveyed)
        yield driver


class Prepared:
    """A reader that returns these samples, one after the other, then the last one again."""

    def __init__(self, *samples: Sample) -> None:
        self._samples = list(samples)

    def read(self) -> Sample:
        return self._samples.pop(0) if len(self._samples) > 1 else self._samples[0]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_same_sample_looks_the_same(
    playground: Playground, samples: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    """Real counts of real packets, on both screens."""
    running = run_chain(playground, samples, "firewall", "ratelimit", "monitor")
    from xdpchain.observe.counters import open_counters

    with open_counters(running) as reader:  # type: ignore[union-attr]
        playground.send(mixture())
        first = replace(reader.read(), at=0.0)
        playground.send([frames.udp(frames.PEER, frames.NEAR, 53)] * 40)
        second = replace(reader.read(), at=1.0)
    where = running.interface
    live: dict[tuple[str, str], list[str]] = {}
    async with driving(playground.netns, playground.ifname, size) as driver:
        meter = driver.app.main.meter
        await driver.until(lambda: meter.last(where.ifindex))
        runnings = driver.session.runnings
        meter._open[where.ifindex] = Opened(running.identity, Prepared(first, second))  # type: ignore[arg-type]
        meter._last.clear()
        meter._trends.clear()
        meter.read(where.ifindex)
        meter.read(where.ifindex)
        meter.read = meter.last  # type: ignore[method-assign]
        await driver.press("f")  # what was read stays on the screen
        driver.app.main.panes.show_tables()
        for unit in range(4):
            for pane in PANES:
                # Except for the action cursor: in a replay nothing can be toggled.
                live[str(unit), pane] = [line.replace("[P]", " P ") for line in driver.lines(pane)]
            await driver.press("t")
    file = tmp_path / "r"
    with Writer(str(file), Header("", 0, 0.0, 1.0)) as writer:
        writer.running(0.0, 0.0, runnings)
        for sample in (first, second):
            writer.reading(
                RecordedReading(
                    sample.at, sample.at, {where.ifindex: Counted(where.name, where.ifindex, sample)}
                )
            )
    # The time bar takes a line: with one more, the panes have the same room.
    async with replaying(file, (size[0], size[1] + 1), where.name) as driver:
        await driver.press(ON, "f")
        for unit in range(4):
            for pane in PANES:
                assert driver.lines(pane) == live[str(unit), pane]
            await driver.press("t")


async def test_back_and_forth() -> None:
    async with replaying(DEMO) as driver:
        bar = lambda: driver.lines("time")[0]  # noqa: E731
        assert "PLAY" in bar()
        await driver.press("space")
        assert "PAUSE" in bar()
        player = driver.app.main.replay.replay.player  # type: ignore[union-attr]
        player.step(-player.number)
        await driver.press(ON, ON, ON)
        assert player.number == 3
        assert " 0:03 of " in bar()
        await driver.press(BACK)
        assert player.number == 2
        before = driver.lines("chain")
        await driver.press(MINUTE_ON)
        assert 58 <= player.number <= 64
        assert driver.lines("chain") != before
        order = [slot.name for slot in driver.session.chain]
        assert order == ["xdp_firewall", "xdp_monitor", "xdp_ratelimit"], "it was edited meanwhile"
        await driver.press(MINUTE_BACK)
        await driver.until(lambda: driver.lines("chain") == before)
        assert [slot.name for slot in driver.session.chain][1] == "xdp_ratelimit"
        await driver.press(MINUTE_ON, MINUTE_ON)
        assert player.at_end
        await driver.press("space")
        assert player.number <= 1, "from the beginning"


async def test_it_plays_by_itself() -> None:
    async with replaying(DEMO) as driver:
        player = driver.app.main.replay.replay.player  # type: ignore[union-attr]
        await driver.until(lambda: player.number >= 2)
        assert "xdp_firewall" in driver.text()


async def test_nothing_can_be_edited() -> None:
    async with replaying(DEMO) as driver:
        assert "REPLAY" in driver.lines("banner")[0]
        for key in ("l", "u", "J", "D", "e", "a", "p", "m", "enter", "d", "w", "z", "L", "o"):
            await driver.press(key)
            assert driver.app.screen is driver.app.main, key
            assert not driver.session.changes, key
        assert any("This is a recording" in notice.message for notice in driver.app._notifications)
        hints = driver.lines("keys")[0]
        assert "[ earlier" in hints
        assert "load" not in hints
        await driver.press("question_mark")
        assert driver.dialog()


async def test_live_the_keys_say_where_they_work(playground: Playground) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press(ON)
        assert any("Only in a replay" in notice.message for notice in driver.app._notifications)
        assert "[ earlier" not in driver.lines("keys")[0]


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (200, 60)])
async def test_any_terminal(size: tuple[int, int]) -> None:
    async with replaying(DEMO, size) as driver:
        await driver.press(MINUTE_ON, "t", "t", "f", "s", "tab", "slash", "escape")
        assert driver.app._exception is None
        assert all(len(line) <= size[0] for line in driver.lines("time"))


async def test_the_lines_that_decided_in_the_recording_that_comes_along() -> None:
    async with replaying(DEMO, (120, 40)) as driver:
        await driver.press("space", MINUTE_ON, "b")
        await driver.until(lambda: "firewall.bpf.c:" in driver.text())
        text = " ".join(driver.text().split())
        assert "no lines are known" not in text
        drops = re.findall(r"DROP +\S+/s.*?(\S+) packets.*?firewall\.bpf\.c:\d+", text)
        assert drops, "port 53 is blocked after 20 s"
        assert drops[0] != "0"
