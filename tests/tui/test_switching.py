# SPDX-License-Identifier: Apache-2.0
"""Off and on in the terminal program: the key, the mark; labels, and kept maps; and what the details say
besides XDP.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from textual.widgets import Input, RichLog

from tests.kernel.chains import run_through, scripted_chain
from tests.kernel.mishaps import map_of, redirecting
from tests.kernel.test_behind import CPUMAP, returning
from tests.tui.driving import change, driving, look_at, run_chain
from xdpchain.linkage.kept_maps import forget_kept, kept_maps
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.sys import bpf
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.screens.details import DetailsScreen
from xdptui.screens.labels import LabelsDialog
from xdptui.screens.unload import UnloadDialog
from xdptui.view.session import BannerState

PASS_ON = ActionSet.parse("P")


async def test_a_slot_is_switched_off_and_on(playground: Playground, samples: Path) -> None:
    change(playground, lambda _: scripted_chain(samples, [PASS_ON] * 2, Linkage.STATIC))
    async with driving(playground.netns, playground.ifname, (120, 40)) as driver:
        await driver.press("O")
        assert " 0O" in driver.lines("chain")[1]
        assert any("does not run" in line for line in driver.lines("inspector"))
        assert not any(slot.off for slot in look_at(playground).chain or ())
        await driver.apply()
        await driver.until(lambda: driver.session.state is BannerState.RUNNING and not driver.dialog())
        running = look_at(playground)
        assert [slot.off for slot in running.chain or ()] == [True, False]
        assert run_through(running, scripted(b"\1\2")).data[60:] == b"1"
        await driver.press("enter")
        await driver.until(lambda: isinstance(driver.app.screen, DetailsScreen))
        await driver.press("5")
        log = driver.app.screen.query_one("#beside-text", RichLog)
        await driver.until(
            lambda: any("nothing else" in line.text or "not seen" in line.text for line in log.lines)
        )
        await driver.press("escape", "O")
        await driver.apply()
        await driver.until(lambda: driver.session.state is BannerState.RUNNING and not driver.dialog())
        assert [slot.off for slot in look_at(playground).chain or ()] == [False, False]


async def test_programs_in_maps_stand_in_the_details(playground: Playground) -> None:
    cpus = map_of(redirecting(playground, "by_cpumap"), "cpus")
    cpu = min(os.sched_getaffinity(0))
    with returning(Action.PASS, "oncpu", CPUMAP) as program, bpf.map_by_id(cpus) as fd:
        bpf.map_update(fd, struct.pack("=I", cpu), struct.pack("=II", 64, program.fileno()))
        async with driving(playground.netns, playground.ifname, (120, 40)) as driver:
            await driver.press("enter")
            await driver.until(lambda: isinstance(driver.app.screen, DetailsScreen))
            await driver.press("5")
            log = driver.app.screen.query_one("#beside-text", RichLog)
            await driver.until(lambda: any(f"cpus[{cpu}] → oncpu" in line.text for line in log.lines))
            assert any("not counted: the kernel tells them only while" in line.text for line in log.lines)


async def test_labels_are_edited(playground: Playground, samples: Path) -> None:
    change(
        playground, lambda _: scripted_chain(samples, [PASS_ON], Linkage.STATIC).label(0, {"team": "edge"})
    )
    async with driving(playground.netns, playground.ifname, (120, 40)) as driver:
        await driver.press("E")
        await driver.until(lambda: driver.dialog(LabelsDialog))
        field = driver.app.screen.query_one("#labels", Input)
        assert field.value == "team=edge"
        field.value = "team"
        await driver.until(lambda: "is not a label" in driver.text())
        await driver.press("enter")
        assert driver.dialog(LabelsDialog), "what is not a label is not a valid answer"
        field.value = "tier=1 site=b/2"
        await driver.until(lambda: "site=b/2, tier=1" in driver.label("#outcome"))
        await driver.press("enter")
        await driver.until(lambda: driver.session.changes == 1 and not driver.dialog())
        await driver.apply()
        await driver.until(lambda: driver.session.state is BannerState.RUNNING and not driver.dialog())
    chain = look_at(playground).chain
    assert chain is not None
    assert chain.slots[0].labels == (("site", "b/2"), ("tier", "1"))


async def test_maps_are_kept_when_their_slot_leaves(playground: Playground, samples: Path) -> None:
    before = run_chain(playground, samples, "firewall", "monitor").chain
    assert before is not None
    maps = {ref.id for ref in before.slots[0].component.maps}
    try:
        async with driving(playground.netns, playground.ifname, (120, 40)) as driver:
            await driver.press("u")
            await driver.until(lambda: driver.dialog(UnloadDialog))
            await driver.press("k")
            await driver.until(lambda: "[x] keep their map contents" in driver.text())
            await driver.press("u")
            await driver.until(lambda: driver.session.keeps_maps and not driver.dialog())
            await driver.press("p")
            await driver.until(lambda: "pin the maps of removed slots" in driver.text())
            await driver.press("a")
            await driver.until(lambda: driver.session.state is BannerState.RUNNING and not driver.dialog())
        assert {kept_map.map_id for kept_map in kept_maps()} >= maps
    finally:
        forget_kept(maps)
