# SPDX-License-Identifier: Apache-2.0
"""Loading, trying, replacing and unloading through the dialogs, on the real engine."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from textual.events import Key, Paste
from textual.widgets import Button, Input

from tests.tui.driving import Driver, driving, look_at, names, run_chain
from xdpchain.maps import open_map
from xdpchain.model.interface import Mode
from xdpchain.objects.components import programs_of
from xdpchain.objects.objfile import ObjectFile
from xdpchain.observe.discover import look
from xdpchain.testing import frames
from xdpchain.testing.frames import NEAR, PEER
from xdpchain.testing.playground import Playground
from xdptui.screens.failure import Failure
from xdptui.screens.globals_form import GlobalsForm
from xdptui.screens.linkage import LinkageDialog
from xdptui.screens.load import LoadDialog
from xdptui.screens.object_paths import Entry, contents
from xdptui.screens.plan import PlanDialog
from xdptui.screens.question import Confirm
from xdptui.screens.trial import TrialDialog
from xdptui.screens.unload import UnloadDialog
from xdptui.view.session import BannerState
from xdptui.widgets.mode_choice import ModeChoice
from xdptui.widgets.row_list import RowList
from xdptui.workers.trial_frames import NAMED_FRAMES


async def open_object(driver: Driver, path: Path, key: str = "l") -> None:
    """Open the load dialog and name an object file."""
    await driver.press(key)
    await driver.until(lambda: driver.dialog(LoadDialog))
    dialog = driver.app.screen
    assert isinstance(dialog, LoadDialog)
    dialog.query_one("#path", Input).value = str(path)
    await driver.pilot.pause()
    await driver.until(lambda: dialog.settled)


async def apply_and_wait(driver: Driver) -> None:
    await driver.apply()
    await driver.until(
        lambda: driver.session.state in (BannerState.RUNNING, BannerState.FREE) and not driver.dialog()
    )


async def test_load_on_a_free_interface_and_count_exactly(playground: Playground, samples: Path) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        assert "Press l to load one" in "\n".join(driver.lines("chain"))
        await open_object(driver, samples / "counter.o")
        await driver.until(lambda: "has native XDP" in driver.label("#facts"))
        facts = driver.label("#facts")
        assert "declares priority 38, continues on XDP_PASS" in facts
        assert "packets (percpu_array 4→8 B × 1)" in facts
        assert "Dual BSD/GPL" in facts
        assert "fits in one buffer" in facts
        await driver.answer("add")
        await driver.until(lambda: not driver.dialog())
        assert driver.session.changes == 1
        assert not look_at(playground).hooks, "joining the candidate must not touch the kernel"
        await apply_and_wait(driver)
        assert names(look_at(playground)) == ["xdp_counter"]
        assert look_at(playground).mode is Mode.NATIVE
        await driver.until(lambda: driver.app.main.meter.last(driver.session.selected) is not None)
        playground.send([frames.udp(PEER, NEAR, 5)] * 137)
        await driver.press("t")
        await driver.until(lambda: "137" in driver.lines("chain")[1])


async def test_an_absolute_path_takes_the_place_of_what_the_field_begins_with(
    playground: Playground, samples: Path
) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("l")
        await driver.until(lambda: driver.dialog(LoadDialog))
        field = driver.app.screen.query_one("#path", Input)
        assert field.value == f"{os.getcwd()}/"
        field._on_paste(Paste(f"{samples / 'counter.o'}\n"))
        await driver.until(lambda: "declares priority 38" in driver.label("#facts"))
        assert (field.value, field.cursor_position) == (str(samples / "counter.o"), len(field.value))
        driver.app.screen.set_focus(field)
        await driver.press("end", "ctrl+u")
        await driver.type("/usr//var/~/x")
        assert field.value == "~/x"


async def test_overrides_of_priority_actions_and_place(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "firewall", "monitor")
    async with driving(playground.netns, playground.ifname) as driver:
        await open_object(driver, samples / "pass.o")
        driver.app.screen.query_one("#at", Input).value = "7"
        await driver.until(lambda: "must be 0 to 2" in driver.label("#facts"))
        assert driver.app.screen.query_one("#add", Button).disabled
        driver.app.screen.query_one("#at", Input).value = "1"
        driver.app.screen.set_focus(driver.app.screen.query_one("#actions"))
        await driver.press("d", "left", "space")
        await driver.answer("add")
        await driver.until(lambda: not driver.dialog())
        await apply_and_wait(driver)
    chain = look_at(playground).chain
    assert chain is not None
    assert [s.name for s in chain] == ["xdp_firewall", "xdp_pass", "xdp_monitor"]
    assert str(chain.slots[1].actions) == "XDP_ABORTED,XDP_DROP,XDP_PASS"


@pytest.mark.parametrize(("width", "lines"), [(60, 2), (80, 1)])
async def test_all_settings_are_in_sight(
    playground: Playground, samples: Path, width: int, lines: int
) -> None:
    async with driving(playground.netns, playground.ifname, (width, 20)) as driver:
        await open_object(driver, samples / "pass.o")
        screen = driver.app.screen
        await driver.until(lambda: screen.query_one("#settings").region.height == lines)
        box = screen.query_one("#box").region
        for name in ("priority", "actions", "at"):
            await driver.until(lambda name=name: screen.query_one(f"#{name}").region in box)


async def test_the_dialog_says_what_a_program_can_return_and_where(
    playground: Playground, samples: Path
) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await open_object(driver, samples / "firewall.o")
        await driver.until(lambda: "passes in 9 places, drops in 1 place" in driver.label("#facts"))
        assert "bpf_map_lookup_elem(&blocked" not in driver.label("#facts")
        await driver.press("ctrl+l")
        await driver.until(lambda: "if (!bpf_map_lookup_elem(&blocked, &key))" in driver.label("#facts"))
        await driver.press("ctrl+l")
        await driver.until(lambda: "bpf_map_lookup_elem(&blocked" not in driver.label("#facts"))


async def test_trial_says_what_each_slot_did(playground: Playground, samples: Path) -> None:
    before = run_chain(playground, samples, "pass")
    async with driving(playground.netns, playground.ifname) as driver:
        await open_object(driver, samples / "drop.o")
        await driver.answer("trial")
        await driver.until(lambda: driver.dialog(TrialDialog))
        await driver.until(lambda: "XDP_DROP" in driver.label("#rows"))
        rows = driver.label("#rows").splitlines()[1:]
        assert len(rows) == len(NAMED_FRAMES)
        assert all("XDP_DROP" in row for row in rows)
        await driver.press("escape")
        assert driver.dialog(LoadDialog), "the trial leads back to where one was"
    assert look_at(playground).identity == before.identity


async def test_native_is_the_default_and_generic_a_choice(playground: Playground, samples: Path) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await open_object(driver, samples / "pass.o")
        choice = driver.app.screen.query_one(ModeChoice)
        assert choice.mode is Mode.NATIVE
        await driver.pilot.click(choice, offset=(12, 0))
        await driver.until(lambda: "generic mode: slower" in driver.label("#facts"))
        await driver.answer("add")
        await driver.until(lambda: not driver.dialog())
        await apply_and_wait(driver)
    assert look_at(playground).mode is Mode.GENERIC


async def test_files_are_listed_entered_and_completed(playground: Playground, samples: Path) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await open_object(driver, samples.parent / samples.name[:3])
        files = driver.app.screen.query_one("#files", RowList)
        labels = [line.text.strip(" ▶") for line in files.lines]
        assert labels[1:3] == ["../", "samples/"]
        await driver.press("enter")
        await driver.until(lambda: driver.app.screen.focused is files)
        await driver.press("enter")
        await driver.until(lambda: driver.app.screen.query_one("#path", Input).value == f"{samples}/")
        path = driver.app.screen.query_one("#path", Input)
        driver.app.screen.set_focus(path)
        await driver.type("rateli")
        await driver.until(lambda: path._suggestion.endswith("ratelimit.o"))
        await driver.press("tab")
        assert path.has_focus or path.value.endswith("ratelimit.o")
        await driver.until(lambda: "xdp_ratelimit" in driver.label("#facts"))


async def test_what_is_typed_quickly_is_read_once(
    playground: Playground, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "counter.o"
    for end in range(1, len(name) + 1):
        (tmp_path / name[:end]).write_bytes((samples / name).read_bytes())
    read, listed = [], []

    def counted(path: str) -> ObjectFile:
        read.append(path)
        return programs_of(path)

    def seen(directory: str) -> tuple[Entry, ...]:
        listed.append((directory, threading.current_thread() is threading.main_thread()))
        return contents(directory)

    monkeypatch.setattr("xdpchain.objects.components.programs_of", counted)
    monkeypatch.setattr("xdptui.screens.object_files.contents", seen)
    async with driving(playground.netns, playground.ifname) as driver:
        await open_object(driver, Path(f"{tmp_path}/"))
        listed.clear()
        field = driver.app.screen.query_one("#path", Input)
        driver.app.screen.set_focus(field)
        field.cursor_position = len(field.value)
        for character in f"/{name}":
            key = {"/": "slash", ".": "full_stop"}.get(character, character)
            driver.app.post_message(Key(key, character))
        await driver.until(lambda: "declares priority 38" in driver.label("#facts"))
        assert field.value == str(tmp_path / name)
        assert read == [str(tmp_path / name)]
        assert listed == [(str(tmp_path), False)]


async def test_enter_waits_for_what_was_typed(playground: Playground, samples: Path) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await open_object(driver, Path(f"{samples}/"))
        field = driver.app.screen.query_one("#path", Input)
        field.value = f"{samples}/counter.o"
        await driver.press("enter", "ctrl+s")
        await driver.until(lambda: driver.session.changes == 1 and not driver.dialog())


async def test_files_are_sorted_by_age_and_found_by_words(
    playground: Playground, samples: Path, tmp_path: Path
) -> None:
    for name, age in (("old", 9000), ("new", 30), ("other", 600)):
        (tmp_path / f"{name}.o").write_bytes(b"x" * age)
        os.utime(tmp_path / f"{name}.o", (time.time() - age,) * 2)
    (tmp_path / "directory").mkdir()
    async with driving(playground.netns, playground.ifname, (100, 30)) as driver:
        await open_object(driver, tmp_path)
        await driver.press("enter", "enter")
        files = driver.app.screen.query_one("#files", RowList)
        await driver.until(lambda: files.has_focus)

        def shown() -> list[str]:
            return [line.text.strip(" ▶").split()[0] for line in files.lines[1:6]][: len(files.shown_rows)]

        assert shown()[:5] == ["../", "directory/", "new.o", "old.o", "other.o"]
        assert any(line.text.split() == ["old.o", "9.00k", "2h"] for line in files.lines)
        await driver.pilot.click(files, offset=(files.size.width - 3, 0))
        await driver.until(lambda: shown()[:4] == ["../", "new.o", "other.o", "old.o"])
        assert "age▲" in files.lines[0].text
        await driver.press("slash")
        await driver.type("o")
        await driver.type("ld")
        assert shown() == ["../", "old.o"]
        assert "1 of 5" in files.lines[0].text
        await driver.press("enter", "escape")
        assert driver.dialog(LoadDialog), "escape lets go of the filter first"
        assert len(shown()) > 3


async def test_what_is_no_object_is_said_in_words(playground: Playground, tmp_path: Path) -> None:
    broken = tmp_path / "broken.o"
    broken.write_bytes(b"\x7fELF" + bytes(60))
    text = tmp_path / "text.o"
    text.write_text("no ELF at all")
    async with driving(playground.netns, playground.ifname) as driver:
        for path in (broken, text):
            await open_object(driver, path)
            await driver.until(lambda: "can't be used" in driver.label("#facts"))
            assert driver.app.screen.query_one("#add", Button).disabled
            await driver.press("escape")
            await driver.until(lambda: not driver.dialog())
        assert driver.session.changes == 0


async def test_a_program_that_the_verifier_refuses(playground: Playground, samples: Path) -> None:
    before = run_chain(playground, samples, "pass")
    async with driving(playground.netns, playground.ifname) as driver:
        await open_object(driver, samples / "refused.o")
        await driver.answer("add")
        await driver.until(lambda: not driver.dialog())
        await driver.press("a")
        await driver.until(lambda: driver.dialog(PlanDialog))  # because there is a warning
        await driver.until(lambda: "It can't be applied" in driver.text())
        assert "Traceback" not in driver.text()
        assert driver.app.screen.query_one("#apply", Button).disabled
        await driver.press("a")
        assert driver.dialog(PlanDialog), "what the verifier refuses can't be applied"
        await driver.press("d")
        await driver.until(lambda: driver.dialog(Failure))
        assert driver.app.screen.query_one("#detail").display
        assert driver.label("#detail").strip(), "the verifier's own words"
        await driver.press("escape", "escape")
        await driver.until(lambda: not driver.dialog())
        assert driver.session.changes == 1, "the candidate is kept, to be mended"
    assert look_at(playground).identity == before.identity


async def test_replace_keeps_the_place_and_the_maps(playground: Playground, samples: Path) -> None:
    before = run_chain(playground, samples, "firewall", "counter", "monitor")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("down")
        await open_object(driver, samples / "counter_v2.o", key="o")
        assert "Replace xdp_counter" in driver.text()
        await driver.answer("add")
        await driver.until(lambda: not driver.dialog())
        assert "≠" in "\n".join(driver.lines("chain"))
        await apply_and_wait(driver)
    after = look_at(playground)
    assert names(after) == ["xdp_firewall", "xdp_counter", "xdp_monitor"]
    assert before.chain is not None
    assert after.chain is not None
    old, new = before.chain.slots[1], after.chain.slots[1]
    assert new.component.object != old.component.object
    assert {m.name: m.id for m in old.component.maps}["packets"] == {
        m.name: m.id for m in new.component.maps
    }["packets"]


async def test_unload_one_asks_with_the_harmless_answer_first(playground: Playground, samples: Path) -> None:
    before = run_chain(playground, samples, "firewall", "ratelimit", "monitor")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("down", "u")
        await driver.until(lambda: driver.dialog(UnloadDialog))
        assert "Remove 1 of 3 (u)" in driver.text()
        await driver.press("down", "space")  # the list has the focus
        await driver.until(lambda: "Remove 2 of 3 (u)" in driver.text())
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())
        assert driver.session.changes == 0
        await driver.press("u")
        await driver.answer("remove")
        await driver.until(lambda: driver.session.changes == 1)
        assert "removed, not yet applied" in "\n".join(driver.lines("chain"))
        await driver.press("a")
        await driver.until(lambda: driver.dialog(PlanDialog) or driver.dialog(Confirm))
        await driver.press("enter")
        await driver.until(lambda: not driver.dialog())
        assert look_at(playground).identity == before.identity
        await driver.press("a")
        await driver.until(lambda: driver.dialog(PlanDialog) or driver.dialog(Confirm))
        # The plan names what is removed, so it is the only question; without warnings there is no plan.
        await driver.press("a" if driver.dialog(PlanDialog) else "y")
        await driver.until(lambda: driver.session.state is BannerState.RUNNING and not driver.dialog())
    assert names(look_at(playground)) == ["xdp_firewall", "xdp_monitor"]


async def test_the_question_about_removals_takes_the_key_that_applies(
    playground: Playground, samples: Path
) -> None:
    run_chain(playground, samples, "pass", "counter")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("u", "k", "u")  # its maps are kept, so there is no warning and no plan
        await driver.until(lambda: driver.session.changes == 1)
        await driver.press("a")
        await driver.until(lambda: driver.dialog(Confirm))
        assert "Apply (a or y)" in driver.text()
        await driver.press("a")
        await driver.until(lambda: driver.session.state is BannerState.RUNNING and not driver.dialog())
    assert names(look_at(playground)) == ["xdp_pass"]


async def test_removing_the_last_program_demands_a_name(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "firewall", "monitor")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("u", "a")
        await driver.answer("remove")
        await driver.until(lambda: driver.session.changes == 2)
        await driver.apply()
        await driver.until(lambda: driver.dialog(Confirm))
        yes = driver.app.screen.query_one("#yes", Button)
        await driver.type("wrong")
        assert yes.disabled
        await driver.press("enter", "enter")
        await driver.until(lambda: not driver.dialog())
        assert names(look_at(playground)) == ["xdp_firewall", "xdp_monitor"]
        await driver.apply()
        await driver.until(lambda: driver.dialog(Confirm))
        await driver.type(playground.ifname)
        await driver.answer("yes")
        await driver.until(lambda: driver.session.state is BannerState.FREE)
        assert "No XDP program runs" in "\n".join(driver.lines("chain"))
    assert not look_at(playground).hooks


async def test_a_path_that_leads_nowhere_is_told_on_both_keys(playground: Playground, samples: Path) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        for key in ("enter", "ctrl+s"):
            await open_object(driver, samples / "no-such.o")
            assert "There is no" not in driver.label("#facts")
            await driver.press(key)
            assert f"There is no {samples / 'no-such.o'}" in driver.label("#facts")
            await driver.press("escape")
            await driver.until(lambda: not driver.dialog() and not driver.app.main.desk.busy)
        await open_object(driver, samples)
        await driver.press("ctrl+s")
        assert "is a directory" in driver.label("#facts")


async def test_globals_are_given_in_a_form(playground: Playground, samples: Path) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await open_object(driver, samples / "globals.o")
        await driver.until(lambda: "has native XDP" in driver.label("#facts"))
        await driver.press("ctrl+g")
        await driver.until(lambda: driver.dialog(GlobalsForm))
        fields = {field.value for field in driver.app.screen.query(Input)}
        assert fields == {"3", "1000", "0"}
        step = next(field for field in driver.app.screen.query(Input) if field.value == "3")
        step.value = "-1"
        await driver.until(lambda: "out of range (0 to" in driver.label("#wrong"))
        assert driver.app.screen.query_one("#set", Button).disabled
        step.value = "0x10"
        await driver.until(lambda: not driver.app.screen.query_one("#set", Button).disabled)
        await driver.press("ctrl+s")
        await driver.until(lambda: "globals given: step = 16" in driver.label("#facts"))
        await driver.press("ctrl+g")
        await driver.until(lambda: driver.dialog(GlobalsForm))
        assert {field.value for field in driver.app.screen.query(Input)} == {"16", "1000", "0"}
        await driver.press("escape")
        await driver.until(lambda: driver.dialog(LoadDialog))
        await driver.answer("add")
        await driver.until(lambda: not driver.dialog())
        await apply_and_wait(driver)
        playground.send([frames.udp(PEER, NEAR, 5)] * 3)
        with open_map(look_at(playground), 0, ".data") as table:
            assert [entry.value for entry in table.entries()] == [1000 + 3 * 16]
        await open_object(driver, samples / "globals.o", "o")
        await driver.until(lambda: "has native XDP" in driver.label("#facts"))
        await driver.press("ctrl+g")
        await driver.until(lambda: driver.dialog(GlobalsForm))
        locked = {field.value for field in driver.app.screen.query(Input) if field.disabled}
        assert locked == {"1000", "0"}, "what the running program hands on can't be given values"


async def test_a_program_without_variables_has_no_form(playground: Playground, samples: Path) -> None:
    async with driving(playground.netns, playground.ifname) as driver:
        await open_object(driver, samples / "pass.o")
        await driver.until(lambda: "has native XDP" in driver.label("#facts"))
        assert driver.app.screen.query_one("#globals", Button).disabled
        await driver.press("ctrl+g")
        assert driver.dialog(LoadDialog)


async def test_marked_interfaces_are_loaded_together(samples: Path, root: None) -> None:
    with Playground(links=2) as playground:
        second = playground.links[1]
        async with driving(playground.netns, playground.ifname) as driver:
            driver.app.main.desk.put(driver.session.select(second.ifindex))
            await driver.press("M")
            assert any("+" + second.ifname in line for line in driver.lines("interfaces"))
            driver.app.main.desk.put(driver.session.select(playground.ifindex))
            await open_object(driver, samples / "pass.o")
            assert f"Load a program on {playground.ifname}, {second.ifname} " in driver.text()
            driver.app.screen.query_one("#add").focus()
            await driver.until(lambda: "loads it on all 2 interfaces at once" in driver.label("#facts"))
            assert "candidate" not in driver.label("#facts")
            assert driver.label("#add") == "[Load (ctrl+s)]"
            await driver.answer("add")
            await driver.until(lambda: driver.dialog(Confirm))
            assert not look_at(playground).hooks
            await driver.answer("yes")
            await driver.until(lambda: not driver.dialog())
        assert names(look_at(playground)) == names(look(second.ifname, playground.netns)) == ["xdp_pass"]


async def test_a_chain_is_moved_to_another_mode(playground: Playground, samples: Path) -> None:
    run_chain(playground, samples, "pass")
    async with driving(playground.netns, playground.ifname) as driver:
        await driver.press("L")
        await driver.until(lambda: driver.dialog(LinkageDialog))
        await driver.press("g")
        await driver.until(lambda: not driver.dialog())
        assert driver.session.changes == 1
        await driver.press("a")
        await driver.until(lambda: driver.dialog(PlanDialog))
        assert "Warnings (1)" in driver.text()
        await driver.answer("apply")
        await driver.until(lambda: driver.session.state is BannerState.RUNNING and not driver.dialog())
    assert look_at(playground).mode is Mode.GENERIC
