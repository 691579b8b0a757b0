# SPDX-License-Identifier: Apache-2.0
"""The position in a replay, and how it moves. Pure except for that position."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Player", "Timeline"]


class Timeline(Protocol):
    """Readings by number, each with its time in seconds (xdpchain.observe.recording.Recording)."""

    def __len__(self) -> int: ...
    def time(self, index: int) -> float: ...
    def number_at(self, elapsed: float) -> int: ...


class Player:
    """A position among the readings. It plays in the recording's own time and stops at the end."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._elapsed = timeline.time(0)
        self.number = 0
        self.playing = True

    @property
    def elapsed(self) -> float:
        """Seconds since the recording began."""
        return self._elapsed

    @property
    def at_end(self) -> bool:
        return self.number == len(self._timeline) - 1

    def tick(self, seconds: float) -> bool:
        """Advance the time while playing; returns whether the reading changed."""
        if not self.playing:
            return False
        if self.at_end:
            self.playing = False
            return False
        return self._go(self._elapsed + seconds)

    def step(self, by: int) -> bool:
        """Move by readings and pause; returns whether the reading changed."""
        self.playing = False
        number = max(0, min(len(self._timeline) - 1, self.number + by))
        moved = number != self.number
        self.number, self._elapsed = number, self._timeline.time(number)
        return moved

    def leap(self, seconds: float) -> bool:
        """Move forward or back in time; returns whether the reading changed."""
        return self._go(self._elapsed + seconds)

    def toggle(self) -> None:
        """Play or pause; at the end, play from the beginning."""
        if self.at_end and not self.playing:
            self._go(self._timeline.time(0))
        self.playing = not self.playing

    def _go(self, elapsed: float) -> bool:
        first, last = self._timeline.time(0), self._timeline.time(len(self._timeline) - 1)
        self._elapsed = max(first, min(last, elapsed))
        number = self._timeline.number_at(self._elapsed)
        moved = number != self.number
        self.number = number
        return moved
