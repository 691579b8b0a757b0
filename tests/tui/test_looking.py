# SPDX-License-Identifier: Apache-2.0
"""Looking: details, help, palette, filter, sort, read-only, other owners, vanishing interfaces, any size."""

from __future__ import annotations

import asyncio
import gc
import random
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from textual._styles_cache import StylesCache
from textual.command import CommandPalette
from textual.widgets import TabbedContent
from textual.widgets._toast import Toast

from tests.tui.driving import THREE, Driver, change, driving, look_at, run_chain
from xdpchain.change.confirm.by_hand import roll_back
from xdpchain.observe.permissions import Capability
from xdpchain.testing import frames
from xdpchain.testing.frames import NEAR, PEER
from xdpchain.testing.playground import Playground
from xdptui.app import MOST_SHOWN, XdpTui
from xdptui.screens.cpus import CpusScreen
from xdptui.screens.details import DetailsScreen
from xdptui.screens.help import HelpScreen
from xdptui.screens.maps import MapsScreen
from xdptui.screens.question import Confirm
from xdptui.screens.why import WhyScreen
from xdptui.view.keys import KEYS, works
from xdptui.view.session import BannerState
from xdptui.widgets.cell_grid import CellGrid
from xdptui.widgets.filter_line import FilterLine


async def test_first_screen(driver: Driver, playground: Playground) -> None:
    await driver.until(lambda: any("received" in line for line in driver.lines("waterfall")))
    row = next(line for line in driver.lines("interfaces") if playground.ifname in line)
    for word in ("up", "native", "xdptui", "3 static", "veth", "basic"):
        assert word in row
    assert "RUNNING" in driver.lines("banner")[0]
    text = "\n".join(driver.lines("chain"))
    assert [text.index(name) for name in ("xdp_firewall", "xdp_ratelimit", "xdp_monitor")]
    assert all(len(line) == 80 for line in driver.text().splitlines())
    fall = "\n".join(driver.lines("waterfall"))
    for word in ("received", "after 0", "after 2", "passed", "dropped", "sent", "redirected", "aborted"):
        assert word in fall


async def test_details(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    async with driving(playground.netns, playground.ifname, size=(110, 36)) as driver:
        await driver.press("enter")
        await driver.until(lambda: driver.dialog(DetailsScreen))
        await driver.until(lambda: "sha256" in driver.label("#overview-text"))
        overview = driver.label("#overview-text")
        slot = driver.session.chain.slots[0]
        assert str(slot.id) in overview
        assert str(slot.component.tag) in overview
        assert "firewall.o" in overview
        assert "declared" in overview
        assert "walked" in overview
        await driver.press("2")
        await driver.until(lambda: driver.app.screen.query_one(TabbedContent).active == "maps")
        assert "blocked" in driver.label("#maps-text")
        await driver.press("3")
        await driver.until(lambda: "r1" in driver.text() or "bpftool" in driver.text().replace("asking", ""))
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())


async def test_help_names_every_key(playground: Playground) -> None:
    async with driving(playground.netns, playground.ifname, size=(100, 100)) as driver:
        await driver.press("question_mark")
        await driver.until(lambda: driver.dialog(HelpScreen))
        text = " ".join(driver.text().replace("│", " ").split())
        here = [key for key in KEYS if works(key, read_only=False, replaying=False)]
        missing = [key.text for key in here if key.text not in text]
        assert not missing
        await driver.press("question_mark")
        await driver.until(lambda: not driver.dialog())


async def test_palette_does_what_keys_do(driver: Driver) -> None:
    offered = [command.title for command in driver.app.get_system_commands(driver.app.screen)]
    assert "Freeze or resume the counters" in offered
    assert "A minute back" not in offered, "only in a replay"
    await driver.press("colon")
    await driver.until(lambda: isinstance(driver.app.screen, CommandPalette))
    await driver.type("freeze")
    await driver.pilot.pause(0.5)
    await driver.press("enter")
    await driver.until(lambda: driver.session.frozen or not driver.app.screen.is_modal)
    if not driver.session.frozen:
        await driver.press("enter")
    await driver.until(lambda: driver.session.frozen)
    assert "FROZEN" in driver.lines("banner")[0]


