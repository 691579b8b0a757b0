# SPDX-License-Identifier: Apache-2.0
"""Saving the chain on the screen as a spec that the command line applies."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input

from tests.tui.driving import driving, look_at, names, run_chain
from xdpchain.testing.playground import Playground
from xdptui.cli import main
from xdptui.screens.failure import Failure
from xdptui.screens.question import Confirm
from xdptui.screens.save import SaveDialog


async def fill(driver: object, path: Path) -> None:
    """Enter the path in the open dialog."""
    from tests.tui.driving import Driver

    assert isinstance(driver, Driver)
    await driver.until(lambda: driver.dialog(SaveDialog))
    driver.app.screen.query_one("#path", Input).value = str(path)
    await driver.pilot.pause()


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_what_runs_is_saved_and_is_nothing_to_apply(
    playground: Playground, samples: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    run_chain(playground, samples, "firewall", "monitor")
    file = tmp_path / "spec.toml"
    async with driving(playground.netns, playground.ifname, size) as driver:
        await driver.press("ctrl+s")
        await fill(driver, file)
        assert "Saves what runs" in driver.text()
        await driver.press("enter")
        await driver.until(file.exists)
        await driver.until(lambda: not driver.dialog())
        first = file.read_text()
        # Again: it is a spec, so it is updated, and what the operator wrote in it stays.
        file.write_text(f"# mine\n{first}")
        await driver.press("J")
        await driver.press("ctrl+s")
        await fill(driver, file)
        await driver.press("enter")
        await driver.until(lambda: driver.dialog(Confirm))
        assert "Update the file?" in driver.text()
        await driver.answer("yes")
        await driver.until(lambda: file.read_text() != f"# mine\n{first}")
        assert file.read_text().startswith("# mine\n")
        await driver.until(lambda: not driver.dialog())
        await driver.press("escape")
        # Anything else is kept unless the user chooses otherwise.
        await driver.press("ctrl+s")
        file.write_text("mine")
        await fill(driver, file)
        await driver.press("enter")
        await driver.until(lambda: driver.dialog(Confirm))
        await driver.press("escape")
        await driver.until(lambda: not driver.dialog())
        assert file.read_text() == "mine"
        await driver.press("ctrl+s")
        await fill(driver, file)
        await driver.press("enter")
        await driver.until(lambda: driver.dialog(Confirm))
        await driver.answer("yes")
        await driver.until(lambda: file.read_text() == first)
    assert main(["plan", str(file)]) == 0


async def test_the_candidate_is_saved_with_its_object_files(
    playground: Playground, samples: Path, tmp_path: Path
) -> None:
    run_chain(playground, samples, "firewall", "monitor")
    file = tmp_path / "spec.toml"
    async with driving(playground.netns, playground.ifname, (80, 24)) as driver:
        await driver.press("J")
        await driver.press("ctrl+s")
        await fill(driver, file)
        assert "does not run yet" in driver.text()
        assert "( ) write them to the directory spec.objects" in driver.text()
        await driver.press("tab", "down", "space")
        assert "(•) write them to the directory spec.objects" in driver.text()
        await driver.answer("save")
        await driver.until(file.exists)
    assert {path.name for path in (tmp_path / "spec.objects").iterdir()} == {"firewall.o", "monitor.o"}
    assert names(look_at(playground)) == ["xdp_firewall", "xdp_monitor"]
    assert main(["apply", str(file)]) == 0
    assert names(look_at(playground)) == ["xdp_monitor", "xdp_firewall"]


async def test_a_place_that_can_not_be_written_is_said(
    playground: Playground, samples: Path, tmp_path: Path
) -> None:
    run_chain(playground, samples, "pass")
    (tmp_path / "file").write_text("")
    async with driving(playground.netns, playground.ifname, (80, 24)) as driver:
        await driver.press("ctrl+s")
        await fill(driver, tmp_path)
        assert "directory" in driver.text()
        await driver.press("enter")
        assert driver.dialog(SaveDialog), "a folder is no file"
        await fill(driver, tmp_path / "file" / "spec.toml")
        await driver.press("enter")
        await driver.until(lambda: driver.dialog(Failure))
        assert "can't be written" in driver.text()
