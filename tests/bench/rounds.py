# SPDX-License-Identifier: Apache-2.0
"""Measuring side by side: what is compared runs in alternating rounds, so that a machine's moods meet all
alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K")


@dataclass(frozen=True)
class Timing:
    """Median, the middle half's bounds, and the lowest of one thing's rounds; the unit is the caller's.

    Few nanoseconds are judged by ``low`` or ``least``: what else a machine does only ever adds to them.
    """

    median: float
    low: float
    high: float
    least: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def alternate(subjects: Mapping[K, Callable[[], float]], rounds: int) -> dict[K, Timing]:
    """Call every subject once a round, a first round to warm up apart; each returns its own measure."""
    for measure in subjects.values():
        measure()
    taken: dict[K, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, measure in subjects.items():
            taken[name].append(measure())
    return {name: summary(values) for name, values in taken.items()}


def summary(values: list[float]) -> Timing:
    low, _, high = statistics.quantiles(values, n=4)
    return Timing(statistics.median(values), low, high, min(values))