async def test_frozen_counters_stand_still(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "pass")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("t", "f")
        await driver.until(lambda: driver.app.main.meter.last(driver.session.selected))
        before = driver.lines("chain")
        playground.send([frames.udp(PEER, NEAR, 9)] * 10)
        await driver.pilot.pause(1.5)
        assert driver.lines("chain") == before
        await driver.press("f")
        await driver.until(lambda: " 10" in driver.lines("chain")[1])


async def test_filter_and_sort() -> None:
    with Playground(links=3) as ground:
        async with driving(ground.netns) as driver:
            assert len(driver.lines("interfaces")) == 5
            await driver.press("slash")
            await driver.type("xdp2")
            await driver.until(lambda: len(driver.session.visible) == 1)
            assert driver.session.running is not None
            assert driver.session.running.interface.name == "xdp2"
            await driver.press("enter")
            assert driver.app.main.query_one(FilterLine).display, "the filter stays in sight"
            await driver.press("slash", "escape")
            await driver.until(lambda: len(driver.session.visible) == 4)
            assert not driver.app.main.query_one(FilterLine).display
            await driver.press("slash")
            await driver.type("nosuch")
            await driver.until(lambda: "No interface matches" in "\n".join(driver.lines("interfaces")))
            await driver.press("escape", "s")
            order = driver.session.order
            await driver.press("s")
            assert driver.session.order is not order


async def test_selecting_interfaces_with_keys_and_mouse() -> None:
    with Playground(links=2) as ground:
        async with driving(ground.netns, "xdp1") as driver:
            assert driver.session.selected == ground.links[1].ifindex
            await driver.press("tab", "up")
            assert driver.session.selected == ground.links[0].ifindex
            table = driver.app.main.query_one("#interfaces")
            row = next(i for i, line in enumerate(driver.lines("interfaces")) if "xdp1" in line)
            await driver.pilot.click(offset=(5, table.region.y + row))
            assert driver.session.selected == ground.links[1].ifindex


