# SPDX-License-Identifier: Apache-2.0
"""The packets of a what-if, as text and signs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from xdpchain.model.actions import Action
from xdpchain.model.chain import DISPATCHER_SLOTS
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
    "sides_width",
    "summary",
    "verdicts",
]

MOST_MISSED = 8
"""How many of a slot's unreached places are shown."""
DIDNT_RUN = "·"
LONG_RUN = 4
"""So many equal letters are shorter as a letter with their number."""
LEAST = 3
"""Columns of a side's letters: its heading must fit."""


def arranged(tried: WhatIf) -> tuple[Crossing, ...]:
    """The packets in display order. What may hurt comes first: a changed verdict, changed bytes, unknown; and
    our own connection before the rest.
    """
    return tuple(
        sorted(tried.crossings, key=lambda crossing: ("!~? ".index(mark(crossing)), not crossing.packet.own))
    )


def summary(tried: WhatIf) -> str:
    """For example "23 packets: 12 PASS → DROP, 11 as before"."""
    count = len(tried.crossings)
    parts = [_tally(tally) for tally in tried.tallies if tally.differs]
    same = sum(tally.count for tally in tried.tallies if tally.differs is False)
    blank = sum(tally.count for tally in tried.tallies if tally.differs is None)
    if same:
        parts.append(f"{same} as before")
    if blank:
        parts.append(f"{blank} not known")
    return f"{count} packet{'s' * (count != 1)}: {', '.join(parts) or 'nothing to try'}"


def _tally(tally: Tally) -> str:
    if tally.rewritten:
        return f"{tally.count} {_name(tally.new)}, rewritten differently"
    return f"{tally.count} {_name(tally.old)} → {_name(tally.new)}"


def mark(crossing: Crossing) -> str:
    """A sign for what changes: the verdict, the bytes alone, or unknown."""
    if crossing.differs is None:
        return "?"
    if crossing.old.verdict != crossing.new.verdict:
        return "!"
    return "~" if crossing.differs else " "


def letters(outcome: Outcome, side: Side) -> str:
    """What each slot returned, one letter each; lower case for a slot in shadow, which decides nothing. In a
    long chain, runs of a letter are counted (``P×17 D ·×14``).
    """
    if outcome.verdict is None:
        return "?"
    found = [DIDNT_RUN if code is None else _letter(code) for code in outcome.slots]
    text = "".join(text.lower() if i in side.shadow else text for i, text in enumerate(found)) or "-"
    return text if len(text) <= DISPATCHER_SLOTS else min(text, _counted(text), key=len)


def _counted(text: str) -> str:
    runs = ("".join(run) for _, run in groupby(text))
    return " ".join(run if len(run) < LONG_RUN else f"{run[0]}×{len(run)}" for run in runs)


def sides_width(tried: WhatIf, crossings: Sequence[Crossing], width: int) -> tuple[int, int]:
    """Columns for the letters of the old and the new side, out of ``width`` for both, each at least as wide
    as its heading.
    """
    old = max(LEAST, _letters_width([crossing.old for crossing in crossings], tried.old))
    new = max(LEAST, _letters_width([crossing.new for crossing in crossings], tried.new))
    if old + new <= width:
        return old, new
    old = max(LEAST, min(old, max(width // 2, width - new)))
    return old, max(LEAST, min(new, width - old))


def _letters_width(outcomes: Sequence[Outcome], side: Side) -> int:
    if len(side.slots) <= DISPATCHER_SLOTS:  # one letter per slot: no need to look at them
        return len(side.slots)
    return max((len(letters(outcome, side)) for outcome in outcomes), default=0)


def verdicts(crossing: Crossing) -> str:
    """The verdict, before and after if they differ."""
    if crossing.old.verdict == crossing.new.verdict:
        return _name(crossing.new.verdict)
    return f"{_name(crossing.old.verdict)} → {_name(crossing.new.verdict)}"


def decided_text(outcome: Outcome, side: Side) -> list[str]:
    """Which line decided in each slot that ran, if known."""
    return [
        f"{slot} {printable(name)} {_name(code)}: {site_words(sites[site])}"
        for slot, (name, code, sites, site) in enumerate(
            zip(side.slots, outcome.slots, side.sites, outcome.sites, strict=False)
        )
        if code is not None and site is not None
    ]


def reached_text(tried: WhatIf) -> list[str]:
    """Which places of the candidate the packets reached, slot by slot, and some that none did."""
    found = []
    for name, sites, counts in zip(tried.new.slots, tried.new.sites, tried.reached, strict=False):
        missed = [site for n, site in enumerate(sites) if not counts.get(n)]
        reached = f"{printable(name)}: reached {len(sites) - len(missed)} of {len(sites)} places"
        some = "; ".join(f"{verdict_site.word} {verdict_site.place}" for verdict_site in missed[:MOST_MISSED])
        more = f"; and {len(missed) - MOST_MISSED} more" if len(missed) > MOST_MISSED else ""
        found.append(f"{reached}, never: {some}{more}" if missed else reached)
    return found


def bytes_text(crossing: Crossing) -> list[str]:
    """Which bytes change, on either side."""
    found = []
    old, new = crossing.rewritten
    if crossing.differs and old != new and old:
        found.append(f"old: {rewriting_text(old)}")
    if new and (crossing.differs or old != new):
        found.append(f"new: {rewriting_text(new)}")
    return found


def rewriting_text(rewriting: Rewriting) -> str:
    """For example "4 bytes put before it; 6 bytes changed at 0-3, 12-13"."""
    parts = []
    for grown, where in ((rewriting.head, "head"), (rewriting.tail, "end")):
        if grown:
            verb = "added at" if grown > 0 else "removed from"
            parts.append(f"{abs(grown)} byte{'s' * (abs(grown) != 1)} {verb} its {where}")
    if rewriting.ranges:
        shown = [f"{a}-{b}" if b > a else f"{a}" for a, b in rewriting.ranges[:4]]
        more = ", …" if len(rewriting.ranges) > 4 else ""
        parts.append(
            f"{rewriting.count} byte{'s' * (rewriting.count != 1)} changed at {', '.join(shown)}{more}"
        )
    return "; ".join(parts) or "unchanged"


def fitted(text: str, width: int) -> str:
    """The text in exactly ``width`` cells."""
    return text.ljust(width) if len(text) <= width else f"{text[: width - 1]}…"


def _name(verdict: Action | int | None) -> str:
    if verdict is None:
        return "?"
    return verdict.name if isinstance(verdict, Action) else f"code {verdict}"


def _letter(code: Action | int) -> str:
    return code.letter if isinstance(code, Action) else "?"
