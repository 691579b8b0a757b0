# SPDX-License-Identifier: Apache-2.0
"""Counts as values: packets and bytes by return code, and a sample of a whole chain. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from operator import add
from types import TracebackType
from typing import NamedTuple, Protocol

from xdpchain.frozen import frozen

from .actions import ALL_ACTIONS, Action

__all__ = ["CODES", "FOREIGN", "CounterReader", "Sample", "SiteCounts", "SlotCounts"]

CODES = len(ALL_ACTIONS) + 1
"""Return codes in a row of counters: the actions by number, then all others together."""

FOREIGN = "foreign"
"""The key in `Sample.slots` of a single program that is not a dispatcher."""


class SlotCounts(NamedTuple):
    """Packets and bytes by return code; index 5 is for codes that are not actions. Bytes are packet lengths
    when the slot returned.
    """

    packets: tuple[int, ...] = (0,) * CODES
    bytes: tuple[int, ...] = (0,) * CODES

    @property
    def total_packets(self) -> int:
        return sum(self.packets)

    @property
    def total_bytes(self) -> int:
        return sum(self.bytes)

    def of(self, action: Action) -> tuple[int, int]:
        """(packets, bytes) of one action."""
        return self.packets[action], self.bytes[action]

    def plus(self, other: SlotCounts) -> SlotCounts:
        """The sum of both."""
        return SlotCounts(
            tuple(map(add, self.packets, other.packets)), tuple(map(add, self.bytes, other.bytes))
        )

    def since(self, earlier: SlotCounts) -> SlotCounts:
        """What was counted after ``earlier``."""
        return SlotCounts(
            tuple(now - then for now, then in zip(self.packets, earlier.packets, strict=True)),
            tuple(now - then for now, then in zip(self.bytes, earlier.bytes, strict=True)),
        )


SiteCounts = Mapping[tuple[int, int], tuple[int, int]]
"""By verdict site (its index) and return code: packets, bytes."""


@frozen
class Sample:
    """A sample: ``at`` in seconds of the monotonic clock, counts by slot key, and the dispatcher's verdicts.
    A single foreign program has the key `FOREIGN`, and its counts are also the verdict. Slots that are not
    counted are absent, and an uncounted verdict is None, with ``why`` if the kernel refused. ``sites``: by
    slot with counted verdict sites, each site's share of the counts.
    """

    at: float
    slots: Mapping[str, SlotCounts]
    verdict: SlotCounts | None
    sites: Mapping[str, SiteCounts] = field(default_factory=dict)
    why: str = ""


class CounterReader(Protocol):
    """Reads a chain's counters until closed."""

    def read(self) -> Sample:
        """All counters, summed over CPUs."""

    def read_cpus(self) -> tuple[SlotCounts, ...]:
        """The chain's verdicts by CPU; empty if unknown."""

    def close(self) -> None:
        """Release the counters."""

    def __enter__(self) -> CounterReader: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
