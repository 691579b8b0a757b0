# SPDX-License-Identifier: Apache-2.0
"""What the screen shows is unambiguous: cursor, numbers, news, filters."""

from __future__ import annotations

import asyncio
from pathlib import Path

from textual.widgets import Input

from tests.tui.driving import THREE, Driver, driving, run_chain
from xdpchain.testing.playground import Playground
from xdptui.app import XdpTui
from xdptui.screens.details import DetailsScreen
from xdptui.screens.help import HelpScreen
from xdptui.screens.maps import MapsScreen
from xdptui.screens.unload import UnloadDialog


async def test_the_cursor_among_the_actions_is_no_state(driver: Driver) -> None:
    chain = driver.lines("chain")
    assert "A D[P]T R" in chain[0]
    await driver.press("left")
    assert "A[D]P T R" in driver.lines("chain")[0]
    assert driver.lines("chain")[1][:40] == chain[1][:40], "the row shows what it showed"
    await driver.press("space")
    assert "· D*P ·" in driver.lines("chain")[1]
    await driver.press("tab")
    assert "A D P T R" in driver.lines("chain")[0], "space toggles nothing in the list"


async def test_a_sign_says_where_the_focus_is(driver: Driver) -> None:

    def marked() -> list[str]:
        return [pane for pane in ("interfaces", "chain") if driver.lines(pane)[0].startswith("■")]

    await driver.until(lambda: marked() == ["chain"])
    await driver.press("tab")
    await driver.until(lambda: marked() == ["interfaces"])
    await driver.press("u")
    await driver.until(lambda: driver.dialog(UnloadDialog))
    assert "┃[x] 0" in driver.text(), "the list"
    await driver.press("tab", "tab")
    await driver.until(lambda: "[Keep all (esc)]" in driver.text())
    assert "┃" not in driver.text()
    await driver.press("escape", "m")
    await driver.until(lambda: driver.dialog(MapsScreen) and "■MAP" in driver.text())
    await driver.press("tab")
    await driver.until(lambda: "■KEY" in driver.text() and "■MAP" not in driver.text())
    await driver.press("escape", "e")
    await driver.until(lambda: "┃10" in driver.text(), "a field")
    await driver.press("tab")
    await driver.until(lambda: " 10" in driver.text() and "┃10" not in driver.text())
    field = driver.app.screen.query_one(Input)
    assert field.content_region.x == field.region.x + 1, "its text stays where it was"
    await driver.press("escape", "enter")
    await driver.until(lambda: driver.dialog(DetailsScreen))
    await driver.press("tab")
    await driver.until(lambda: "┃" in driver.text())


async def test_the_waterfall_has_no_numbers_while_a_candidate_has_others(driver: Driver) -> None:
    await driver.until(lambda: "→ after 0 xdp_firewall" in driver.text())
    await driver.press("J")
    await driver.until(lambda: "→ after xdp_firewall" in driver.text())
    assert "of what runs" in driver.text()
    await driver.press("K")
    await driver.until(lambda: "→ after 0 xdp_firewall" in driver.text())


async def test_only_what_matters_counts_as_unread(playground: Playground, samples: Path) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        for key in ("m", "b", "space", "J", "c", "C", "Z", "F"):
            await driver.press(key)
        assert len(driver.app.main.desk.notices) >= 6
        assert "unread" not in driver.lines("banner")[0]
        run_chain(playground, samples, *THREE)
        await driver.until(lambda: "1 unread: h" in driver.lines("banner")[0])
        assert "root changed what runs: 3 changes" in driver.app.main.desk.notices[-1].text


async def test_our_own_changes_are_no_news(driver: Driver) -> None:
    await driver.press("J")
    await driver.apply()
    await driver.until(lambda: not driver.session.changes)
    driver.app.main.feed.ask()
    await asyncio.sleep(1.5)
    await driver.pilot.pause()
    assert "unread" not in driver.lines("banner")[0]


async def test_toasts_leave_the_headings_in_sight(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    app = XdpTui(playground.netns, playground.ifname)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: driver.session.surveyed)
        for keys in (("C",), ("slash", "enter", "tab", "C")):
            await driver.press(*keys)
            await driver.until(lambda: app.screen.query("Toast"))
            headings = [app.main.query_one(f"#{pane}").region.y for pane in ("banner", "interfaces", "chain")]
            for toast in app.screen.query("Toast"):
                assert not any(toast.region.y <= heading < toast.region.bottom for heading in headings)
            await driver.until(lambda: not app.screen.query("Toast"))


async def test_a_filter_that_leaves_none_shows_none(driver: Driver) -> None:
    await driver.press("h")
    await driver.until(lambda: "by root, pid" in driver.text())
    await driver.press("slash")
    await driver.type("nowhere")
    await driver.until(lambda: "Nothing matches 'nowhere'" in driver.text())
    assert "by root, pid" not in driver.text()
    await driver.press("escape")
    await driver.until(lambda: "by root, pid" in driver.text())


async def test_help_scrolls_by_page_and_to_both_ends(playground: Playground) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("question_mark")
        await driver.until(lambda: driver.dialog(HelpScreen))
        body = driver.app.screen.query_one("#body")
        await driver.press("end")
        assert body.scroll_y == body.max_scroll_y > 0
        await driver.press("pageup")
        assert 0 < body.scroll_y < body.max_scroll_y
        await driver.press("home")
        assert body.scroll_y == 0
