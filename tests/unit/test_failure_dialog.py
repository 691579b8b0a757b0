# SPDX-License-Identifier: Apache-2.0
"""What a failure's dialog advises."""

from __future__ import annotations

from textual.app import App

from xdpchain.advice import Do, advise
from xdpchain.errors import NotFound
from xdptui.screens.failure import Failure


async def test_advice_without_a_namespace_of_its_own_is_about_the_selected_one() -> None:
    error = NotFound("it left pins behind", "its program is gone", advise(Do.CLEAN))
    app: App[None] = App()
    async with app.run_test() as pilot:
        app.push_screen(Failure(error, netns="blue"))
        await pilot.pause()
        text = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
    assert "clean --netns blue" in text


async def test_the_name_of_an_interface_is_written_as_it_is() -> None:
    app: App[None] = App()
    shown = {}
    async with app.run_test() as pilot:
        for what in ("va (netns blue) runs a pending change", "the chain can't be read"):
            app.push_screen(Failure(NotFound(what)))
            await pilot.pause()
            shown[what] = "\n".join(strip.text for strip in app.screen._compositor.render_strips())
            app.pop_screen()
    assert "va (netns blue) runs a pending change" in shown["va (netns blue) runs a pending change"]
    assert "The chain can't be read" in shown["the chain can't be read"]
