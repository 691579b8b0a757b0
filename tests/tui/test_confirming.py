# SPDX-License-Identifier: Apache-2.0
"""Changes that wait to be confirmed, in the terminal program."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tui.driving import Driver, change, driving, look_at, names, run_chain
from xdpchain.change.confirm.by_hand import confirm, roll_back
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.testing.playground import Playground
from xdptui.app import XdpTui, tell_waiting
from xdptui.screens.applying import Applying
from xdptui.screens.plan import PlanDialog
from xdptui.screens.question import Confirm
from xdptui.screens.waiting import WaitingDialog
from xdptui.view import session as sessions


def said(driver: Driver, words: str) -> bool:
    """Whether a notice with these words was shown."""
    return any(words in f"{notice.title}: {notice.text}" for notice in driver.app.main.desk.notices)


async def swapped(driver: Driver) -> None:
    """Move the first slot down, require confirmation, and apply."""
    await driver.press("K" if driver.session.slot else "J")
    await driver.press("w")
    await driver.until(lambda: "ROLLBACK 60 s" in driver.lines("banner")[0])
    await driver.apply()
    await driver.until(lambda: not driver.dialog() and driver.session.changes == 0)
    await driver.until(lambda: "PENDING 0" in driver.lines("banner")[0])


async def test_a_change_waits_and_is_kept(guarded: Playground, samples: Path) -> None:
    before = run_chain(guarded, samples, "firewall", "monitor")
    async with driving(guarded.netns, guarded.ifname) as driver:
        await swapped(driver)
        waiting = look_at(guarded)
        assert waiting.pending is not None
        assert waiting.hook != before.hook
        assert {"CONFIRM", "ROLL"} <= set(driver.lines("keys")[0].split())
        first = driver.lines("banner")[0]
        await driver.until(lambda: driver.lines("banner")[0] != first, "it counts down")
        await driver.press("C")
        await driver.until(lambda: "RUNNING" in driver.lines("banner")[0])
        assert "CONFIRM" not in driver.lines("keys")[0]
    assert look_at(guarded).hook == waiting.hook


async def test_a_change_waits_and_is_taken_back(guarded: Playground, samples: Path) -> None:
    before = run_chain(guarded, samples, "firewall", "monitor")
    async with driving(guarded.netns, guarded.ifname) as driver:
        await swapped(driver)
        await driver.press("B")
        await driver.until(lambda: said(driver, "the change was rolled back (by "))
        await driver.until(lambda: "RUNNING" in driver.lines("banner")[0])
        await driver.until(lambda: [s.name for s in driver.session.chain] == names(before))
    assert look_at(guarded).hook == before.hook


async def test_quitting_asks_what_becomes_of_a_change_that_waits(
    guarded: Playground, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run_chain(guarded, samples, "firewall", "monitor")
    async with driving(guarded.netns, guarded.ifname) as driver:
        await swapped(driver)
        await driver.press("q")
        await driver.until(lambda: driver.dialog(WaitingDialog))
        await driver.until(lambda: "a change is pending (00:" in driver.text())
        assert "C keeps it, B rolls it back, q leaves it to roll back." in driver.text()
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog() and not driver.app.main.desk.busy)
        await driver.press("q")
        await driver.until(lambda: driver.dialog(WaitingDialog))
        await driver.press("q")
        await driver.until(lambda: driver.app._exit)
    assert look_at(guarded).pending is not None
    tell_waiting(driver.app.left_waiting)
    command = f"`xdptui confirm {guarded.ifname} --netns {guarded.netns}` keeps it"
    assert command in capsys.readouterr().err
    async with driving(guarded.netns, guarded.ifname) as driver:
        await driver.until(lambda: "PENDING 0" in driver.lines("banner")[0])
        await driver.press("q")
        await driver.until(lambda: driver.dialog(WaitingDialog))
        await driver.press("B")
        await driver.until(lambda: driver.app._exit)
    assert driver.app.left_waiting == ()
    now = look_at(guarded)
    assert (now.pending, now.hook) == (None, before.hook)


async def test_that_changes_wait_shows_before_there_is_one_and_in_the_plan(
    guarded: Playground, samples: Path
) -> None:
    run_chain(guarded, samples, "firewall", "monitor")
    async with driving(guarded.netns, guarded.ifname) as driver:
        await driver.press("w")
        await driver.until(lambda: "ROLLBACK 60 s" in driver.lines("banner")[0])
        assert driver.session.changes == 0
        await driver.press("J", "p")
        await driver.until(lambda: driver.dialog(PlanDialog))
        await driver.until(lambda: "Rolls back unless confirmed (C) within 60 s." in driver.text())
        await driver.press("escape", "w")
        await driver.until(lambda: "ROLLBACK" not in driver.lines("banner")[0])


async def test_that_changes_wait_holds_for_every_interface_and_from_the_first_moment(
    guarded: Playground, samples: Path
) -> None:
    run_chain(guarded, samples, "firewall", "monitor")
    app = XdpTui(guarded.netns, guarded.ifname)
    async with app.run_test(size=(80, 24)) as pilot:
        driver = Driver(app, pilot)
        await driver.press("w")  # before the interfaces are known
        await driver.until(lambda: driver.session.surveyed)
        assert said(driver, "All interfaces: changes roll back unless confirmed (C) within 60 s")
        for running in driver.session.runnings:
            app.main.desk.put(driver.session.select(running.interface.ifindex))
            await driver.until(lambda: "ROLLBACK 60 s" in driver.lines("banner")[0])


async def test_where_no_change_can_be_pending_that_is_said_at_once_and_in_the_plan(
    guarded: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run_chain(guarded, samples, "firewall", "monitor")
    monkeypatch.setattr(
        "xdpchain.sys.mount_lifetime.ends_with_us", lambda path: True
    )  # as in `ip netns exec`
    async with driving(guarded.netns, guarded.ifname) as driver:
        await driver.until(lambda: "1 unread: h" in driver.lines("banner")[0])
        driver.app.main.desk.put(replace(driver.session, confirm_seconds=30.0))  # as a setting may have it
        assert said(driver, "Run xdptui outside, with --netns NAME")
        assert not said(driver, "--confirm"), "keys, not options"
        await driver.press("J", "a")
        await driver.until(lambda: driver.dialog(PlanDialog))
        shown = " ".join(driver.text().replace("│", " ").split())
        assert "It can't be applied with a rollback: a pending change can't be pinned" in shown
        assert "press w to apply without confirmation" in shown
        assert not driver.app.screen.query("#apply")
        await driver.press("escape", "w", "w")
        assert said(driver, "changes apply without confirmation")
        assert "ROLLBACK" not in driver.lines("banner")[0], "it can't be switched on"
        await driver.apply()
        await driver.until(lambda: driver.session.changes == 0 and not driver.dialog())
    assert look_at(guarded).pending is None
    assert names(look_at(guarded)) == names(before)[::-1]


async def test_unconfirmed_it_goes_back_and_that_is_said(
    guarded: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run_chain(guarded, samples, "firewall", "monitor")
    monkeypatch.setattr(sessions, "CONFIRM_SECONDS", 2.0)
    async with driving(guarded.netns, guarded.ifname) as driver:
        await driver.press("J", "w")
        await driver.apply()
        await driver.until(lambda: driver.session.running and driver.session.running.pending)
        await driver.until(lambda: said(driver, "the change was rolled back (nobody confirmed within 2 s)"))
        await driver.until(lambda: "RUNNING" in driver.lines("banner")[0])
    assert look_at(guarded).hook == before.hook


async def test_what_others_armed_and_decided_shows(guarded: Playground, samples: Path) -> None:
    before = run_chain(guarded, samples, "firewall", "monitor")
    assert before.chain is not None
    async with driving(guarded.netns, guarded.ifname) as driver:
        for decide in (roll_back, confirm):
            running = look_at(guarded)
            assert running.chain is not None
            apply(make_plan(running, running.chain.move(1, 0)), confirm=100)
            await driver.until(lambda: "PENDING 01:" in driver.lines("banner")[0])
            decide(guarded.ifname, guarded.netns)
            await driver.until(lambda: "RUNNING" in driver.lines("banner")[0])


async def test_the_interface_that_carries_our_connection_waits_by_itself(
    guarded: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(
        ["ip", "-n", guarded.netns, "addr", "replace", "203.0.113.2/24", "dev", guarded.ifname], check=True
    )
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.9 50022 203.0.113.2 22")
    run_chain(guarded, samples, "firewall", "monitor")
    async with driving(guarded.netns, guarded.ifname) as driver:
        await driver.until(lambda: driver.session.own)
        await driver.press("J")
        await driver.until(lambda: "ROLLBACK 60 s" in driver.lines("banner")[0])
        await driver.apply()
        await driver.until(lambda: driver.dialog(Confirm))
        assert "Your own connection arrives" in driver.text()
        assert "rolls back by itself" in driver.text()
        await driver.type(guarded.ifname)
        await driver.answer("yes")
        await driver.until(lambda: not driver.dialog() and driver.session.changes == 0)
        await driver.until(lambda: "PENDING 0" in driver.lines("banner")[0])
        assert "ROLLBACK" not in driver.lines("banner")[0], "the setting gives way to what is pending"
        # It can be switched off, and then says what that means.
        await driver.press("C")
        await driver.until(lambda: "RUNNING" in driver.lines("banner")[0])
        await driver.press("w", "K")
        await driver.apply()
        await driver.until(lambda: driver.dialog(Confirm))
        assert "could not undo" in driver.text()
        await driver.press("escape")
    assert look_at(guarded).pending is None


async def test_elsewhere_nothing_waits_unasked(guarded: Playground, samples: Path) -> None:
    run_chain(guarded, samples, "firewall", "monitor")
    async with driving(guarded.netns, guarded.ifname) as driver:
        await driver.press("C")
        assert said(driver, "No change is pending")
        await driver.press("J")
        await driver.apply()
        await driver.until(lambda: driver.session.changes == 0 and not driver.dialog(Applying))
    assert look_at(guarded).pending is None
    change(guarded, lambda chain: chain.remove([0]))
