# SPDX-License-Identifier: Apache-2.0
"""Readings that follow one another: one below the other, or each in the place of the one before."""

from __future__ import annotations

import os
import shutil
import sys

from xdptui.outcome import write

__all__ = ["Lines", "Screen", "in_place"]


def in_place() -> bool:
    """Whether standard output is a terminal that can go back."""
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


class Lines:
    """One reading below the other."""

    def show(self, text: str) -> None:
        write(text)


class Screen(Lines):
    """Each reading in the place of the one before."""

    def __init__(self) -> None:
        self._height = 0

    def show(self, text: str) -> None:
        size = shutil.get_terminal_size()
        lines = [line[: size.columns] for line in text.split("\n")[: size.lines - 1]]
        back = f"\x1b[{self._height}A" if self._height else ""
        write(f"{back}\x1b[J" + "\n".join(lines))
        self._height = len(lines)
