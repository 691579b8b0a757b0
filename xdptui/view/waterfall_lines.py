# SPDX-License-Identifier: Apache-2.0
"""The waterfall as lines: received, after each slot, and the five outcomes. Pure."""

from __future__ import annotations

from xdpchain.model.actions import Action
from xdptui.view.cells import Cell, Line, left, right
from xdptui.view.waterfall import Flow, Stage
from xdptui.words.numbers import bar, percent, short

__all__ = ["OUTCOMES", "rows_needed", "waterfall_lines"]

OUTCOMES: dict[Action, str] = {
    Action.PASS: "passed",
    Action.DROP: "dropped",
    Action.TX: "sent",
    Action.REDIRECT: "redirected",
    Action.ABORTED: "aborted",
}

STEP = 8
"""A bar consists of cells this wide, so that growth repaints one of them, not the whole bar."""


SIZES = ((150, 44, 64), (100, 32, 36), (76, 26, 20), (0, 26, 0))
"""Minimum width, then the columns for names and for what ends in a slot."""


def rows_needed(slots: int) -> tuple[int, int, int]:
    """Rows of the three forms: a line for each item, the outcomes on one line, two lines in all."""
    return 1 + slots + len(OUTCOMES), 1 + slots + 1, 2


def waterfall_lines(flow: Flow, width: int, height: int, *, numbered: bool = True) -> list[Line]:
    """At most ``height`` lines, in the fullest of the three forms that fits. Not ``numbered``: slots are
    shown by name alone, because a candidate numbers them differently.
    """
    full, middle, _ = rows_needed(len(flow.stages))
    if width < 44 or height < middle:
        lines = _short(flow, width)
    elif height < full:
        lines = [*_full(flow, width, numbered)[: middle - 1], _short(flow, width)[1]]
    else:
        lines = _full(flow, width, numbered)
    return lines[: max(0, height)]


def _bars(part: float, whole: float, width: int, style: str) -> list[Cell]:
    text = bar(part, whole, width)
    return [Cell(text[i : i + STEP], style) for i in range(0, width, STEP)]


def _full(flow: Flow, width: int, numbered: bool) -> list[Line]:
    label, tail = next(sizes for least, *sizes in SIZES if width >= least)
    room = width - label - 6 - 1 - 5 - 1 - tail

    def line(name: Cell, value: float, style: str, note: list[Cell]) -> Line:
        used = sum(len(cell.text) for cell in note)
        return Line(
            (
                name,
                right(short(value), 6, "num" if value else "zero"),
                Cell(" "),
                *_bars(value, flow.received, room, style),
                right(percent(value, flow.received), 5, "label"),
                *note,
                Cell(" " * max(0, 1 + tail - used)),
            )
        )

    lines = [line(left(" received", label, "name"), flow.received, "bar", [])]
    last = len(flow.stages) - 1
    for i, stage in enumerate(flow.stages):
        name = left(f" → after {f'{i} ' if numbered else ''}{stage.name}", label, "plain")
        lines.append(line(name, stage.goes_on, "bar", _ends(stage, i == last, tail) if tail else []))
    for action, word in OUTCOMES.items():
        value = flow.outcomes[action]
        name = left(f" = {action.letter} {word}", label, f"on-{action.letter}" if value else "label")
        lines.append(line(name, value, f"bar-{action.letter}", []))
    return lines


def _ends(stage: Stage, last: bool, room: int) -> list[Cell]:
    """What leaves the chain in this slot, as far as it fits."""
    if stage.off:
        return [left("  off", room, "zero")]
    cells = [Cell("  would " if stage.shadow else "  ")]
    used = start = len(cells[0].text)
    for slot, value in sorted(stage.leads.items(), key=lambda led: -led[1]):
        if value and used + 10 <= room:
            cells += [Cell(f"→ {slot} ", "mark"), left(short(value), 6, "label")]
            used += 10
    for action in sorted(stage.ends, key=lambda a: -stage.ends[a]):
        value = stage.ends[action]
        if not value or used + 9 > room:
            continue
        cells += [Cell(f"{action.letter} ", f"on-{action.letter}"), left(short(value), 6, "label")]
        used += 8
    return cells if used > start else [left("  all continue" if stage.entered else "", room, "zero")]


def _short(flow: Flow, width: int) -> list[Line]:
    cells = [Cell(" received ", "name"), left(short(flow.received), 5, "num")]
    for i, stage in enumerate(flow.stages):
        cells += [
            Cell(f" → {i} ", "label"),
            left(short(stage.goes_on), 5, "num" if stage.goes_on else "zero"),
        ]
    ends = [Cell(" ")]
    for action, word in OUTCOMES.items():
        value = flow.outcomes[action]
        name = word if width >= 76 else ""
        ends += [
            Cell(f"{action.letter} {name}{' ' if name else ''}", f"on-{action.letter}" if value else "label"),
            left(short(value), 6, "num" if value else "zero"),
        ]
    return [_fit(cells, width), _fit(ends, width)]


def _fit(cells: list[Cell], width: int) -> Line:
    kept: list[Cell] = []
    used = 0
    for cell in cells:
        if used + len(cell.text) > width:
            break
        kept.append(cell)
        used += len(cell.text)
    return Line((*kept, Cell(" " * (width - used))))
