# SPDX-License-Identifier: Apache-2.0
"""A what-if as plain text, at most 80 columns wide. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from xdpchain.trial.whatif import Crossing, Side, WhatIf
from xdptui.words.printable import printable
from xdptui.words.whatif_words import (
    arranged,
    bytes_text,
    decided_text,
    fitted,
    letters,
    mark,
    reached_text,
    sides_width,
    summary,
    verdicts,
)

__all__ = ["whatif_text"]

MOST = 40
"""Packets listed; --json lists all."""
WIDTH, LEAST = 80, 16


def whatif_text(tried: WhatIf, notes: Sequence[str] = ()) -> str:
    """The summary; one line per packet, those whose outcome changes first; and what is unknown."""
    rows = arranged(tried)
    shown = rows[:MOST]
    room = WIDTH - max((len(verdicts(crossing)) for crossing in shown), default=0) - 14
    old, new = sides_width(tried, shown, room - LEAST)
    room -= old + new
    name = max(LEAST, min(room, max((len(crossing.packet.name) for crossing in shown), default=0)))
    lines = _wrapped(f"what if: {summary(tried)}")
    lines.append(f"  {'packet'.ljust(name)} {'bytes':>5}  {'old'.ljust(old)}  {'new'.ljust(new)}  verdict")
    for crossing in shown:
        was = fitted(letters(crossing.old, tried.old), old)
        sides = f"{was}  {fitted(letters(crossing.new, tried.new), new)}"
        what = f"{fitted(printable(crossing.packet.name), name)} {len(crossing.packet.data):>5}"
        lines.append(f"{mark(crossing)} {what}  {sides}  {verdicts(crossing)}")
        lines += [line for text in _details(crossing, tried) for line in _wrapped(f"    {text}")]
    if len(rows) > MOST:
        rest = rows[MOST:]
        lines.append(f"  … and {len(rest)} more, {sum(bool(r.differs) for r in rest)} of them with a change")
    below = [_slots("old", tried.old), _slots("new", tried.new), *reached_text(tried)]
    below += [f"not known: {text}" for text in tried.unknown]
    below += [f"note: {text}" for text in notes]
    lines += [line for text in below for line in _wrapped(f"  {text}")]
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    return wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _details(crossing: Crossing, tried: WhatIf) -> list[str]:
    """What the letters don't show: changed bytes, and why something is unknown."""
    sides = (("old", crossing.old, tried.old), ("new", crossing.new, tried.new))
    # Why a side could not be tried at all is said once, below.
    found = [f"{name}: {it.why}" for name, it, side in sides if it.why and not side.why]
    if len(found) == 2 and crossing.old.why == crossing.new.why:
        found = [crossing.new.why]
    # The last slot that ran decided.
    lines = ((name, decided_text(it, side)[-1:]) for name, it, side in sides if crossing.differs)
    return [*found, *(f"{name}: {text}" for name, texts in lines for text in texts), *bytes_text(crossing)]


def _slots(what: str, side: Side) -> str:
    if side.empty:
        return f"{what}: no program runs, so every packet passes"
    names = [f"{i} {printable(name)}{' (shadow)' * (i in side.shadow)}" for i, name in enumerate(side.slots)]
    return f"{what}: {', '.join(names) or '?'}"
