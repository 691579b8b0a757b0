# SPDX-License-Identifier: Apache-2.0
"""The maps screen: the contents of a slot's maps, live, and one value changed"""

from __future__ import annotations

from pathlib import Path

from textual.widgets import Input

from tests.kernel.loaders import attach_pinned, pinned_program
from tests.tui.driving import change, driving, run_chain
from xdpchain.maps import open_map
from xdpchain.testing import frames
from xdpchain.testing.playground import Playground
from xdptui.screens.history import HistoryScreen
from xdptui.screens.map_edit import MapEdit, WriteConfirm
from xdptui.screens.maps import MapsScreen
from xdptui.widgets.row_list import RowList


async def test_entries_are_live(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "monitor")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("m")
        await driver.until(lambda: driver.dialog(MapsScreen))
        await driver.until(lambda: "KIND_UDP" in driver.text())
        assert "protocols" in driver.text()
        playground.send([frames.udp(frames.PEER, frames.NEAR, 53, payload=bytes(58))] * 7)
        await driver.until(lambda: "{packets=7, bytes=700}" in driver.text())
        await driver.press("tab", "slash")
        await driver.type("arp")
        await driver.until(lambda: "KIND_UDP" not in driver.text() and "KIND_ARP" in driver.text())
        await driver.press("escape")
        await driver.until(lambda: "KIND_UDP" in driver.text())
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())


async def test_a_value_is_changed_after_a_question(playground: Playground, samples: Path) -> None:
    running = run_chain(playground, samples, "globals")
    async with driving(playground.netns, playground.ifname, (120, 40)) as driver:
        await driver.press("m")
        await driver.until(lambda: "step" in driver.text())
        assert "frozen" in driver.text()
        await driver.press("tab", "e")  # .rodata: refused
        assert driver.dialog(MapsScreen)
        await driver.press("tab", "down")
        await driver.until(lambda: "total" in driver.text())
        await driver.press("tab", "e")
        await driver.until(lambda: driver.dialog(MapEdit))
        field = driver.app.screen.query_one("#value")
        assert field.value == "1000"  # type: ignore[attr-defined]
        field.value = "0x10"  # type: ignore[attr-defined]
        await driver.press("enter")
        await driver.until(lambda: driver.dialog(WriteConfirm))
        assert "1000" in driver.text()
        assert "→ 16" in driver.text()
        with open_map(running, 0, ".data") as table:
            assert [entry.value for entry in table.entries()] == [1000], "not before it was confirmed"
            await driver.answer("yes")
            await driver.until(lambda: driver.dialog(MapsScreen))
            await driver.until(lambda: [entry.value for entry in table.entries()] == [16])
        await driver.until(lambda: " 16" in driver.text())


async def test_a_new_element(playground: Playground, samples: Path) -> None:
    running = run_chain(playground, samples, "firewall")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("m")
        await driver.until(lambda: "It is empty" in driver.text())
        await driver.press("n")
        await driver.until(lambda: driver.dialog(MapEdit))
        await driver.until(lambda: "Key  port=, protocol=, unused=" in driver.text())
        await driver.type("port=53,protocol=17")
        await driver.press("enter")
        await driver.type("1")
        await driver.press("enter")
        await driver.until(lambda: driver.dialog(WriteConfirm))
        await driver.press("enter")  # Cancel has the focus: what was typed stays
        await driver.until(lambda: driver.dialog(MapEdit))
        await driver.until(lambda: "Not written. Enter asks again" in driver.text())
        typed = [field.value for field in driver.app.screen.query(Input)]
        assert typed == ["port=53,protocol=17", "1"]
        await driver.press("enter")
        await driver.until(lambda: driver.dialog(WriteConfirm))
        await driver.press("y")
        await driver.until(
            lambda: "{port=53, protocol=17, unused=0}" in driver.text() and driver.dialog(MapsScreen)
        )
        with open_map(running, 0, "blocked") as table:
            assert [entry.key for entry in table.entries()] == [{"port": 53, "protocol": 17, "unused": 0}]
        await driver.press("n")
        await driver.until(lambda: driver.dialog(MapEdit))
        await driver.type("port=99999")
        await driver.press("enter", "1", "enter")
        await driver.until(lambda: "0 to 65535" in driver.text())
        await driver.press("backspace")
        await driver.until(lambda: "0 to 65535" not in driver.text(), "the error goes with an edit")


async def test_the_cursor_goes_to_a_new_entry_and_the_history_lists_it(
    playground: Playground, samples: Path
) -> None:
    run_chain(playground, samples, "firewall")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("m")
        await driver.until(lambda: "It is empty" in driver.text())
        entries = driver.app.screen.query_one("#entries", RowList)
        for port in ("7", "9", "53", "4"):
            await driver.press("n")
            await driver.until(lambda: driver.dialog(MapEdit))
            await driver.type(f"port={port}")
            await driver.press("enter", "1", "enter")
            await driver.until(lambda: driver.dialog(WriteConfirm))
            await driver.press("y")
            line = f"▶{{port={port}, protocol=0, unused=0}}"
            await driver.until(lambda line=line: any(row.text.startswith(line) for row in entries.lines))
            assert entries.has_focus
        await driver.press("x")
        await driver.until(lambda: driver.dialog(WriteConfirm))
        await driver.press("y")
        await driver.until(lambda: driver.dialog(MapsScreen) and len(entries.lines) == 4)
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())
        await driver.press("h")
        await driver.until(lambda: driver.dialog(HistoryScreen))
        await driver.press("n")
        await driver.until(lambda: "[map edits]" in driver.text())
        text = driver.text()
        assert "blocked of xdp_firewall, slot 0 on" in text
        rows = driver.app.screen.query_one("#rows", RowList)
        assert len(rows.lines) == 6
        assert "{port=4, protocol=0, unused=0} deleted (was 1)" in driver.label("#entry")
        await driver.press("down")
        await driver.until(lambda: "{port=4, protocol=0, unused=0} = 1 (added)" in driver.label("#entry"))


async def test_a_program_that_goes_away_is_told(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "globals")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("m")
        await driver.until(lambda: "step" in driver.text())
        assert "no longer runs" not in driver.text()
        change(playground, lambda chain: chain.remove([0]))
        await driver.until(lambda: "no longer runs" in driver.text())


async def test_the_maps_of_somebody_elses_program(playground: Playground, samples: Path) -> None:
    with pinned_program(samples / "monitor.o") as pin:
        attach_pinned(playground, pin)
        async with driving(playground.netns, playground.ifname) as driver:
            await driver.press("m")
            await driver.until(lambda: "KIND_UDP" in driver.text())
            assert "no longer runs" not in driver.text()
