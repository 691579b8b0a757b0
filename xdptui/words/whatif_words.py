# SPDX-License-Identifier: Apache-2.0
"""The packets of a what-if, in words and signs. Pure."""

from __future__ import annotations

from xdpchain.model.actions import Action
from xdpchain.trial.packets.rewriting import Rewriting
from xdpchain.trial.whatif import Crossing, Outcome, Side, Tally, WhatIf
from xdptui.words.printable import printable
from xdptui.words.site_words import site_words

__all__ = [
    "arranged",
    "bytes_text",
    "decided_text",
    "fitted",
    "letters",
    "mark",
    "reached_text",
    "rewriting_text",
    "summary",
    "verdicts",
]

MOST_MISSED = 8
"""Places of a slot that no packet reached, of which so many are shown."""
DIDNT_RUN = "·"


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


def decided_text(one: Outcome, side: Side) -> list[str]:
    """Which line decided in each slot that ran, as far as that is known."""
    return [
        f"{slot} {printable(name)} {_name(code)}: {site_words(sites[site])}"
        for slot, (name, code, sites, site) in enumerate(
            zip(side.slots, one.slots, side.sites, one.sites, strict=False)
        )
        if code is not None and site is not None
    ]


def reached_text(tried: WhatIf) -> list[str]:
    """Which places of what would run the packets reached, slot by slot, and some that none did."""
    found = []
    for name, sites, counts in zip(tried.new.slots, tried.new.sites, tried.reached, strict=False):
        missed = [site for n, site in enumerate(sites) if not counts.get(n)]
        reached = f"{printable(name)}: reached {len(sites) - len(missed)} of {len(sites)} places"
        some = "; ".join(f"{one.word} {one.place}" for one in missed[:MOST_MISSED])
        more = f"; and {len(missed) - MOST_MISSED} more" if len(missed) > MOST_MISSED else ""
        found.append(f"{reached}, never: {some}{more}" if missed else reached)
    return found


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


def _name(verdict: Action | int | None) -> str:
    if verdict is None:
        return "?"
    return verdict.name if isinstance(verdict, Action) else f"code {verdict}"


def _letter(code: Action | int) -> str:
    return code.letter if isinstance(code, Action) else "?"
