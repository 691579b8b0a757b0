# SPDX-License-Identifier: Apache-2.0
"""At three in the morning: first steps, warnings, panes, lists, history, help, copies."""

from __future__ import annotations

import base64
import re
import shutil
import signal
from os import kill
from pathlib import Path

import pytest
from textual.widgets import Button

from tests.tui.driving import THREE, Driver, change, driving, look_at, names, run_chain
from tests.tui.terminal import Terminal, Tmux
from xdpchain.model.actions import Action
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.screens.copy import CopyDialog
from xdptui.screens.dialog import DialogKeys
from xdptui.screens.help import HelpScreen
from xdptui.screens.history import HistoryScreen
from xdptui.screens.load import LoadDialog
from xdptui.screens.plan import PlanDialog
from xdptui.screens.unload import UnloadDialog
from xdptui.view.session import BannerState, Order
from xdptui.widgets.row_list import RowList


async def test_down_down_l_loads_on_the_third_interface(root: None, samples: Path) -> None:
    with Playground(links=3) as ground:
        async with driving(ground.netns) as driver:
            await driver.press("down", "down")
            third = driver.session.visible[2]
            assert driver.session.running == third
            assert any(
                line.startswith("▶") and third.interface.name in line for line in driver.lines("interfaces")
            )
            steps = "\n".join(driver.lines("chain"))
            assert "choose an object file" in steps
            assert "Nothing changes on the interface before step 3" in steps
            await driver.press("l")
            await driver.until(lambda: driver.dialog(LoadDialog))
            assert f"Load a program on {third.interface.name}" in driver.text()
            driver.app.screen.query_one("#path").value = str(samples / "pass.o")  # type: ignore[attr-defined]
            await driver.until(lambda: "ctrl+s adds it to the candidate" in driver.label("#facts"))
            driver.app.screen.set_focus(driver.app.screen.query_one("#priority"))
            await driver.until(lambda: "the lowest runs first" in driver.label("#facts"))
            await driver.press("ctrl+s")
            await driver.until(lambda: not driver.dialog())
            assert driver.table.has_focus, "the eye is on the chain by now"
            await driver.apply()
            await driver.until(lambda: driver.session.state is BannerState.RUNNING and not driver.dialog())


async def sampled(driver: Driver, ground: Playground, *keys: str) -> str:
    """What the plan says about current packets, which are sent until it does."""
    await driver.press("p", *keys)
    await driver.until(lambda: driver.dialog(PlanDialog))
    await driver.until(lambda: "sampling" in driver.label("#sampled"))

    def done() -> bool:
        ground.send([scripted(b"")])
        return "sampling" not in driver.label("#sampled")

    await driver.until(done)
    return driver.label("#sampled")


async def test_the_plan_tries_packets_that_flow_now(playground: Playground, samples: Path) -> None:
    before = run_chain(playground, samples, "drop")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("D")
        said = await sampled(driver, playground, "s")
        assert re.match(r" (\d+) of \1 sampled packets \(100 %.*\): dropped now, will be passed", said), said
        await driver.until(lambda: look_at(playground).following is None)
        assert look_at(playground).hook == before.hook, "what runs is as it was"
        await driver.press("s", "a")  # do not wait for a sample
        await driver.until(lambda: not driver.dialog() and driver.session.state is BannerState.RUNNING)
    after = look_at(playground)
    assert after.following is None
    assert after.chain is not None
    assert Action.DROP in after.chain.slots[0].actions


async def test_the_plan_tries_packets_where_nothing_runs_yet(playground: Playground, samples: Path) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("l")
        await driver.until(lambda: driver.dialog(LoadDialog))
        driver.app.screen.query_one("#path").value = str(samples / "drop.o")  # type: ignore[attr-defined]
        await driver.answer("add")
        await driver.until(lambda: not driver.dialog())
        said = await sampled(driver, playground)
        assert "sampled packets (100 %" in said
        assert "passed now, will be dropped" in said
        await driver.press("escape", "p")
        await driver.until(lambda: "no packet arrived" in driver.label("#sampled"))


