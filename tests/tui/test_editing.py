# SPDX-License-Identifier: Apache-2.0
"""Edits of the candidate by mouse and keys, on the real engine: the kernel changes on apply, not before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel.chains import change as put
from tests.kernel.chains import scripted_chain
from tests.tui.driving import THREE, Driver, change, driving, look_at, names, run_chain
from xdpchain.change.plan import Plan
from xdpchain.editing import Edited, apply_all
from xdpchain.linkage.probe import default_linkage
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import MAX_SLOTS, Chain, Linkage
from xdpchain.model.policy import Answer, Policy
from xdpchain.testing import frames
from xdpchain.testing.frames import NEAR, PEER
from xdpchain.testing.playground import Playground
from xdptui.screens.applying import Applying
from xdptui.screens.linkage import LinkageDialog
from xdptui.screens.load import LoadDialog
from xdptui.screens.plan import PlanDialog
from xdptui.screens.policy import PolicyDialog
from xdptui.screens.priority import PriorityDialog
from xdptui.screens.routes import RoutesDialog
from xdptui.view.chain_lines import columns
from xdptui.view.session import BannerState

THREE_NAMES = ["xdp_firewall", "xdp_ratelimit", "xdp_monitor"]


async def applied(driver: Driver) -> None:
    """Apply, and wait until it has happened."""
    await driver.apply()
    await driver.until(lambda: driver.session.state is BannerState.RUNNING and not driver.dialog())


async def test_drag_plan_apply(playground: Playground, samples: Path) -> None:
    before = run_chain(playground, samples, *THREE)
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.drag(0, 2)
        await driver.until(
            lambda: [s.name for s in driver.session.chain] == [*THREE_NAMES[1:], "xdp_firewall"]
        )
        assert driver.session.state is BannerState.CANDIDATE
        assert "CANDIDATE" in driver.lines("banner")[0]
        assert look_at(playground).identity == before.identity, "a drag must not touch the kernel"
        await driver.press("p")
        await driver.until(lambda: driver.dialog(PlanDialog))
        assert "swap it in for program" in driver.text()
        await driver.apply()
        await driver.until(lambda: driver.session.state is BannerState.RUNNING)
    after = look_at(playground)
    assert names(after) == [*THREE_NAMES[1:], "xdp_firewall"]
    assert after.identity != before.identity


async def test_a_drag_beyond_both_ends_and_back_is_no_change(driver: Driver) -> None:
    start = driver.slot_offset(1)
    await driver.pilot.mouse_down(offset=start)
    assert driver.table.dragging
    await driver.pilot.hover(offset=(start[0], 0))
    assert driver.table.view.drag == (1, 0)
    await driver.pilot.hover(offset=(start[0], 23))
    assert driver.table.view.drag == (1, 2)
    await driver.pilot.hover(offset=start)
    await driver.pilot.mouse_up(offset=start)
    await driver.pilot.pause()
    assert not driver.table.dragging
    assert driver.session.changes == 0


async def test_escape_puts_a_held_slot_back(driver: Driver) -> None:
    start = driver.slot_offset(0)
    await driver.pilot.mouse_down(offset=start)
    await driver.pilot.hover(offset=(start[0], start[1] + 4))
    await driver.press("escape")
    await driver.until(lambda: not driver.table.dragging)
    await driver.pilot.mouse_up(offset=start)
    assert driver.session.changes == 0
    assert [s.name for s in driver.session.chain] == THREE_NAMES


async def test_move_by_keys(driver: Driver, playground: Playground) -> None:
    await driver.press("J", "J", "J")
    assert [s.name for s in driver.session.chain][2] == "xdp_firewall"
    assert driver.session.slot == 2
    await driver.press("K")
    assert [s.name for s in driver.session.chain][1] == "xdp_firewall"
    await driver.press("shift+up", "shift+down", "shift+down")
    assert [s.name for s in driver.session.chain][2] == "xdp_firewall"
    await applied(driver)
    assert names(look_at(playground))[2] == "xdp_firewall"


async def test_toggles_by_click_by_cursor_and_by_letter(driver: Driver, playground: Playground) -> None:
    at_drop = columns(80).toggles_at + 2 * Action.DROP
    await driver.pilot.click(offset=driver.slot_offset(1, at_drop))
    await driver.until(lambda: Action.DROP in driver.session.chain.slots[1].actions)
    assert driver.session.slot == 1
    assert "D*P" in driver.lines("chain")[3]
    await driver.press("right", "right", "space")  # DROP → PASS → TX
    assert driver.session.chain.slots[1].actions == ActionSet.parse("DPT")
    await driver.press("R", "P")
    assert driver.session.chain.slots[1].actions == ActionSet.parse("DTR")
    await applied(driver)
    chain = look_at(playground).chain
    assert chain is not None
    assert chain.slots[1].actions == ActionSet.parse("DTR")
    assert chain.slots[0].actions == ActionSet.parse("P")


async def test_toggling_decides_over_real_packets(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "drop", "pass")
    one = frames.udp(PEER, NEAR, 9)
    async with driving(playground.netns, playground.ifname) as driver:
        slots = [slot.name for slot in driver.session.chain]
        await driver.press(*["down"] * slots.index("xdp_drop"), "D")
        if slots.index("xdp_drop") == len(slots) - 1:
            await driver.press("K")
        await applied(driver)
        assert [slot.name for slot in driver.session.chain] == ["xdp_drop", "xdp_pass"]
        playground.send([one] * 25)
        await driver.press("t")  # totals first
        await driver.until(lambda: "  25" in driver.lines("waterfall")[1], "25 packets were never shown")
        text = "\n".join(driver.lines("waterfall"))
        assert "= P passed" in text
        assert next(w for w in text.splitlines() if "passed" in w).split()[3] == "25"
        assert next(w for w in text.splitlines() if "dropped" in w).split()[3] == "0"


async def test_priority(driver: Driver, playground: Playground) -> None:
    await driver.press("e")
    await driver.until(lambda: driver.dialog(PriorityDialog))
    await driver.press("end", *["backspace"] * 4)
    await driver.until(lambda: "whole number" in driver.text())
    await driver.press("enter")
    assert driver.dialog(PriorityDialog), "no number is not a valid answer"
    await driver.type("95")
    await driver.until(lambda: "It becomes slot 2" in driver.text())
    await driver.press("enter")
    await driver.until(lambda: not driver.dialog())
    assert [s.name for s in driver.session.chain][2] == "xdp_firewall"
    assert driver.session.slot == 2, "the cursor goes with the slot"
    await applied(driver)
    chain = look_at(playground).chain
    assert chain is not None
    assert chain.slots[2].priority == 95


async def test_undo_redo_and_drop(playground: Playground, samples: Path) -> None:
    before = run_chain(playground, samples, *THREE)
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("J", "up", "D", "c")
        assert driver.session.changes == 3
        await driver.press("z", "z")
        assert driver.session.changes == 1
        await driver.press("Z")
        assert driver.session.changes == 2
        edited = driver.session.chain
        await driver.press("escape")
        await driver.until(lambda: driver.session.changes == 0)
        assert not driver.dialog()
        told = "candidate with 2 changes discarded. Z brings it back"
        assert any(told in notice.message for notice in driver.app._notifications)
        assert any(told in notice.text for notice in driver.app.main.desk.notices), "the history has it"
        await driver.press("Z")
        assert (driver.session.changes, driver.session.chain) == (2, edited)
        await driver.press("z", "Z")
        assert driver.session.chain == edited, "with all its edits"
        await driver.press("escape", "O", "escape", "Z")
        assert driver.session.changes == 1, "another candidate takes its place"
    assert look_at(playground).identity == before.identity


async def test_counters_off_and_on(driver: Driver, playground: Playground) -> None:
    await driver.press("c")
    await applied(driver)
    await driver.until(lambda: "chain's counters are off" in "\n".join(driver.lines("waterfall")))
    assert "counters off" in driver.lines("banner")[0]
    await driver.press("c")
    await applied(driver)
    await driver.until(lambda: any("received" in line for line in driver.lines("waterfall")))
    chain = look_at(playground).chain
    assert chain is not None
    assert chain.counters


async def test_a_plan_without_changes(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "pass")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("p", "a")
        assert not driver.dialog()
        assert (
            len(driver.app.main.desk.notices) == 2
        )  # a message of the same kind takes the place of the one before


async def test_another_editor_makes_a_candidate_stale_and_rebase_carries_it_over(
    driver: Driver, playground: Playground
) -> None:
    await driver.press("D")
    change(playground, lambda chain: chain.remove([2]))
    await driver.until(lambda: driver.session.state is BannerState.STALE)
    assert "STALE" in driver.lines("banner")[0]
    assert len(driver.session.chain) == 3, "the candidate stays visible"
    await driver.apply()
    await driver.until(lambda: "Somebody else changed" in driver.text())
    assert "xdp_monitor" in driver.text()
    await driver.press("enter")  # the harmless button
    await driver.until(lambda: not driver.dialog())
    assert driver.session.state is BannerState.STALE
    await driver.apply()
    await driver.answer("rebase")
    await driver.until(lambda: driver.session.state is BannerState.CANDIDATE)
    assert [s.name for s in driver.session.chain] == THREE_NAMES[:2]
    await applied(driver)
    chain = look_at(playground).chain
    assert chain is not None
    assert [s.name for s in chain] == THREE_NAMES[:2]
    assert chain.slots[0].actions == ActionSet.parse("DP")


async def test_a_stale_candidate_that_goes_unnoticed_is_refused_by_the_engine(
    driver: Driver, playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver.app.main.feed, "_look", lambda: None)  # the screen is not told
    await driver.pilot.pause(0.5)  # let a look in progress finish
    await driver.press("D")
    theirs = change(playground, lambda chain: chain.remove([2]))
    await driver.apply()
    await driver.until(lambda: "The chain was changed meanwhile" in driver.text())
    assert look_at(playground).identity == theirs.identity
    await driver.press("escape")
    await driver.until(lambda: not driver.dialog())
    assert driver.session.changes == 1, "the candidate is not lost"


async def test_an_apply_that_is_called_off_leaves_everything_as_it_was(
    playground: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's own apply, blocked at its first step until the user cancels."""
    before = run_chain(playground, samples, *THREE)

    def held_up(
        plans: Sequence[Plan], *, progress: Callable[[str], None], cancelled: Callable[[], bool], **_: object
    ) -> tuple[Edited, ...]:
        def wait(step: str) -> None:
            progress(step)
            deadline = time.monotonic() + 20
            while not cancelled() and time.monotonic() < deadline:
                time.sleep(0.01)

        return apply_all(plans, progress=wait, cancelled=cancelled)

    monkeypatch.setattr("xdpchain.editing.apply_all", held_up)
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("J")
        await driver.apply()
        await driver.until(lambda: driver.dialog(Applying) and "•" in driver.label("#steps"))
        await driver.press("q")  # cancels it, and does not quit
        assert not driver.app._exit
        await driver.until(lambda: not driver.dialog())
        assert driver.session.changes == 1
    assert look_at(playground).identity == before.identity


