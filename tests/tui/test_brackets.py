# SPDX-License-Identifier: Apache-2.0
"""Names with brackets are shown as they are: Textual reads brackets in texts as markup."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Button, Static

import xdptui
from tests.tui.driving import Driver
from xdpchain.change.plan import make_plan
from xdpchain.editing import apply
from xdpchain.model.chain import Chain
from xdpchain.model.slot import Slot
from xdpchain.objects.components import load_component
from xdpchain.observe.discover import look
from xdpchain.testing.playground import Playground
from xdptui.app import XdpTui
from xdptui.screens.dialog import button, paragraph

NAMES = ("e[a=b", "e[b]y", "e[/x]")


async def test_messages_name_interfaces_with_brackets(playground: Playground, samples: Path) -> None:
    chain = Chain().add(Slot.of(load_component(str(samples / "pass.o"))))
    names = [name for name in NAMES if "/" not in name]  # the kernel refuses a slash
    for name in names:
        link = ["ip", "-n", playground.netns, "link", "add", name, "type", "veth"]
        subprocess.run(link, check=True)
    app = XdpTui(playground.netns, names[0])
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        driver = Driver(app, pilot)
        await driver.until(lambda: driver.session.surveyed)
        for name in names:
            apply(make_plan(look(name, playground.netns), chain))
            await driver.until(lambda name=name: f" {name}: root changed" in driver.text())


@pytest.mark.parametrize("name", NAMES)
async def test_no_widget_reads_markup_in_a_name(name: str) -> None:
    class Shows(App[None]):
        def compose(self) -> ComposeResult:
            yield paragraph(name, id="first")
            yield paragraph("", id="then")
            yield button(name, "does")

    async with Shows().run_test() as pilot:
        then = pilot.app.query_one("#then", Static)
        then.update(name)
        does = pilot.app.query_one(Button)
        assert str(does.label) == name
        does.label = f"{name}!"
        await pilot.pause()
        strips = pilot.app.screen._compositor.render_strips()
        lines = [strip.text.strip() for strip in strips][:3]
        assert lines == [name, name, f"[{name}!]"], "the button has the focus"


def test_there_are_no_widgets_but_these() -> None:
    """``Static`` and ``Button`` read markup in a string unless they are told not to."""
    careless = [
        f"{path}:{node.lineno}"
        for path in Path(xdptui.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("Static", "Label", "Button", "OptionList", "RichLog")
        and not any(keyword.arg == "markup" for keyword in node.keywords)
    ]
    assert careless == []