async def test_what_is_selected_with_the_mouse_is_copied(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "firewall", "monitor")
    async with driving(playground.netns, playground.ifname, (100, 30)) as driver:
        waterfall = driver.app.main.query_one("#waterfall")
        await driver.until(lambda: "received" in driver.lines("waterfall")[1])
        await driver.pilot.mouse_down(waterfall, offset=(1, 1))
        await driver.pilot.hover(waterfall, offset=(8, 1))
        await driver.pilot.mouse_up(waterfall, offset=(8, 1))
        await driver.until(lambda: driver.app.clipboard == "received")
        await driver.press("h")
        await driver.until(lambda: driver.dialog(HistoryScreen) and "2 changes" in driver.text())
        rows = driver.app.screen.query_one("#rows", RowList)
        at = rows.lines[1].text.index("2 changes")
        await driver.pilot.mouse_down(rows, offset=(at, 1))
        await driver.pilot.hover(rows, offset=(at + 8, 1))
        await driver.until(lambda: rows.text_selection is not None)
        await driver.pilot.mouse_up(rows, offset=(at + 8, 1))
        await driver.until(lambda: driver.app.clipboard == "2 changes")
        await driver.press("Y")
        assert re.fullmatch(r"1 \d\d-\d\d [\d:]+ changed .* 2 changes: .*", driver.app.clipboard)


@pytest.mark.parametrize("size", [(80, 24), (60, 15)])
async def test_warnings_stand_on_the_first_screen_and_are_counted(
    playground: Playground, samples: Path, size: tuple[int, int]
) -> None:
    run_chain(playground, samples, *THREE)
    async with driving(playground.netns, playground.ifname, size=size) as driver:
        await driver.press("D", "a")
        await driver.until(lambda: driver.dialog(PlanDialog))
        text = driver.text()
        assert "Warnings (1)" in text
        assert "slot 0: xdp_firewall continues after XDP_DROP" in text
        assert text.index("Warnings (1)") < text.index("Changes")
        assert "Apply with 1 warning (a)" in text
        await driver.press("a")
        await driver.until(lambda: driver.session.state is BannerState.RUNNING and not driver.dialog())


async def test_without_warnings_a_applies_at_once(driver: Driver, playground: Playground) -> None:
    await driver.press("J")
    await driver.press("a")
    await driver.until(lambda: driver.session.state is BannerState.RUNNING and not driver.dialog())
    assert names(look_at(playground))[1] == "xdp_firewall"


async def test_panes_are_hidden_zoomed_and_resized_by_key_and_mouse(
    playground: Playground, samples: Path
) -> None:
    run_chain(playground, samples, *THREE)
    async with driving(playground.netns, playground.ifname, size=(100, 40)) as driver:
        panes = driver.app.main.panes
        await driver.press("2")
        assert not panes.waterfall.display
        await driver.press("2")
        assert panes.waterfall.display
        await driver.press("0")
        assert not panes.interfaces.display
        assert not panes.waterfall.display
        await driver.press("escape")
        assert panes.interfaces.display
        before = panes.chain.size.height
        await driver.press("plus", "plus")
        await driver.until(lambda: panes.chain.size.height == before + 2)
        await driver.press("minus", "minus")
        await driver.until(lambda: panes.chain.size.height == before)
        heading = panes.waterfall.region.y
        await driver.pilot.mouse_down(offset=(30, heading))
        await driver.pilot.hover(offset=(30, heading + 3))
        await driver.pilot.mouse_up(offset=(30, heading + 3))
        await driver.until(lambda: panes.chain.size.height == before + 3)


async def test_interfaces_sort_by_any_column_and_the_filter_says_so(root: None) -> None:
    with Playground(links=3) as ground:
        async with driving(ground.netns) as driver:
            table = driver.app.main.panes.interfaces
            at = driver.lines("interfaces")[0].index("link")
            await driver.pilot.click(offset=(at, table.region.y))
            await driver.until(lambda: driver.session.order is Order.LINK)
            assert "link▲" in driver.lines("interfaces")[0]
            await driver.press("I")
            assert "link▼" in driver.lines("interfaces")[0]
            assert driver.session.visible[0].interface.name == "lo", "the one that is down"
            await driver.press("slash")
            await driver.type("xdp")
            await driver.press("enter")
            assert "filter: 3 of 4" in driver.lines("interfaces")[0]
            await driver.press("escape")
            await driver.until(lambda: len(driver.session.visible) == 4)


