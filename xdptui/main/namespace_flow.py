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
        from xdpchain.observe.discover import survey_all
        from xdptui.screens.namespaces import Namespaces
        from xdptui.view.namespace_lines import NamespaceView

        try:
            found, unseen = await asyncio.to_thread(survey_all)
        except XdpChainError as error:
            self._desk.fail(error, "The network namespaces can't be listed")
            return
        views = [
            NamespaceView(
                place, len(there), tuple(running.interface.name for running in there if running.hooks)
            )
            for place, there in found.items()
        ]
        chosen = await self._desk.ask(Namespaces(views, self._netns, unseen))
        if chosen is not None and chosen.netns != self._netns:
            self._go(chosen.netns)
