# SPDX-License-Identifier: Apache-2.0
"""A directory's object files, and an object's programs, as rows. Pure."""

from __future__ import annotations

from typing import Protocol

from xdptui.view.cells import Cell, clip, left, right
from xdptui.words.numbers import short

__all__ = ["age", "file_cells", "file_head", "program_cells", "program_head"]

SIZE, AGE = 6, 6
PRIORITY, ACTIONS = 6, 8
WIDE = 28
"""Below this many columns, names get all the room."""
UNITS = ((365 * 86400, "y"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class _File(Protocol):
    """What a row shows of a file or directory."""

    @property
    def path(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def directory(self) -> bool: ...
    @property
    def size(self) -> int | None: ...
    @property
    def changed(self) -> float | None: ...


def age(seconds: float) -> str:
    """For example ``4m``, ``12d``: in the largest unit that has at least one."""
    unit, letter = next(((unit, letter) for unit, letter in UNITS if seconds >= unit), UNITS[-1])
    return f"{int(max(0, seconds) // unit)}{letter}"


def file_head(what: str, directory: str, width: int, position: str) -> tuple[Cell, ...]:
    """The line above the files; ``what`` is a plural noun for them."""
    room = max(0, width - SIZE - AGE - 1) if width >= WIDE else width
    title = f" {what} in {directory}" if not position else f" {what}  {position}"
    if len(title) > room > 20:
        kept = len(what) + 2
        title = clip(f"{title[:kept]}…{title[-(room - kept - 1) :]}", room)
    if width < WIDE:
        return (left(title, width),)
    return (left(title, room), right("size", SIZE), right("age", AGE), Cell(" "))


def file_cells(entry: _File, width: int, now: float, *, whole: bool) -> tuple[Cell, ...]:
    """A file or a directory; ``whole``: with its full path."""
    text = f"{entry.path}/" if whole else entry.label
    if entry.size is None or entry.changed is None or width < WIDE:
        return (left(f" {text}", width),)
    room = max(0, width - SIZE - AGE - 1)
    return (
        left(f" {text}", room),
        right(short(entry.size), SIZE, "note"),
        right(age(now - entry.changed), AGE, "note"),
        Cell(" "),
    )


def program_head(width: int, position: str) -> tuple[Cell, ...]:
    """The line above an object's programs."""
    room = max(0, width - PRIORITY - ACTIONS)
    return (
        left(f" XDP programs{f'  {position}' if position else ''}", room),
        right("prio", PRIORITY),
        left("  on", ACTIONS),
    )


def program_cells(name: str, priority: int, actions: str, declared: bool, width: int) -> tuple[Cell, ...]:
    """A program with what it declares, or the defaults in faint if it declares nothing."""
    style = "plain" if declared else "off"
    return (
        left(f" {name}", max(0, width - PRIORITY - ACTIONS), "name"),
        right(str(priority), PRIORITY, style),
        left(f"  {actions}", ACTIONS, style),
    )