async def test_read_only_names_what_is_missing_and_keeps_looking(
    playground: Playground, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run_chain(playground, samples, *THREE)
    lacking = (Capability("CAP_NET_ADMIN", "programs can't be attached to interfaces"),)
    monkeypatch.setattr("xdpchain.observe.permissions.missing_capabilities", lambda: lacking)
    async with driving(playground.netns, playground.ifname, size=(120, 40)) as driver:
        await driver.until(lambda: driver.session.read_only)
        assert "READ-ONLY: no CAP_NET_ADMIN" in driver.lines("banner")[0]
        assert "load" not in driver.lines("keys")[0]
        await driver.press("J", "D", "space", "l", "u", "o", "c", "e", "a")
        assert driver.session.changes == 0
        assert not driver.dialog()
        await driver.drag(0, 2)
        assert driver.session.changes == 0
        await driver.press("enter")
        await driver.until(lambda: driver.dialog(DetailsScreen))
        await driver.press("escape")
        await driver.until(lambda: any("received" in line for line in driver.lines("waterfall")))
    assert look_at(playground).identity == before.identity


async def test_somebody_elses_program_is_named_and_left_alone(playground: Playground, samples: Path) -> None:
    subprocess.run(
        [
            "ip",
            "-n",
            playground.netns,
            "link",
            "set",
            playground.ifname,
            "xdp",
            "obj",
            samples / "pass.o",
            "sec",
            "xdp",
        ],
        check=True,
    )
    before = look_at(playground)
    assert before.hook is not None
    async with driving(playground.netns, playground.ifname) as driver:
        assert driver.session.state is BannerState.FOREIGN
        assert f"id {before.hook.prog_id}" in "\n".join(driver.lines("chain"))
        assert "foreign" in "\n".join(driver.lines("interfaces"))
        await driver.press("l", "u", "J", "D", "a", "c")
        assert not driver.dialog()
        assert driver.session.changes == 0
    assert look_at(playground).identity == before.identity


async def test_an_interface_that_vanishes_takes_its_candidate_along(samples: Path, root: None) -> None:
    with Playground(links=2) as ground:
        run_chain(ground, samples, *THREE)
        async with driving(ground.netns, ground.ifname) as driver:
            await driver.press("J")
            assert driver.session.changes == 1
            subprocess.run(["ip", "-n", ground.netns, "link", "del", "xdp0"], check=True)
            await driver.until(lambda: driver.session.selected != ground.ifindex)
            assert not driver.session.unsaved
            await driver.press("J", "D", "a", "p", "enter")


async def test_a_namespace_that_is_not_there_is_said_in_words(root: None) -> None:
    from xdptui.app import XdpTui

    app = XdpTui("xdptui-no-such-namespace")
    async with app.run_test() as pilot:
        for _ in range(100):
            await pilot.pause(0.1)
            text = "\n".join(line.text for line in app.main.query_one("#interfaces", CellGrid).lines)
            if "can't be read" in text:
                break
        assert "xdptui-no-such-namespace" in " ".join(text.split())


@pytest.mark.parametrize("size", [(20, 5), (1, 1), (40, 8), (60, 16), (80, 24), (120, 40), (250, 70)])
async def test_any_size(playground: Playground, samples: Path, size: tuple[int, int]) -> None:
    run_chain(playground, samples, *THREE)
    async with driving(playground.netns, playground.ifname, size=size) as driver:
        await driver.pilot.pause(0.3)
        text = driver.text().splitlines()
        assert len(text) == size[1]
        if size[0] >= 20 and size[1] >= 5:
            assert any("xdp" in line for line in text)
        for keys in (("question_mark", "escape"), ("l", "escape"), ("enter", "escape"), ("J", "p", "escape")):
            await driver.press(*keys)


async def test_resized_to_almost_nothing_and_back(driver: Driver) -> None:
    for size in ((20, 5), (3, 2), (200, 60), (80, 24)):
        await driver.pilot.resize_terminal(*size)
        await driver.pilot.pause()
        driver.app.main.count()
    await driver.until(lambda: any("received" in line for line in driver.lines("waterfall")))
    assert all(len(line) == 80 for line in driver.text().splitlines())


async def test_only_what_differs_is_painted(driver: Driver, playground: Playground) -> None:
    await driver.until(lambda: any("received" in line for line in driver.lines("waterfall")))
    main = driver.app.main
    await driver.pilot.pause(1.5)
    grids = list(main.query(CellGrid))
    before = {grid.id: grid.painted for grid in grids}
    main.panes.show()
    main.panes.show()
    assert {grid.id: grid.painted for grid in grids} == before, "the same again must paint nothing"
    playground.send([frames.udp(PEER, NEAR, 9)])
    (chain,) = (grid for grid in grids if grid.id == "chain")
    await driver.until(lambda: chain.painted > before["chain"])
    after = {grid.id: grid.painted for grid in grids}
    assert 0 < after["chain"] - before["chain"] < 80 * 6 // 2
    assert after["banner"] == before["banner"]
    assert after["keys"] == before["keys"]


async def test_quit_asks_only_if_something_would_be_lost(driver: Driver) -> None:
    await driver.press("J", "q")
    await driver.until(lambda: driver.dialog(Confirm))
    await driver.press("enter")
    await driver.until(lambda: not driver.dialog())
    await driver.press("z", "q")
    await driver.until(lambda: driver.app._exit)


async def test_random_input_changes_nothing_and_breaks_nothing(
    playground: Playground, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random input except applying, on a chain that another editor changes meanwhile."""
    monkeypatch.chdir(tmp_path)  # some keys write files
    run_chain(playground, samples, *THREE)
    dice = random.Random(20240607)
    keys = [key.keys.split(",")[0] for key in KEYS if key.action not in ("apply", "quit", "plan")]
    keys += ["escape", "tab", "x", "1", "enter", "shift+tab", "backspace", "ctrl+t", "home", "pagedown"]
    async with driving(playground.netns, playground.ifname) as driver:
        identity = look_at(playground).identity
        for step in range(150):
            if step == 75:
                assert look_at(playground).identity == identity
                identity = change(playground, lambda chain: chain.remove([1])).identity
            if dice.random() < 0.2:
                size = driver.app.size
                where = dice.randrange(size.width), dice.randrange(size.height)
                await driver.pilot.click(offset=where, times=dice.choice([1, 1, 2]))
            else:
                await driver.pilot.press(dice.choice(keys))
            if dice.random() < 0.05:
                await driver.pilot.resize_terminal(dice.randrange(10, 130), dice.randrange(3, 45))
        assert driver.app._exception is None
        assert replace(driver.session).surveyed
    assert look_at(playground).identity == identity


async def test_keys_typed_ahead_of_a_dialog_do_nothing_behind_it(driver: Driver) -> None:
    await driver.press("J")
    for keys in ("qa", "aq", "pa", "ulaq", "question", "aaaa", "eaqaup"):
        for key in keys:
            driver.app.simulate_key(key)
        await driver.until(lambda: not driver.app.main.desk.applying)
        for _ in range(6):
            if driver.dialog():
                await driver.press("escape")
        await driver.until(lambda: len(driver.app.screen_stack) == 1 and not driver.app.main.desk.busy)
        if not driver.session.changes:
            await driver.press("J")
    assert driver.app.screen is driver.app.main
    assert driver.app._exception is None


async def test_any_keys_at_all_leave_a_whole_chain(
    playground: Playground, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applying too: whatever the result, the interface runs what the screen says it runs."""
    monkeypatch.chdir(tmp_path)  # some keys write files
    run_chain(playground, samples, *THREE)
    dice = random.Random(11)
    keys = [word for key in KEYS if key.action != "quit" for word in key.keys.split(",")]
    keys += ["a", "p", "enter", "enter", "escape", "J", "D", "x"]
    async with driving(playground.netns, playground.ifname) as driver:
        for _ in range(200):
            driver.app.simulate_key(dice.choice(keys))
            if dice.random() < 0.3:
                await driver.pilot.pause(0.01)
        await driver.until(lambda: not driver.app.main.desk.applying)
        assert driver.app._exception is None
        for _ in range(12):
            if driver.app.screen is not driver.app.main:
                await driver.press("escape")
        await driver.until(lambda: driver.app.screen is driver.app.main and not driver.app.main.desk.busy)
        await driver.press("f" if driver.session.frozen else "x")
        await driver.until(
            lambda: (
                driver.session.running and driver.session.running.identity == look_at(playground).identity
                if driver.session.selected == playground.ifindex
                else True
            )
        )
    if look_at(playground).pending is not None:
        roll_back(playground.ifname, playground.netns)


async def test_interfaces_that_come_and_go(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    link = ["ip", "-n", playground.netns, "link"]
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("J")
        for i in range(8):
            subprocess.run([*link, "add", f"come{i}", "type", "veth", "peer", "name", f"go{i}"], check=True)
            await driver.pilot.press("tab", "down", "j", "s", "up", "tab")
            subprocess.run([*link, "del", f"come{i}"], check=True)
            await driver.pilot.press("down", "t")
        await driver.until(lambda: len(driver.session.runnings) == 2)
        assert driver.app._exception is None
        assert [r.interface.name for r in driver.session.unsaved] == [playground.ifname]


async def test_a_hundred_interfaces_are_scrolled_and_filtered(root: None) -> None:
    with Playground(links=99) as ground:
        async with driving(ground.netns, "xdp0") as driver:
            await driver.press("tab", "home")
            places = [running.interface.ifindex for running in driver.session.visible]
            assert driver.session.selected == places[0]
            await driver.press("pagedown")
            assert 2 <= places.index(driver.session.selected or 0) < 20
            await driver.press("pageup")
            assert driver.session.selected == places[0]
            await driver.press("end")
            assert driver.session.selected == places[-1]
            await driver.press("up")
            assert driver.session.running is not None
            name = driver.session.running.interface.name
            assert any(line.startswith("▶") and name in line for line in driver.lines("interfaces"))
            assert "of 100" in driver.lines("interfaces")[0]
            await driver.press("slash")
            await driver.type("xdp42")
            await driver.until(lambda: len(driver.session.visible) == 1)


async def test_the_lines_that_decided_are_shown_with_what_is_counted(
    playground: Playground, samples: Path
) -> None:
    run_chain(playground, samples, "firewall", "pass")
    async with driving(playground.netns, playground.ifname, size=(60, 15)) as driver:
        await driver.until(lambda: driver.app.main.meter.last(driver.session.selected) is not None)
        playground.send([frames.udp(PEER, NEAR, 5)] * 23)
        await driver.press("down")
        await driver.until(lambda: driver.session.current == driver.session.chain.slots[1])
        await driver.press("b")
        await driver.until(lambda: driver.dialog(WhyScreen))
        await driver.until(lambda: "&blocked, &key" in driver.label("#live"))
        assert "counted together" not in driver.label("#live")
        await driver.until(lambda: "return XDP_PASS;" in driver.label("#live"))
        await driver.until(lambda: driver.label("#live").count("23 packets 100%") == 2)
        text = driver.label("#live")
        assert text.index("  slot 0 xdp_firewall") < text.index("▸ slot 1 xdp_pass"), "in the chain's order"
        assert f"dropped on {playground.ifname}: 0/s, 0 packets" in " ".join(text.split())
        await driver.until(lambda: "▸ slot 1 xdp_pass" in driver.text())
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())


async def test_toasts_cover_neither_what_was_done_nor_each_other(
    playground: Playground, samples: Path
) -> None:
    run_chain(playground, samples, "firewall", "pass")
    app = XdpTui(playground.netns, playground.ifname)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: driver.session.chain.slots)
        await driver.press("K", "C", "p")  # three answers that nothing happens
        await driver.until(lambda: "nothing to plan" in driver.text())
        (toast,) = driver.app.screen.query(Toast)
        keys = driver.app.main.query_one("#keys")
        assert toast.region.bottom == keys.region.bottom, "over the hints"
        await driver.press("m")
        await driver.until(lambda: driver.dialog(MapsScreen))
        driver.app.notify("many words " * 20, title="xdp0")

        def places() -> list[tuple[int, int]]:
            return [(toast.region.y, toast.region.height) for toast in driver.app.screen.query(Toast)]

        await driver.until(lambda: places() == [(0, 2)], "over the title")


async def test_messages_that_vanished_leave_nothing(playground: Playground) -> None:
    app = XdpTui(playground.netns, playground.ifname)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        driver = Driver(app, pilot)

        async def kept(messages: int) -> int:
            for number in range(messages):
                app.notify(f"message {number}", severity="warning", timeout=0.2)
                await pilot.pause(0.1)
                await driver.until(lambda: not driver.app.screen.query(Toast))
            gc.collect()
            return sum(isinstance(one, StylesCache) for one in gc.get_objects())

        await kept(3)
        before = await kept(3)
        assert await kept(20) < before + 10


async def test_a_burst_of_messages_covers_little_and_leaves_nothing(playground: Playground) -> None:
    app = XdpTui(playground.netns, playground.ifname)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: driver.session.surveyed)
        most, before = 0, len(asyncio.all_tasks())
        for number in range(40):  # each expires as another one comes
            app.notify(f"message {number}", severity="warning", timeout=0.3)
            await pilot.pause(0.05)
            most = max(most, len(app.screen.query(Toast)))
        assert 1 < most <= MOST_SHOWN
        app.notify("the last", severity="warning", timeout=0.3)
        await driver.until(lambda: not app.screen.query("ToastHolder"))
        await driver.until(lambda: len(asyncio.all_tasks()) <= before + 2)
        shown = [notice.text for notice in app.main.desk.notices]
        assert shown[-41:] == [*(f"message {number}" for number in range(40)), "the last"]


async def test_packets_by_cpu(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "firewall", "pass")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.until(lambda: driver.app.main.meter.last(driver.session.selected) is not None)
        playground.send([frames.udp(PEER, NEAR, 5)] * 23)
        await driver.press("n")
        await driver.until(lambda: driver.dialog(CpusScreen))
        await driver.until(lambda: "CPU " in driver.label("#live") and "%" in driver.label("#live"))
        await driver.until(lambda: "RX queue 0" in driver.label("#live"))
        table = "\n".join(line.strip("│┃ ") for line in driver.text().splitlines())
        assert "packets" in table
        assert "…" not in table.partition("\n\n")[2], "nothing but the long name of the namespace is cut off"
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())
