# SPDX-License-Identifier: Apache-2.0
"""Repeated readings: one below the other, or each over the last."""

from __future__ import annotations

import os
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Iterator

from xdptui.commands import options as values
from xdptui.outcome import write

__all__ = ["Lines", "Screen", "due", "in_place", "screen_for"]

LEAST_INTERVAL = 0.05
"""Minimum seconds between two readings."""


def in_place() -> bool:
    """Whether standard output is a terminal that can move its cursor."""
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def due(options: Namespace) -> Iterator[None]:
    """Yields whenever a reading is due, as ``--interval`` and ``--count`` say; first after one interval. If
    the reader is slow, readings are skipped rather than queued. Raises InvalidInput at once.
    """
    interval = values.seconds(options.interval, "interval", LEAST_INTERVAL)
    count = None if options.count is None else values.amount(options.count, "count")
    return _due(interval, count)


def _due(interval: float, count: int | None) -> Iterator[None]:
    at, shown = time.monotonic(), 0
    while count is None or shown < count:
        at = max(at + interval, time.monotonic())
        time.sleep(max(0.0, at - time.monotonic()))
        yield
        shown += 1


def screen_for(options: Namespace) -> Lines:
    """Where readings go: in place on a terminal, unless they are JSON."""
    return Screen() if not options.json and in_place() else Lines()


class Lines:
    """One reading below the other."""

    def show(self, text: str) -> None:
        write(text)


class Screen(Lines):
    """Each reading over the last."""

    def __init__(self) -> None:
        self._height = 0

    def show(self, text: str) -> None:
        size = shutil.get_terminal_size()
        room, lines = size.lines - 1, text.split("\n")
        if len(lines) > room > 1:
            lines[room - 1 :] = [f"... {len(lines) - room + 1} more lines: use a taller terminal, or --jsonl"]
        lines = [line[: size.columns] for line in lines[:room]]
        back = f"\x1b[{self._height}A" if self._height else ""
        write("\n".join(lines), f"{back}\x1b[J")
        self._height = len(lines)
