# SPDX-License-Identifier: Apache-2.0
"""Switch to another network namespace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from xdpchain.errors import XdpChainError
from xdptui.main.desk import Actions, Controller, Desk

__all__ = ["NamespaceFlow"]


class NamespaceFlow(Controller):
    """The key that lists the machine's network namespaces. ``go`` is called with the one chosen, unless that
    is ``netns``, which is already on the screen.
    """

    def __init__(self, desk: Desk, netns: str | None, go: Callable[[str | None], object]) -> None:
        super().__init__(desk)
        self._netns, self._go = netns, go

    @property
    def actions(self) -> Actions:
        return {"namespaces": lambda: self._desk.begin(self._choose())}

    async def _choose(self) -> None:
        from xdpchain.observe.discover import interfaces, named_spellings
        from xdptui.screens.namespaces import Namespaces

        try:
            places = tuple(named_spellings().values())
        except XdpChainError as error:
            self._desk.fail(error, "The network namespaces can't be listed")
            return
        chosen = await self._desk.ask(Namespaces(places, self._netns))
        if chosen is None or chosen.netns == self._netns:
            return
        try:
            await asyncio.to_thread(interfaces, chosen.netns)
        except XdpChainError as error:  # it was deleted meanwhile: there would be nothing to see
            self._desk.fail(error, "It can't be shown")
            return
        self._go(chosen.netns)
