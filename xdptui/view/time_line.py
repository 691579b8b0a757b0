# SPDX-License-Identifier: Apache-2.0
"""The time bar of a replay. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence

from xdpchain.frozen import frozen
from xdptui.view.cells import Cell, Line, clip

__all__ = ["TimeView", "time_line"]


@frozen
class TimeView:
    """The position in a replay: times in seconds since the recording began; ``at``: the same moment since
    1970; ``revisions``: when what runs changed.
    """

    name: str
    began: float
    ended: float
    elapsed: float
    at: float
    playing: bool
    revisions: Sequence[float] = ()


def time_line(view: TimeView, width: int) -> Line:
    """The line, exactly ``width`` wide: the file, the time of day, and a bar with a mark for each change."""
    state = " PLAY  " if view.playing else " PAUSE "
    clock = time.strftime(" %Y-%m-%d %H:%M:%S " if width >= 110 else " %H:%M:%S ", time.localtime(view.at))
    span = f" {_span(view.elapsed - view.began)} of {_span(view.ended - view.began)} "
    room = width - len(state) - len(clock) - len(span)
    name = clip(f" {view.name} ", max(0, min(len(view.name) + 2, room // 3)))
    room -= len(name)
    cells = [Cell(state, "state-candidate" if view.playing else "state-free"), Cell(name, "name")]
    cells += [Cell(clock, "key"), Cell(_bar(view, room), "bar"), Cell(span, "label")]
    used = "".join(cell.text for cell in cells)
    if len(used) > width:
        return Line((Cell(clip(used, width)),), "banner")
    return Line((*cells, Cell(" " * (width - len(used)))), "banner")


def _bar(view: TimeView, width: int) -> str:
    if width <= 0:
        return ""
    here = _place(view, view.elapsed, width)
    marks = ["━" if i <= here else "─" for i in range(width)]
    for revision in view.revisions:
        if view.began < revision <= view.ended:
            marks[_place(view, revision, width)] = "┿" if _place(view, revision, width) <= here else "┼"
    marks[here] = "●"
    return "".join(marks)


def _place(view: TimeView, elapsed: float, width: int) -> int:
    whole = view.ended - view.began
    share = (elapsed - view.began) / whole if whole > 0 else 1.0
    return max(0, min(width - 1, round(share * (width - 1))))


def _span(seconds: float) -> str:
    whole = int(seconds + 0.5)
    if whole >= 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{whole // 60}:{whole % 60:02}"
