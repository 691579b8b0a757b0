# SPDX-License-Identifier: Apache-2.0
"""Packets by RX queue, per second and in total, for repeated readings."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.running import Running
from xdpchain.observe.account import QueueCounts, read_queues

__all__ = ["QueueMeter", "QueueReading"]


@frozen
class QueueReading:
    """``queues`` are totals; ``rates`` packets per second by queue and outcome, None in a first reading.
    ``why`` says why there is nothing.
    """

    queues: tuple[QueueCounts, ...] = ()
    rates: Mapping[tuple[int, str], float] | None = None
    why: str = ""


class QueueMeter:
    """Remembers the previous reading of each interface until it is left."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[float, dict[tuple[int, str], int]]] = {}

    def leave_all_but(self, runnings: Iterable[Running]) -> None:
        """Forget the readings of other interfaces."""
        here = {running.interface.ifindex for running in runnings}
        self._before = {ifindex: kept for ifindex, kept in self._before.items() if ifindex in here}

    def read(self, running: Running) -> QueueReading:
        """Take a reading."""
        try:
            queues = read_queues(running)
        except XdpChainError as error:
            return QueueReading(why=str(error))
        now = time.monotonic()
        totals = {(counts.queue, what): n for counts in queues for what, n in counts.packets.items()}
        at, before = self._before.get(running.interface.ifindex, (now, {}))
        self._before[running.interface.ifindex] = now, totals
        if now <= at:
            return QueueReading(queues)
        rates = {place: max(0.0, (n - before.get(place, n)) / (now - at)) for place, n in totals.items()}
        return QueueReading(queues, rates)
