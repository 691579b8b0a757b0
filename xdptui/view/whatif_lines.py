# SPDX-License-Identifier: Apache-2.0
"""A what-if as styled lines: one row per packet, and a packet in detail. Pure."""

from __future__ import annotations

from xdpchain.model.actions import Action
from xdpchain.trial.packets.rewriting import Rewriting
from xdpchain.trial.whatif import Crossing, Outcome, Side, WhatIf
from xdptui.view.cells import Cell, left, right
from xdptui.words.printable import printable
from xdptui.words.whatif_words import bytes_text, decided_text, letters, mark, sides_width, verdicts

__all__ = ["Part", "detail_lines", "whatif_cells", "whatif_head"]

Part = tuple[str, str]
"""A text and its style, in Textual's notation."""

MARKS = {"!": "error", "~": "warn", "?": "warn", " ": ""}
LEAST_NAME = 16
"""Minimum cells for a packet's name."""
ROW = 16
"""Bytes of a packet per line."""
BYTE_LINES = 4
"""Rows of bytes shown of one packet; a row that changed takes two lines."""


def whatif_head(tried: WhatIf, width: int, position: str) -> tuple[Cell, ...]:
    """Above the packets."""
    old, new, name = _columns(tried, width)
    verdict = max(7, width - name - old - new - 14 - len(position))
    return (
        left("  packet", name + 2), right("bytes", 6), left("  old", old + 2), left("  new", new + 2),
        left("  verdict", verdict + 2), right(position, len(position)), Cell(" "),
    )  # fmt: skip


def whatif_cells(crossing: Crossing, tried: WhatIf, width: int) -> tuple[Cell, ...]:
    """A row: mark, name, length, what each slot returned on both sides, and the verdict."""
    old, new, name = _columns(tried, width)
    sign = mark(crossing)
    verdict = crossing.new.verdict
    style = f"on-{verdict.letter}" if isinstance(verdict, Action) else "error"
    return (
        Cell(f"{sign} ", MARKS[sign]),
        left(crossing.packet.name, name, "name" if crossing.packet.own else "plain"),
        right(str(len(crossing.packet.data)), 6, "num"),
        left(f"  {letters(crossing.old, tried.old)}", old + 2),
        left(f"  {letters(crossing.new, tried.new)}", new + 2),
        Cell("  "),
        left(verdicts(crossing), max(0, width - name - old - new - 14), style),
    )


def detail_lines(crossing: Crossing, tried: WhatIf) -> list[list[Part]]:
    """A packet in detail: slot by slot on both sides, and the bytes that change."""
    lines = [[(printable(crossing.packet.name), "bold")]]
    for name, outcome, side in (("old", crossing.old, tried.old), ("new", crossing.new, tried.new)):
        lines.append([(f"{name}  ", "bold"), (_way(outcome, side), "")])
        lines += [[(f"     {text}", "$accent")] for text in decided_text(outcome, side)]
    lines += [[(text, "$warning")] for text in bytes_text(crossing)]
    old, new = crossing.rewritten
    if new:
        lines += _bytes(crossing.packet.data, crossing.new.data, new)
    elif old:
        lines += _bytes(crossing.packet.data, crossing.old.data, old)
    return lines


def _way(outcome: Outcome, side: Side) -> str:
    if outcome.verdict is None:
        return outcome.why
    ran = [
        f"{i} {printable(name)} {_name(code)}{' (shadow)' * (i in side.shadow)}"
        for i, (name, code) in enumerate(zip(side.slots, outcome.slots, strict=True))
        if code is not None
    ]
    return f"{' › '.join(ran) or 'no program runs'} = {_name(outcome.verdict)}"


def _bytes(before: bytes, after: bytes, change: Rewriting) -> list[list[Part]]:
    """The first rows that changed: as they came in and, below, only what became different."""
    odd = {at for first, last in change.ranges for at in range(first, last + 1)}
    odd |= set(range(max(change.head, 0)))
    odd |= set(range(len(after) - max(change.tail, 0), len(after)))
    starts = sorted({at // ROW * ROW for at in odd})
    lines: list[list[Part]] = []
    for start in starts[:BYTE_LINES]:
        span = range(start, min(start + ROW, len(after)))
        was = (before[at - change.head] if 0 <= at - change.head < len(before) else None for at in span)
        lines.append([(f"in   {start:04x}  " + " ".join("  " if b is None else f"{b:02x}" for b in was), "")])
        became = " ".join(f"{after[at]:02x}" if at in odd else "··" for at in span)
        lines.append([(f"out  {start:04x}  {became}", "$warning")])
    if len(starts) > BYTE_LINES:
        lines.append([(f"… and {len(starts) - BYTE_LINES} more rows of {ROW} bytes", "")])
    return lines


def _columns(tried: WhatIf, width: int) -> tuple[int, int, int]:
    """Widths of the old slots, the new ones, and a packet's name."""
    verdict = max((len(verdicts(crossing)) for crossing in tried.crossings), default=0)
    longest = max((len(crossing.packet.name) for crossing in tried.crossings), default=0)
    old, new = sides_width(tried, tried.crossings, width - LEAST_NAME - verdict - 14)
    return old, new, max(LEAST_NAME, min(longest, width - old - new - verdict - 14))


def _name(code: Action | int) -> str:
    return code.name if isinstance(code, Action) else f"code {code}"
