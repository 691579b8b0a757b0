# SPDX-License-Identifier: Apache-2.0
"""A what-if as plain text, at most 80 columns wide. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from xdpchain.model.actions import Action
from xdpchain.trial.packets.rewriting import Rewriting
from xdpchain.trial.whatif import Crossing, Outcome, Side, Tally, WhatIf
from xdptui.outcome import printable

__all__ = [
    "arranged",
    "bytes_text",
    "fitted",
    "letters",
    "mark",
    "rewriting_text",
    "summary",
    "verdicts",
    "whatif_text",
]

MOST = 40
"""Packets listed; --json lists all."""
WIDTH, LEAST = 80, 16
DIDNT_RUN = "·"


def whatif_text(tried: WhatIf, notes: Sequence[str] = ()) -> str:
    """The summary, a line a packet with those first whose outcome changes, and what is not known."""
    old, new = _width(tried.old), _width(tried.new)
    rows = arranged(tried)
    shown = rows[:MOST]
    room = WIDTH - old - new - max((len(verdicts(one)) for one in shown), default=0) - 14
    name = max(LEAST, min(room, max((len(one.packet.name) for one in shown), default=0)))
    lines = _wrapped(f"what if: {summary(tried)}")
    lines.append(f"  {'packet'.ljust(name)} {'bytes':>5}  {'old'.ljust(old)}  {'new'.ljust(new)}  verdict")
    for one in shown:
        sides = f"{letters(one.old, tried.old).ljust(old)}  {letters(one.new, tried.new).ljust(new)}"
        what = f"{fitted(printable(one.packet.name), name)} {len(one.packet.data):>5}"
        lines.append(f"{mark(one)} {what}  {sides}  {verdicts(one)}")
        lines += [line for text in _details(one, tried) for line in _wrapped(f"    {text}")]
    if len(rows) > MOST:
        rest = rows[MOST:]
        lines.append(f"  … and {len(rest)} more, {sum(bool(r.differs) for r in rest)} of them with a change")
    below = [_slots("old", tried.old), _slots("new", tried.new)]
    below += [f"not known: {text}" for text in tried.unknown]
    below += [f"note: {text}" for text in notes]
    lines += [line for text in below for line in _wrapped(f"  {text}")]
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    return wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def arranged(tried: WhatIf) -> tuple[Crossing, ...]:
    """The packets in the order in which they are shown. What may hurt comes first: another verdict, other
    bytes, not known; and one's own connection before the rest.
    """
    return tuple(sorted(tried.crossings, key=lambda one: ("!~? ".index(mark(one)), not one.packet.own)))


def summary(tried: WhatIf) -> str:
    """For example "23 packets: 12 PASS → DROP, 11 as before"."""
    count = len(tried.crossings)
    parts = [_tally(one) for one in tried.tallies if one.differs]
    same = sum(one.count for one in tried.tallies if one.differs is False)
    blank = sum(one.count for one in tried.tallies if one.differs is None)
    if same:
        parts.append(f"{same} as before")
    if blank:
        parts.append(f"{blank} not known")
    return f"{count} packet{'s' * (count != 1)}: {', '.join(parts) or 'nothing to try'}"


def _tally(one: Tally) -> str:
    if one.rewritten:
        return f"{one.count} {_name(one.new)}, rewritten otherwise"
    return f"{one.count} {_name(one.old)} → {_name(one.new)}"


def mark(one: Crossing) -> str:
    """A sign for what changes: its verdict, its bytes alone, or nobody knows."""
    if one.differs is None:
        return "?"
    if one.old.verdict != one.new.verdict:
        return "!"
    return "~" if one.differs else " "


def letters(one: Outcome, side: Side) -> str:
    """What each slot returned, a letter each; a small one for a slot in shadow, which decides nothing."""
    if one.verdict is None:
        return "?"
    found = [DIDNT_RUN if code is None else _letter(code) for code in one.slots]
    return "".join(text.lower() if i in side.shadow else text for i, text in enumerate(found)) or "-"


def verdicts(one: Crossing) -> str:
    """The verdict, before and after where they differ."""
    if one.old.verdict == one.new.verdict:
        return _name(one.new.verdict)
    return f"{_name(one.old.verdict)} → {_name(one.new.verdict)}"


def _details(one: Crossing, tried: WhatIf) -> list[str]:
    """What the letters don't tell: bytes that change, and why something is not known."""
    sides = (("old", one.old, tried.old), ("new", one.new, tried.new))
    # Why a side could not be tried at all is said once, below.
    found = [f"{name}: {it.why}" for name, it, side in sides if it.why and not side.why]
    if len(found) == 2 and one.old.why == one.new.why:
        found = [one.new.why]
    return [*found, *bytes_text(one)]


def bytes_text(one: Crossing) -> list[str]:
    """Which bytes change, on either side."""
    found = []
    old, new = one.rewritten
    if one.differs and old != new and old:
        found.append(f"old: {rewriting_text(old)}")
    if new and (one.differs or old != new):
        found.append(f"new: {rewriting_text(new)}")
    return found


def rewriting_text(one: Rewriting) -> str:
    """For example "4 bytes put before it; 6 bytes changed at 0-3, 12-13"."""
    parts = []
    for grown, where in ((one.head, "head"), (one.tail, "end")):
        if grown:
            verb = "put to" if grown > 0 else "taken off"
            parts.append(f"{abs(grown)} byte{'s' * (abs(grown) != 1)} {verb} its {where}")
    if one.ranges:
        shown = [f"{a}-{b}" if b > a else f"{a}" for a, b in one.ranges[:4]]
        more = ", …" if len(one.ranges) > 4 else ""
        parts.append(f"{one.count} byte{'s' * (one.count != 1)} changed at {', '.join(shown)}{more}")
    return "; ".join(parts) or "as it came"


def fitted(text: str, width: int) -> str:
    """The text in exactly so many cells."""
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"


def _slots(what: str, side: Side) -> str:
    if side.empty:
        return f"{what}: no program runs, and every packet passes"
    names = [f"{i} {printable(name)}{' (shadow)' * (i in side.shadow)}" for i, name in enumerate(side.slots)]
    return f"{what}: {', '.join(names) or '?'}"


def _width(side: Side) -> int:
    return max(3, len(side.slots))


def _name(verdict: Action | int | None) -> str:
    if verdict is None:
        return "?"
    return verdict.name if isinstance(verdict, Action) else f"code {verdict}"


def _letter(code: Action | int) -> str:
    return code.letter if isinstance(code, Action) else "?"
