# SPDX-License-Identifier: Apache-2.0
"""The follow screen on the real engine: real packets and bytes; afterwards the chain is as before."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.kernel.chains import scripted_chain
from tests.kernel.test_follow import left_over, wait_until_it_counts_as_gone
from tests.tui.driving import Driver, change, driving, look_at, run_chain
from xdpchain.follow import follow
from xdpchain.model.actions import ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.model.running import Running
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.screens.follow import FollowScreen
from xdptui.widgets.row_list import RowList

SIZES = [(80, 24), (120, 40)]


@pytest.fixture
def three(playground: Playground, samples: Path) -> Running:
    chain = scripted_chain(samples, [ActionSet.parse("P")] * 3, Linkage.STATIC)
    return change(playground, lambda _: chain)


async def begun(driver: Driver, expression: str) -> None:
    """The follow screen, following what matches."""
    await driver.press("F")
    await driver.until(lambda: driver.dialog(FollowScreen))
    await driver.type(expression)
    await driver.press("enter")
    await driver.until(lambda: "FOLLOWING" in driver.text())


@pytest.mark.parametrize("size", SIZES)
async def test_packets_and_one_in_full(playground: Playground, three: Running, size: tuple[int, int]) -> None:
    async with driving(playground.netns, playground.ifname, size=size) as driver:
        await driver.press("F")
        await driver.until(lambda: driver.dialog(FollowScreen))
        assert "a recording chain on the same maps is swapped in" in " ".join(driver.text().split())
        assert look_at(playground).following is None, "not before it is asked for"
        await driver.type("ether proto 0x88b5")
        await driver.press("enter")
        await driver.until(lambda: "FOLLOWING" in driver.text())
        assert look_at(playground).following is not None
        playground.send([scripted(b"\2\2\2"), scripted(b"\2\1\2")])
        rows = driver.app.screen.query_one("#packets", RowList)
        await driver.until(lambda: len(rows.lines) == 3)
        assert "P✂P✂P✂" in rows.lines[1].text
        assert rows.lines[1].text.rstrip().endswith("PASS")
        assert "P✂D✂" in rows.lines[2].text
        assert rows.lines[2].text.rstrip().endswith("DROP")
        await driver.press("end")
        detail = driver.label("#packet")
        assert "scripted_1" in detail
        assert "scripted_2" not in detail, "the packet never came there"
        assert "1 byte added at 61: 31" in detail
        assert ">30>31" in detail.replace(" ", ""), "what was appended is marked"
        await driver.press("home")
        await driver.until(lambda: "scripted_2" in driver.label("#packet"))
        assert "scripted.bpf.c:" in driver.label("#packet"), "the line that decided"
        await driver.press("p")
        await driver.until(lambda: "path through scripted_2, replayed on copies" in driver.label("#packet"))
        assert all(len(line) <= size[0] for line in driver.text().splitlines())
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())
        await driver.until(lambda: look_at(playground).hook == three.hook)
        assert driver.app._exception is None
    assert look_at(playground).following is None


async def test_words_of_the_compiler_and_another_try(playground: Playground, three: Running) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("F")
        await driver.type("host and")
        await driver.press("enter")
        await driver.until(lambda: "can't parse filter" in driver.text())
        assert look_at(playground).hook == three.hook
        await driver.press("ctrl+u")
        await driver.type("arp")
        await driver.press("enter")
        await driver.until(lambda: "FOLLOWING arp" in driver.text())
        # Another filter, while the first one is still following.
        await driver.press("slash", "ctrl+u")
        await driver.type("ether proto 0x88b5")
        await driver.press("enter")
        await driver.until(lambda: "FOLLOWING ether" in driver.text())
        playground.send([scripted(b"\2\2\2")])
        await driver.until(lambda: "P✂P✂P✂" in driver.text())
        await driver.press("x")
        await driver.until(lambda: "ENDED" in driver.text())
        assert look_at(playground).hook == three.hook
        await driver.press("escape")


async def test_a_file_to_take_along(
    playground: Playground, three: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with driving(playground.netns, playground.ifname) as driver:
        await begun(driver, "")
        playground.send([scripted(b"\2\1\2")])
        await driver.until(lambda: "P✂D✂" in driver.text())
        await driver.press("w")
        await driver.until(lambda: "1 packet written to" in " ".join(driver.text().split()))
        (path,) = (tmp_path / "xdptui").glob("follow-*.pcapng")
        shown = "".join(line.strip(" │") for line in driver.text().splitlines())
        assert str(path) in shown, "the whole path, on whichever lines"
        await driver.press("escape")
    (path,) = (tmp_path / "xdptui").glob("follow-*.pcapng")
    done = subprocess.run(
        ["tshark", "-r", str(path), "-T", "fields", "-e", "frame.comment"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "scripted_1 DROP" in done.stdout.splitlines()[0]
    assert "verdict DROP" in done.stdout


async def test_somebody_elses_edit_ends_it(playground: Playground, three: Running) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await begun(driver, "")
        change(playground, lambda chain: chain.remove([0]))
        await driver.until(lambda: "made by" in " ".join(driver.text().split()))
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())
        await driver.until(lambda: len(driver.session.chain) == 2)


async def test_a_candidate_survives_it(playground: Playground, three: Running) -> None:
    """Following does not change the chain: candidates do not become stale."""
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.until(lambda: driver.session.chain.slots)
        driver.app.main.desk.put(driver.session.edited(driver.session.chain.remove([0])))
        await begun(driver, "")
        await driver.press("escape")
        await driver.until(lambda: look_at(playground).hook == three.hook)
        await driver.press("r")
        await driver.until(lambda: driver.session.changes == 1)
        assert not driver.session.stale


async def test_nothing_to_follow(playground: Playground, samples: Path) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("F")
        assert any("nothing to follow" in notice.message for notice in driver.app._notifications)
        assert not driver.dialog()


async def test_what_a_killed_follower_left_is_taken_back(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "pass")
    before = look_at(playground)
    left_over(playground)
    wait_until_it_counts_as_gone(playground)
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.until(lambda: look_at(playground).following is None)
        await driver.until(
            lambda: any("was killed" in notice.message for notice in driver.app._notifications)
        )
    after = look_at(playground)
    assert (after.identity, after.chain) == (before.identity, before.chain)


async def test_somebody_elses_following_shows(playground: Playground, three: Running) -> None:
    with follow(three, ""):
        async with driving(playground.netns, playground.ifname) as driver:
            await driver.until(lambda: "FOLLOWED" in driver.text())
            await driver.press("F", "enter")
            await driver.until(lambda: "already following" in " ".join(driver.text().split()))
            await driver.press("escape")


async def test_only_packets_with_a_verdict(playground: Playground, three: Running) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await begun(driver, "")
        hook = look_at(playground).hook
        await driver.press("v")
        await driver.until(lambda: "Show: DROP (v)" in driver.text())
        playground.send([scripted(b"\2\2\2"), scripted(b"\2\1\2")])
        await driver.until(lambda: "P✂D✂" in driver.text())
        await driver.until(lambda: "2 followed. Shown: 1 with verdict DROP" in driver.label("#note"))
        assert "P✂P✂P✂" not in driver.text()
        await driver.press("v", "v")
        await driver.until(lambda: "Show: PASS (v)" in driver.text())
        assert "P✂P✂P✂" in driver.text(), "followed all the same"
        assert look_at(playground).hook == hook, "nothing was swapped for it"
        await driver.press("v", "v", "v")
        await driver.until(lambda: "P✂P✂P✂" in driver.text() and "P✂D✂" in driver.text())
        await driver.press("escape")


async def test_it_ends_at_the_most_that_is_shown_and_keeps_some_of_the_others(
    playground: Playground, three: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xdptui.screens.follow.COUNT", 2)
    monkeypatch.setattr("xdptui.screens.follow.KEPT", 4)
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("F")
        await driver.until(lambda: driver.dialog(FollowScreen))
        await driver.press("tab", "v")  # what is shown is chosen before it begins
        await driver.press("slash")
        await driver.type("ether proto 0x88b5")
        await driver.press("enter")
        await driver.until(lambda: "FOLLOWING" in driver.text())
        playground.send([scripted(b"\2\2\2")] * 6 + [scripted(b"\2\1\2")])
        rows = driver.app.screen.query_one("#packets", RowList)
        await driver.until(lambda: "7 followed. Shown: 1 with verdict DROP" in driver.label("#note"))
        playground.send([scripted(b"\2\1\2")] * 3)
        await driver.until(lambda: "ENDED: 2 packets" in driver.label("#note"))
        assert len(rows.lines) == 3
        await driver.press("v", "v")
        assert len(rows.lines) == 3, "the newest of the others"
        await driver.until(lambda: look_at(playground).hook == three.hook)
        await driver.press("escape")


async def test_after_the_end_a_verdict_filters_what_is_shown_and_written(
    playground: Playground, three: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with driving(playground.netns, playground.ifname) as driver:
        await begun(driver, "ether proto 0x88b5")
        playground.send([scripted(b"\2\2\2"), scripted(b"\2\1\2"), scripted(b"\2\2\2")])
        rows = driver.app.screen.query_one("#packets", RowList)
        await driver.until(lambda: len(rows.lines) == 4)
        await driver.press("x")
        await driver.until(lambda: "To follow again: /, enter" in " ".join(driver.text().split()))
        await driver.press("v")
        await driver.until(lambda: len(rows.lines) == 2)
        assert "P✂D✂" in rows.lines[1].text
        await driver.until(lambda: "Show: DROP (v)" in driver.text())
        assert "Shown: 1 with verdict DROP" in driver.label("#note")
        await driver.press("w")
        await driver.until(lambda: driver.label("#saved").startswith("1 packet written to "))
        await driver.press("v")
        await driver.until(lambda: "None ended as ABORTED" in driver.text())
        assert driver.app.screen.query_one("#write").disabled
        await driver.press("v", "v", "v", "v")
        await driver.until(lambda: len(rows.lines) == 4)
