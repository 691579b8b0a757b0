# SPDX-License-Identifier: Apache-2.0
"""The readings of a recording, as the live meter would make them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xdpchain.model.counts import Sample
from xdpchain.model.running import Running
from xdpchain.observe.recording import Recording
from xdptui.words.rates import TREND_SECONDS, Reading, Trends, between
from xdptui.workers.meter import Meter, Opened
from xdptui.workers.replay.player import Player

__all__ = ["RecordedMeter"]


class RecordedMeter(Meter):
    """Rates and trends from the readings up to the player's position."""

    def __init__(self, recording: Recording, player: Player) -> None:
        super().__init__()
        self._recording, self._player = recording, player
        self._made: dict[int, tuple[int, Reading | None, Trends[str]]] = {}

    def sync(
        self, runnings: Iterable[Running], opened: Iterable[Opened], trace_only: int | None = None
    ) -> None:
        return

    def close(self) -> None:
        return

    def read(self, ifindex: int) -> Reading | None:
        return self._at(ifindex)[0]

    def last(self, ifindex: int | None) -> Reading | None:
        return self._at(ifindex)[0] if ifindex is not None else None

    def sample(self, ifindex: int) -> Sample | None:
        return self._sample(ifindex, self._player.number)

    def trends(self, ifindex: int | None) -> Mapping[str, tuple[float, ...]]:
        return self._at(ifindex)[1].all() if ifindex is not None else {}

    def rate(self, ifindex: int) -> float | None:
        reading = self._at(ifindex)[0]
        return reading.verdict_rates.all_packets if reading and reading.verdict_rates else None

    def rates(self) -> dict[int, float]:
        counted = self._recording.reading(self._player.number).counted
        return {index: rate for index in counted if (rate := self.rate(index)) is not None}

    def lacks(self, running: Running | None) -> bool:
        return False

    def cost(self, ifindex: int | None) -> int | None:
        counted = self._recording.reading(self._player.number).counted.get(ifindex or 0)
        return counted.cost if counted else None

    def why(self, ifindex: int | None) -> str:
        counted = self._recording.reading(self._player.number).counted.get(ifindex or 0)
        return counted.note if counted else ""

    def _at(self, ifindex: int) -> tuple[Reading | None, Trends[str]]:
        number = self._player.number
        made = self._made.get(ifindex)
        if made is None or made[0] != number:
            if made is not None and made[0] == number - 1:
                trends = made[2]
                self._add(trends, ifindex, number)
            else:
                trends = Trends()
                for at in range(max(0, number - TREND_SECONDS + 1), number + 1):
                    self._add(trends, ifindex, at)
            made = (number, self._between(ifindex, number), trends)
            self._made[ifindex] = made
        return made[1], made[2]

    def _add(self, trends: Trends[str], ifindex: int, index: int) -> None:
        reading = self._between(ifindex, index)
        if reading is not None:
            trends.add(reading)

    def _between(self, ifindex: int, index: int) -> Reading | None:
        sample = self._sample(ifindex, index)
        if sample is None:
            return None
        before = self._sample(ifindex, index - 1) if index else None
        return between(before, sample)

    def _sample(self, ifindex: int, index: int) -> Sample | None:
        counted = self._recording.reading(index).counted.get(ifindex)
        return counted.sample if counted else None
