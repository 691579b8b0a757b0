# SPDX-License-Identifier: Apache-2.0
"""What dialogs ask of the engine: in a thread, answered once."""

from __future__ import annotations

import asyncio
import threading

from textual.app import App, ComposeResult

from xdptui.screens.dialog import Dialog, paragraph


class Asking(Dialog[None]):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[int | Exception] = []

    def body(self) -> ComposeResult:
        yield paragraph("")


async def answered(dialog: Asking, pilot: object, count: int) -> None:
    for _ in range(200):
        if len(dialog.heard) >= count:
            return
        await pilot.pause(0.01)


async def test_an_answer_comes_in_our_own_thread_and_so_does_an_error() -> None:
    dialog, here = Asking(), threading.current_thread()
    async with App().run_test() as pilot:
        await pilot.app.push_screen(dialog)
        threads: list[threading.Thread] = []

        def then(found: int | Exception) -> None:
            threads.append(threading.current_thread())
            dialog.heard.append(found)

        dialog.ask(lambda: 1, then, "one")
        dialog.ask(lambda: 1 // 0, then, "other")
        await answered(dialog, pilot, 2)
        assert 1 in dialog.heard
        assert any(isinstance(found, ZeroDivisionError) for found in dialog.heard)
        assert threads == [here, here]


async def test_only_the_last_question_of_a_group_is_answered() -> None:
    dialog, begun, go = Asking(), threading.Event(), threading.Event()
    async with App().run_test() as pilot:
        await pilot.app.push_screen(dialog)
        dialog.ask(lambda: begun.set() or int(go.wait(10)), dialog.heard.append, "group")
        await asyncio.to_thread(begun.wait, 10)
        dialog.ask(lambda: 2, dialog.heard.append, "group")
        go.set()
        await answered(dialog, pilot, 1)
        await pilot.pause(0.2)
        assert dialog.heard == [2]
