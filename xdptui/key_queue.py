# SPDX-License-Identifier: Apache-2.0
"""Handle keys strictly one after the other, however fast they come.

Textual (8.2.8) hands each key to the focused widget as it comes. A field takes a letter at once, but a bound
key (backspace, enter) bubbles up to the application before it is looked up; so in a burst such as ``xyz``,
backspace, ``q`` the letters arrive first. Here each key waits until the previous one has been handled.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from textual import events
from textual.app import App
from textual.message_pump import MessagePump

__all__ = ["KeyQueue"]

PATIENCE = 0.25
"""Seconds after which the next key is delivered although a widget is still working on the last one."""


class KeyQueue:
    """``take`` gives one key to Textual."""

    def __init__(self, app: App[None], take: Callable[[events.Key], Awaitable[None]]) -> None:
        self._app, self._take = app, take
        self._waiting: deque[events.Key] = deque()
        self._task: asyncio.Task[None] | None = None

    async def put(self, key: events.Key) -> None:
        """Deliver a key once all earlier ones are handled; at once if there are none."""
        if self._task is not None and not self._task.done():
            self._waiting.append(key)
            return
        await self._take(key)
        self._task = asyncio.create_task(self._go_on(), name="keys")

    async def _go_on(self) -> None:
        await self._settled()
        while self._waiting and self._app.is_running:
            with self._app._context():
                await self._take(self._waiting.popleft())
            await self._settled()

    async def _settled(self) -> None:
        """Wait until the key has bubbled from the focused widget up to the application, and any message it
        caused (say, to a dialog) has done the same.
        """
        for _ in range(2):
            node: MessagePump | None = self._app.focused or self._screen()
            while node is not None:
                await _drained(node)
                node = node._parent

    def _screen(self) -> MessagePump | None:
        return self._app.screen if self._app.screen_stack else None


async def _drained(node: MessagePump) -> None:
    done = asyncio.Event()
    if node.call_later(done.set):
        try:
            await asyncio.wait_for(done.wait(), PATIENCE)
        except TimeoutError:
            return
