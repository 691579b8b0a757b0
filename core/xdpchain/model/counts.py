# SPDX-License-Identifier: Apache-2.0
"""What is counted, as values: packets and bytes by return code, and a reading of a whole chain. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import add
from types import TracebackType
from typing import NamedTuple, Protocol

from .actions import ALL_ACTIONS, Action

__all__ = ["CODES", "FOREIGN", "CounterReader", "Sample", "SiteCounts", "SlotCounts"]

CODES = len(ALL_ACTIONS) + 1
"""Codes of a row: the actions by number, then all others."""

FOREIGN = "foreign"
"""The key in `Sample.slots` of a single program that is no dispatcher."""


class SlotCounts(NamedTuple):
    """Packets and bytes by return code; index 5 counts codes that are no action. Bytes are the packet's
    length when the slot returned.
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


@dataclass(frozen=True, slots=True)
class Sample:
    """A reading: ``at`` on the monotonic clock in seconds, counts by slot key, and the dispatcher's own
    verdicts. A single foreign program has the one key `FOREIGN`, and its counts are the verdict too. A slot
    that is not counted is not there, and a verdict that is not counted is None; ``why`` not, where the
    kernel refused to. ``sites``: of slots whose verdict sites are counted, the part of their counts that each
    site has.
    """

    at: float
    slots: Mapping[str, SlotCounts]
    verdict: SlotCounts | None
    sites: Mapping[str, SiteCounts] = field(default_factory=dict)
    why: str = ""


class CounterReader(Protocol):
    """What reads a chain's counters until it is closed."""

    def read(self) -> Sample:
        """All counters, summed over CPUs."""

    def read_cpus(self) -> tuple[SlotCounts, ...]:
        """What the chain returned, CPU by CPU; empty where that is not known."""

    def close(self) -> None:
        """Let go of the counters."""

    def __enter__(self) -> CounterReader: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
