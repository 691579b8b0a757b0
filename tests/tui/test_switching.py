# SPDX-License-Identifier: Apache-2.0
"""Off and on in the terminal program: the key, the mark; labels, and kept maps; and what the details say
besides XDP.
"""

from __future__ import annotations

import os
import secrets
import struct
from pathlib import Path

from textual.widgets import Input

from tests.kernel.chains import run_through, scripted_chain
from tests.kernel.mishaps import map_of, redirecting
from tests.kernel.test_behind import CPUMAP, INCLUDES, ON_LINK, ROOT, returning
from tests.objects.compile import compile_text
from tests.tui.driving import change, driving, look_at, run_chain
from xdpchain.linkage.kept_maps import forget_kept, kept_maps
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.sys import bpf, bpffs, netns
from xdpchain.sys.libbpf import Object
from xdpchain.sys.netlink import Netlink
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground
from xdptui.screens.beside import BesideScreen
from xdptui.screens.details import DetailsScreen
from xdptui.screens.labels import LabelsDialog
from xdptui.screens.question import Confirm
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
        await driver.until(lambda: any(words in driver.text() for words in ("nothing else", "not seen")))
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
            await driver.until(lambda: f"cpus[{cpu}] → oncpu" in driver.text())
            assert "not counted: it was loaded without BTF" in driver.text()


async def test_a_program_without_slots_shows_what_is_behind_it(playground: Playground) -> None:
    with (
        Object(compile_text(ROOT, *INCLUDES), "root") as opened,
        returning(Action.DROP, "balancer", ON_LINK) as balancer,
        Netlink(playground.netns) as netlink,
    ):
        opened.load()
        (program,), (array,) = opened.programs(), opened.maps()
        netlink.attach_xdp(playground.ifindex, program.fd, "native", None)
        bpf.map_update(array.fd, struct.pack("=I", 5), struct.pack("=I", balancer.fileno()))
        async with driving(playground.netns, playground.ifname, (120, 40)) as driver:
            await driver.press("enter")
            await driver.until(lambda: driver.dialog(BesideScreen))
            await driver.until(lambda: "root_array[5] → balancer" in driver.text())
            assert "counts as the code of the program that calls it" in driver.text()


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


async def test_what_a_link_holds_is_detached_after_its_owner_and_pins_are_named(
    playground: Playground,
) -> None:
    pin = bpffs.find() / f"xdptui-test-{os.getpid()}-{secrets.token_hex(4)}"
    with (
        returning(Action.PASS, "theirs", ON_LINK) as program,
        netns.run(playground.netns, lambda: bpf.link_create(program, playground.ifindex, ON_LINK)) as link,
    ):
        bpf.obj_pin(link, str(pin))
        try:
            async with driving(playground.netns, playground.ifname, (120, 40)) as driver:
                await driver.press("u")
                await driver.until(lambda: driver.dialog(Confirm))
                shown = " ".join(driver.text().replace("│", " ").replace("┃", " ").split())
                assert f"bpf_link {bpf.link_info(link).id} holds program" in shown
                assert "owner:" in shown
                assert pin.name in shown
                await driver.press("enter", "escape")
                await driver.until(lambda: not driver.dialog())
                assert look_at(playground).hooks, "it was only shown"
                await driver.press("u")
                await driver.until(lambda: driver.dialog(Confirm))
                await driver.press(*playground.ifname, "enter", "enter")
                await driver.until(lambda: not driver.dialog() and not look_at(playground).hooks)
                assert pin.exists(), "pins are their owner's"
        finally:
            pin.unlink()