async def test_history_has_what_happened_and_undoes_it(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "firewall", "monitor")
    change(playground, lambda chain: chain.remove([1]))
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("h")
        await driver.until(lambda: driver.dialog(HistoryScreen))
        await driver.until(lambda: "- xdp_monitor" in driver.text())
        assert "changed" in driver.text()
        assert "by root, pid" in driver.text()
        await driver.press("slash")
        await driver.type("firewall")
        await driver.until(lambda: "/firewall▏  1 of 2" in driver.text())
        await driver.press("enter", "escape")
        assert driver.dialog(HistoryScreen), "escape lets go of the filter first"
        await driver.press("z")
        await driver.until(lambda: driver.dialog(PlanDialog))
        assert "this undoes change" in driver.text()
        await driver.press("a")
        await driver.until(lambda: len(driver.session.chain) == 2 and not driver.dialog())
    assert names(look_at(playground)) == ["xdp_firewall", "xdp_monitor"]


async def test_history_goes_back_to_before_the_selected_change(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    change(playground, lambda chain: chain.remove([2]))
    change(playground, lambda chain: chain.remove([1]))
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("h")
        await driver.until(lambda: driver.dialog(HistoryScreen) and "▶  3 " in driver.text())
        await driver.until(lambda: not driver.app.screen.query_one("#undo_to").disabled)
        await driver.press("down", "enter")
        await driver.until(lambda: driver.dialog(PlanDialog))
        await driver.until(lambda: "this undoes changes 2 to 3" in driver.text())
        await driver.press("a")
        await driver.until(lambda: len(driver.session.chain) == 3 and not driver.dialog())
        await driver.press("h")
        await driver.until(lambda: driver.dialog(HistoryScreen) and "undone #2 to #3 " in driver.text())
        assert "#2 to #3: " in driver.text()
    assert len(names(look_at(playground))) == 3


async def test_what_was_said_stays_until_it_is_read(driver: Driver, playground: Playground) -> None:
    await driver.press("J")
    change(playground, lambda chain: chain.remove([2]))
    await driver.until(lambda: "1 unread: h" in driver.lines("banner")[0])
    await driver.press("h")
    await driver.until(lambda: driver.dialog(HistoryScreen))
    assert "Another editor changed the chain" in driver.text()
    await driver.press("escape")
    await driver.until(lambda: "unread" not in driver.lines("banner")[0])


async def test_help_has_what_works_here_and_finds_words(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    async with driving(playground.netns, playground.ifname, size=(140, 45)) as driver:
        await driver.press("question_mark")
        await driver.until(lambda: driver.dialog(HelpScreen))
        assert "In a replay" not in driver.text()
        await driver.press("slash")
        await driver.type("a dot:")
        await driver.until(lambda: "in a slot: the next slot runs after it" in driver.text())
        await driver.press("escape", "slash")
        await driver.type("priority")
        await driver.until(lambda: "load a program" not in driver.text())
        assert "edit the run priority" in driver.text()


async def test_dialogs_answer_a_question_mark(driver: Driver) -> None:
    await driver.press("u")
    await driver.until(lambda: driver.dialog(UnloadDialog))
    await driver.press("question_mark")
    await driver.until(lambda: driver.dialog(DialogKeys))
    assert "mark all or none" in driver.text()
    await driver.press("escape")
    await driver.until(lambda: driver.dialog(UnloadDialog))


@pytest.mark.parametrize(
    ("key", "first", "second"), [("m", "#maps", "#side"), ("y", "#packets", "#more"), ("h", "#rows", "#more")]
)
async def test_panes_of_dialogs_are_resized_and_zoomed(
    playground: Playground, samples: Path, key: str, first: str, second: str
) -> None:
    run_chain(playground, samples, *THREE)
    async with driving(playground.netns, playground.ifname, size=(120, 40)) as driver:
        await driver.press(key)
        await driver.until(driver.dialog)
        await driver.until(lambda: driver.app.screen.query_one(first).region.height > 0)
        upper, lower = driver.app.screen.query_one(first), driver.app.screen.query_one(second)
        at = 0 if key == "m" else 1

        def sizes() -> tuple[int, int]:
            return upper.outer_size[at], lower.outer_size[at]

        before = sizes()
        await driver.press("plus", "plus")
        await driver.until(lambda: sizes()[0] > before[0] and sizes()[1] < before[1])
        await driver.press("minus", "minus", "minus")
        await driver.until(lambda: sizes()[0] < before[0])
        small = sizes()
        border = (upper.region.right, 10) if key == "m" else (10, upper.region.bottom)
        if key == "y":
            border = (10, lower.region.y - 1)
        await driver.pilot.mouse_down(offset=border)
        await driver.pilot.hover(offset=(border[0] + 5 * (key == "m"), border[1] + 5 * (key != "m")))
        await driver.pilot.mouse_up(offset=(border[0] + 5 * (key == "m"), border[1] + 5 * (key != "m")))
        await driver.until(lambda: sizes()[0] == small[0] + 5, f"{small} {sizes()}")
        await driver.press("0")
        await driver.until(lambda: not lower.display and sizes()[0] > small[0] + 5)
        await driver.press("0")
        await driver.until(lambda: lower.display)


@pytest.mark.parametrize("size", [(80, 24), (60, 15), (40, 12)])
async def test_no_button_is_cut(playground: Playground, samples: Path, size: tuple[int, int]) -> None:
    run_chain(playground, samples, *THREE)
    async with driving(playground.netns, playground.ifname, size=size) as driver:
        for keys in (*"luegvymbnFdhYLN", ("D", "p"), ("ctrl+s",), ("enter",), ("question_mark",)):
            await driver.press(*keys)
            await driver.until(driver.dialog, f"no dialog for {keys}")
            await driver.until(lambda: _buttons_are_whole(driver), f"{keys} at {size}: {driver.text()}")
            await driver.press("escape")
            await driver.until(lambda: not driver.dialog(), f"{keys} stays")


def _buttons_are_whole(driver: Driver) -> bool:
    """Each button shows its whole label, without overlapping another."""
    screen = driver.app.screen
    shown = [button for button in screen.query("#buttons Button").results(Button) if button.display]
    places = [button.region for button in shown]
    return all(
        screen.region.contains_region(button.region) and button.content_size.width >= button.label.cell_length
        for button in shown
    ) and not any(a.overlaps(b) for i, a in enumerate(places) for b in places[:i])


async def test_copies_go_to_the_clipboard_and_the_screen_to_a_file(
    playground: Playground, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    run_chain(playground, samples, *THREE)
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("Y")
        await driver.until(lambda: driver.dialog(CopyDialog))
        await driver.press("n")
        await driver.until(lambda: not driver.dialog())
        assert driver.app.clipboard == "xdp_firewall"
        await driver.press("Y", "l")
        await driver.until(lambda: driver.app.clipboard == "xdp0 up native xdptui, 3 static")
        await driver.press("ctrl+y")
        assert "xdp_ratelimit" in driver.app.clipboard
        await driver.press("Y")
        await driver.until(lambda: driver.dialog(CopyDialog))
        await driver.press("v")
        await driver.until(lambda: list(tmp_path.glob("xdptui/xdptui-*.svg")))
        assert "<svg" in next(tmp_path.glob("xdptui/xdptui-*.svg")).read_text()


async def test_rows_of_lists_are_sorted_and_keep_their_cursor(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "firewall")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("m")
        await driver.until(lambda: "drops" in driver.text() and "blocked" in driver.text())
        maps = driver.app.screen.query_one("#maps", RowList)
        first = maps.row
        await driver.press("I")
        assert maps.row == first, "the cursor stays on its row"
        assert "▼" in maps.lines[0].text
        await driver.press("s", "I")
        for mark, order in (("MAP▲", ["blocked", "drops"]), ("MAP▼", ["drops", "blocked"])):
            assert mark in maps.lines[0].text
            assert [line.text.strip(" ▶").split()[0] for line in maps.lines[1:3]] == order
            await driver.press("I")


async def test_a_bad_value_keeps_the_editor_and_entries_come_and_go(
    playground: Playground, samples: Path
) -> None:
    run_chain(playground, samples, "firewall")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("m")
        await driver.until(lambda: "blocked" in driver.text())
        await driver.until(lambda: not driver.app.screen.query_one("#new", Button).disabled)
        await driver.press("n")
        await driver.until(lambda: driver.app.screen.query("#key"))
        await driver.type("nonsense")
        await driver.press("enter")
        await driver.type("1")
        await driver.press("enter")
        await driver.until(lambda: "invalid key" in driver.label("#trouble"))
        key = driver.app.screen.query_one("#key")
        assert key.value == "nonsense"  # type: ignore[attr-defined]
        key.value = "{port=9, protocol=17, unused=0}"  # type: ignore[attr-defined]
        driver.app.screen.set_focus(driver.app.screen.query_one("#value"))
        await driver.press("enter")
        await driver.answer("yes")
        await driver.until(lambda: "1/1024" in driver.text())
        driver.app.screen.set_focus(driver.app.screen.query_one("#entries"))
        await driver.press("x")
        await driver.answer("yes")
        await driver.until(lambda: "0/1024" in driver.text())


# In a real terminal


def test_a_burst_of_keys_is_taken_in_order(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    with Terminal(playground.netns, playground.ifname) as terminal:
        terminal.await_text("received")
        terminal.type("/")
        terminal.listen(1.0)
        terminal.type("xyz\x7f\x7fq")
        terminal.await_text("xq")
        terminal.type("\x1b")
        terminal.listen(0.5)
        terminal.type("q")
        assert terminal.exit_code() == 0


def test_sigquit_gives_the_terminal_back(playground: Playground) -> None:
    with Terminal(playground.netns, playground.ifname) as terminal:
        terminal.await_text("FREE")
        kill(terminal.pid, signal.SIGQUIT)
        assert terminal.exit_code() == 128 + signal.SIGQUIT
        assert b"\x1b[?1049l" in terminal.written


def test_copying_writes_osc_52(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    with Terminal(playground.netns, playground.ifname) as terminal:
        terminal.await_text("received")
        terminal.type("Y")
        terminal.listen(1.0)
        terminal.type("n")
        terminal.await_text(f"\x1b]52;c;{base64.b64encode(b'xdp_firewall').decode()}")


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_plain_ascii_where_the_locale_has_no_more(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    with Tmux(playground.netns, playground.ifname, env={"LC_ALL": "C", "PYTHONUTF8": "1"}) as tmux:
        lines = tmux.until(lambda lines: "received" in str(lines))
        assert "\n".join(lines).isascii()
        assert any(line.startswith(">") for line in lines)
        tmux.keys("q")


def test_settings_persist(playground: Playground, samples: Path, tmp_path: Path) -> None:
    run_chain(playground, samples, *THREE)
    env = {"XDG_CONFIG_HOME": str(tmp_path)}
    with Terminal(playground.netns, playground.ifname, env=env) as terminal:
        terminal.await_text("received")
        terminal.type("t2q")
        assert terminal.exit_code() == 0
    text = (tmp_path / "xdptui" / "config.toml").read_text()
    assert 'numbers = "packets"' in text
    assert 'hidden_panes = ["waterfall"]' in text
    with Terminal(playground.netns, playground.ifname, env=env) as terminal:
        terminal.await_text("xdp_monitor")
        terminal.listen(2.0)
        assert b"received" not in terminal.written
        terminal.type("q")
        assert terminal.exit_code() == 0


def test_suspended_and_taken_up_again(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, *THREE)
    shell = ["sh", "-mc", '"$@"; fg; echo done', "sh"]
    with Terminal(playground.netns, playground.ifname, prefix=shell) as terminal:
        terminal.await_text("received")
        terminal.type("\x1a")
        terminal.await_text("\x1b[?1049l")
        terminal.listen(1.0)
        terminal.type("q")
        terminal.await_text("done")


def test_the_mouse_is_left_to_the_terminal(playground: Playground, tmp_path: Path) -> None:
    (tmp_path / "xdptui").mkdir()
    (tmp_path / "xdptui" / "config.toml").write_text("mouse = false\n")
    for env, mouse in (({"XDG_CONFIG_HOME": str(tmp_path)}, False), ({}, True)):
        with Terminal(playground.netns, playground.ifname, env=env) as terminal:
            terminal.await_text("FREE")
            terminal.listen(0.5)
            assert (b"\x1b[?1000h" in terminal.written) is mouse
            terminal.type("q")
            assert terminal.exit_code() == 0