async def test_relink_says_why_not_or_makes_a_candidate(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    linkage, why = default_linkage()
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.until(lambda: driver.session.linkage_why)
        assert driver.session.linkage is linkage
        await driver.press("L")
        await driver.until(lambda: driver.dialog(LinkageDialog))
        await driver.press("t")
        await driver.until(lambda: not driver.dialog())
        assert driver.session.chain.linkage is Linkage.TAILCALL
        assert driver.session.changes == 1
        assert "static → tailcall" in driver.lines("banner")[0]
        await driver.press("L")
        await driver.until(lambda: driver.dialog(LinkageDialog))
        await driver.press("f")
        if linkage is Linkage.FREPLACE:
            await driver.until(lambda: not driver.dialog())
            assert driver.session.chain.linkage is Linkage.FREPLACE
            assert driver.session.changes == 1
        else:
            assert "not available" in driver.text()
            assert any(why in notice.message for notice in driver.app._notifications)
            await driver.press("s")
            await driver.until(lambda: not driver.dialog())
            assert driver.session.changes == 0


def said(driver: Driver) -> str:
    """The last message."""
    return next((notice.message for notice in reversed([*driver.app._notifications])), "")


async def test_what_a_linkage_lacks_is_said_by_the_key(driver: Driver) -> None:
    """The engine's refusal, with the key that helps."""
    first, *others = driver.session.chain.slots
    theirs = replace(first, component=replace(first.component, object=None))
    chain = Chain((theirs, *others), Linkage.FREPLACE)
    driver.app.main.desk.put(driver.session.edited(chain))
    for key, refusal in (
        ("g", f"freplace linkage does not support routes ({first.name}): a dispatcher "),
        ("v", f"{first.name} can't have a policy: another tool loaded it"),
    ):
        await driver.press(key)
        await driver.until(lambda: said(driver).startswith(refusal))  # noqa: B023
        todo = ". Press L and choose static or tailcall linkage" if key == "g" else "from its object file"
        assert said(driver).endswith(todo)


async def test_a_return_code_is_led_to_a_slot(driver: Driver, playground: Playground) -> None:
    driver.app.main.desk.put(replace(driver.session, action=Action.DROP))
    await driver.press("g")
    await driver.until(lambda: driver.dialog(RoutesDialog))
    assert "XDP_DROP      → returned" in driver.text()
    await driver.press("enter", "down", "down", "enter")
    await driver.until(lambda: "XDP_DROP      → 2 xdp_monitor" in driver.text())
    await driver.answer("set")
    await driver.until(lambda: driver.session.state is BannerState.CANDIDATE)
    assert "·D2P" in driver.lines("chain")[1].replace(" ", "")
    await applied(driver)
    playground.send([frames.udp(PEER, NEAR, 9)] * 3)
    slots = look_at(playground).chain
    assert slots is not None
    assert [(route.code, route.target) for route in slots.slots[0].routes] == [
        (Action.DROP, slots.slots[2].key)
    ]


async def test_a_route_that_leads_back_is_refused_in_the_plan(playground: Playground, samples: Path) -> None:
    running = run_chain(playground, samples, *THREE)
    assert running.chain is not None
    routed = change(playground, lambda chain: chain.route(0, Action.DROP, chain.slots[1].key))
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.drag(0, 2)
        await driver.apply()
        await driver.until(lambda: "leads back" in driver.text())
        await driver.press("escape")
    assert look_at(playground).identity == routed.identity


async def test_a_slot_gets_a_policy(driver: Driver, playground: Playground) -> None:
    await driver.press("v")
    await driver.until(lambda: driver.dialog(PolicyDialog))
    assert "It may return anything." in driver.text()
    await driver.press("A", "D", "P", "T", "R")
    await driver.until(lambda: "must be allowed to return something" in driver.label("#outcome"))
    await driver.press("D", "P")
    await driver.press("tab", "down", "enter")
    await driver.until(lambda: "becomes drop." in driver.label("#outcome"))
    await driver.answer("set")
    await driver.until(lambda: driver.session.state is BannerState.CANDIDATE)
    await applied(driver)
    chain = look_at(playground).chain
    assert chain is not None
    assert chain.slots[0].policy == Policy(ActionSet.parse("PD"), Answer.DROP)


async def test_buttons_stay_in_sight_where_there_is_little_room(
    playground: Playground, samples: Path
) -> None:
    run_chain(playground, samples, *THREE)
    async with driving(playground.netns, playground.ifname, size=(60, 15)) as driver:
        await driver.press("D", "J", "p")
        await driver.until(lambda: driver.dialog(PlanDialog))
        await driver.until(
            lambda: "Apply with 1 warning (a)" in driver.text() and "Back (esc)" in driver.text()
        )


async def test_32_slots_at_80x24(playground: Playground, samples: Path) -> None:
    """All can be reached by keys, wheel and click, and are edited where they are seen."""
    put(playground, scripted_chain(samples, [ActionSet.parse("P")] * MAX_SLOTS, Linkage.STATIC))
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("end")
        assert driver.session.slot == MAX_SLOTS - 1
        assert driver.lines("chain")[-1].startswith("▶ 31   310 scripted_31")
        await driver.press("K")
        assert [slot.name for slot in driver.session.chain][30:] == ["scripted_31", "scripted_30"]
        top = int(driver.lines("chain")[1][2:4])
        await driver.pilot.click(offset=(driver.table.region.x + 12, driver.table.region.y + 3))
        await driver.pilot.pause()
        assert driver.session.slot == top + 2, "the slot that is seen there"
        await driver.press("home")
        assert driver.lines("chain")[1].startswith("▶  0")
        await driver.press("l")
        await driver.until(lambda: driver.dialog(LoadDialog))
        assert "The chain is full" in driver.text()
        await driver.press("escape")
        await applied(driver)
    assert names(look_at(playground))[30:] == ["scripted_31", "scripted_30"]
