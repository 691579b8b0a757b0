# SPDX-License-Identifier: Apache-2.0
"""The worker that detects packets lost after their program, on any interface of the namespace.

It listens only to the failure tracepoints: packets that succeed are not slowed. If the kernel forbids
listening there is no alarm; the events screen says why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from textual.message import Message

__all__ = ["Alarm", "Alarmed"]

PERIOD = 1.0
LASTING = 10
"""Periods for which an alarm stays after the last loss."""


class Alarmed(Message):
    """Packets lost since the program started, by ifindex, for interfaces that lost some a moment ago."""

    def __init__(self, lost: Mapping[int, int]) -> None:
        super().__init__()
        self.lost = lost


class Alarm:
    """Runs in a thread; ``post`` sends messages to the screen."""

    def __init__(self, netns: str | None, post: Callable[[Message], object]) -> None:
        self._netns, self._post = netns, post
        self._ended = threading.Event()

    def end(self) -> None:
        """Stop listening soon."""
        self._ended.set()

    def run(self) -> None:
        """The worker's body: returns after `end`, or at once if listening is impossible."""
        from xdpchain.errors import XdpChainError
        from xdpchain.observe.tracepoints import Names, Scope, listen

        try:
            home = Names(self._netns).home
            listener = listen(Scope.FAILURES, home)
        except (XdpChainError, OSError):
            return
        totals: dict[int, int] = {}
        fresh: dict[int, int] = {}
        told: dict[int, int] = {}
        with listener:
            while not self._ended.wait(PERIOD):
                try:
                    sample = listener.read().about(home)
                except OSError:
                    return
                now: dict[int, int] = {}
                for row in sample.rows:
                    if row.place.netns == home:
                        now[row.place.ifindex] = now.get(row.place.ifindex, 0) + row.tally.lost
                for index, lost in now.items():
                    fresh[index] = (
                        LASTING if lost != totals.get(index, 0) else max(0, fresh.get(index, 0) - 1)
                    )
                totals = now
                alarmed = {index: lost for index, lost in now.items() if fresh[index]}
                if alarmed != told:
                    told = alarmed
                    self._post(Alarmed(alarmed))
