# SPDX-License-Identifier: Apache-2.0
"""Adoption and undo in the terminal program, on the real engine."""

from __future__ import annotations

from pathlib import Path

from textual.widgets import Button, Input

from tests.kernel.loaders import attach_pinned, pinned_program
from tests.kernel.test_doctor_programs import somebody
from tests.tui.driving import Driver, change, driving, look_at, names, run_chain
from xdpchain.model.running import Owner
from xdpchain.testing.playground import Playground
from xdptui.screens.adopt import AdoptDialog
from xdptui.screens.failure import Failure
from xdptui.screens.plan import PlanDialog
from xdptui.screens.question import Confirm
from xdptui.view.session import BannerState


def said(driver: Driver, words: str) -> bool:
    return any(words in notice.message for notice in driver.app._notifications)


async def test_a_foreign_program_is_adopted_and_waits(guarded: Playground, samples: Path) -> None:
    with pinned_program(samples / "counter.o") as pin:
        attach_pinned(guarded, pin)
        async with driving(guarded.netns, guarded.ifname) as driver:
            assert "Press i" in " ".join(line.strip() for line in driver.lines("chain"))
            assert " i ADOPT" in driver.lines("keys")[0]
            await driver.press("i")
            await driver.until(lambda: driver.dialog(AdoptDialog))
            path = driver.app.screen.query_one("#path", Input)
            path.value = str(samples / "firewall.o")
            await driver.until(lambda: "is not the program that runs" in driver.label("#facts"))
            assert driver.app.screen.query_one("#add", Button).disabled
            path.value = str(samples / "counter.o")
            await driver.until(lambda: "the kernel's tag confirms" in driver.label("#facts"))
            await driver.answer("add")
            await driver.until(lambda: driver.dialog(PlanDialog))
            assert "« 0 xdp_counter" in driver.text()
            assert look_at(guarded).owner is Owner.FOREIGN
            await driver.press("a")
            await driver.until(lambda: "PENDING 0" in driver.lines("banner")[0])
            await driver.press("C")
            await driver.until(lambda: driver.session.state is BannerState.RUNNING and not driver.dialog())
            await driver.until(lambda: look_at(guarded).pending is None)
            assert "i ADOPT" not in driver.lines("keys")[0]
    assert names(look_at(guarded)) == ["xdp_counter"]


async def test_what_a_link_holds_is_said_at_once(playground: Playground) -> None:
    with somebody(playground, "link") as child:
        async with driving(playground.netns, playground.ifname) as driver:
            await driver.press("i")
            await driver.until(lambda: isinstance(driver.app.screen, Failure))
            assert f"(pid {child.pid})" in driver.text()


async def test_what_a_link_holds_is_taken_off_once_its_interface_is_typed(playground: Playground) -> None:
    with somebody(playground, "link") as child:
        async with driving(playground.netns, playground.ifname) as driver:
            await driver.press("u")
            await driver.until(lambda: driver.dialog(Confirm))
            for words in ("bpf_link ", "(theirs)", f"(pid {child.pid})", "can't be undone"):
                assert words in driver.text(), driver.text()
            assert driver.app.screen.query_one("#yes", Button).disabled
            await driver.press("escape")
            await driver.until(lambda: not driver.dialog())
            assert look_at(playground).hook is not None
            await driver.press("u")
            await driver.until(lambda: driver.dialog(Confirm))
            driver.app.screen.query_one("#typed", Input).value = playground.ifname
            await driver.answer("yes")
            await driver.until(lambda: look_at(playground).hook is None)
            await driver.until(lambda: driver.session.running and not driver.session.running.hooks)


async def test_i_needs_a_foreign_program(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "firewall")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("i")
        await driver.until(lambda: said(driver, "Nothing to adopt: no foreign XDP program runs"))


async def test_undo_without_edits_takes_back_the_last_change(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "firewall", "monitor")
    change(playground, lambda chain: chain.remove([1]))
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("z")
        await driver.until(lambda: driver.dialog(PlanDialog))
        assert "this undoes change" in driver.text()
        assert "xdp_monitor" in driver.text()
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())
        assert names(look_at(playground)) == ["xdp_firewall"]
        await driver.press("z")
        await driver.until(lambda: driver.dialog(PlanDialog))
        await driver.press("a")
        await driver.until(lambda: not driver.dialog() and driver.session.state is BannerState.RUNNING)
        await driver.until(lambda: len(driver.session.chain) == 2)
        assert names(look_at(playground)) == ["xdp_firewall", "xdp_monitor"]
        # The journal knows this was an undo: undone again, it goes one step further back, to the empty hook.
        await driver.press("z")
        await driver.until(lambda: driver.dialog(PlanDialog))
        assert "- 0 xdp_firewall" in driver.text()


async def test_an_edit_is_undone_before_a_change(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "firewall", "monitor")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("J")
        assert driver.session.changes
        await driver.press("z")
        assert not driver.session.changes
        assert not driver.dialog()


async def test_nothing_to_undo_is_said(playground: Playground) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("z")
        await driver.until(lambda: said(driver, "nothing to undo"))
