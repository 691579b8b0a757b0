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
