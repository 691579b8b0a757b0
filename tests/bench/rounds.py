# SPDX-License-Identifier: Apache-2.0
"""Side-by-side measurement: the subjects run in alternating rounds, so that changes in the machine's load
affect all alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K")


@dataclass(frozen=True)
class Timing:
    """Median, quartiles and minimum of a subject's rounds; the unit is the caller's.

    Judge a few nanoseconds by ``low`` or ``least``: other work on the machine only ever adds to them.
    """

    median: float
    low: float
    high: float
    least: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def alternate(subjects: Mapping[K, Callable[[], float]], rounds: int) -> dict[K, Timing]:
    """Call every subject once per round, after a warm-up round; each returns its own measurement."""
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
