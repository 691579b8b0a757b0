# SPDX-License-Identifier: Apache-2.0
"""Packets lost after their program returned, by reason (`xdptui export --events`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from xdpchain.closing import Closing
from xdpchain.model.running import Running
from xdpchain.observe.tracepoints import Names, Scope, listen, reason
from xdptui.export.metrics import LOST, LOST_METRICS, Row, where

__all__ = ["LostPackets"]


class LostPackets(Closing):
    """Listens to the kernel's failure tracepoints until closed; packets that succeed are not slowed. Raises
    what `listen` does.
    """

    metrics = LOST_METRICS

    def __init__(self, netns: str | None = None) -> None:
        self._home = Names(netns).home
        self._listener = listen(Scope.FAILURES, self._home)

    def read(self, runnings: Sequence[Running]) -> Iterator[Row]:
        """Counts since listening began, by the interface on which the packets arrived."""
        interfaces = {running.interface.ifindex: where(running) for running in runnings}
        lost: Counter[tuple[str, ...]] = Counter()
        for row in self._listener.read().rows:
            place = row.place
            if place.netns in (0, self._home) and place.ifindex in interfaces:
                why = (place.kind.tracepoint, reason(place).name)
                lost[(*interfaces[place.ifindex], *why)] += row.tally.lost
        for labels, packets in lost.items():
            yield Row.of(LOST, labels, packets)

    def close(self) -> None:
        self._listener.close()
