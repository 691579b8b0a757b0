# SPDX-License-Identifier: Apache-2.0
"""The journal of an interface, and the messages, as rows. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence

from xdpchain.change.journal.entries import EntryKind, JournalEntry
from xdptui.view.cells import Cell, left, right
from xdptui.view.notices import Notice
from xdptui.words.history_words import KINDS, became

__all__ = [
    "entry_lines",
    "history_cells",
    "history_head",
    "notice_cells",
    "notice_head",
    "notice_lines",
    "summary",
]

NUMBER, WHEN, KIND = 4, 17, 12


def _when(at: float) -> str:
    return time.strftime("%m-%d %H:%M:%S", time.localtime(at))


def summary(entry: JournalEntry) -> str:
    """What changed, on one line."""
    if len(entry.changes) == 1:
        return entry.changes[0]
    if entry.changes:
        return f"{len(entry.changes)} changes: {entry.changes[0]}, …"
    return became(entry.before, entry.after)


def undone_words(undone: Sequence[JournalEntry]) -> str:
    """The numbers of the changes that an undo took back: ``#9``, ``#7 to #9``; empty if there are none."""
    ends = [f"#{entry.number}" for entry in (*undone[:1], *undone[1:][-1:])]
    return " to ".join(ends)


def history_head(width: int, position: str) -> tuple[Cell, ...]:
    """The line above the entries."""
    rest = max(0, width - NUMBER - WHEN - KIND - 1)
    who = min(24, rest // 3)
    return (
        right("#", NUMBER), left(" when", WHEN), left("what", KIND), left("by", who - 1), Cell(" "),
        left(f"change{f'  {position}' if position else ''}", rest - who), Cell(" "),
    )  # fmt: skip


def history_cells(entry: JournalEntry, width: int, undone: Sequence[JournalEntry] = ()) -> tuple[Cell, ...]:
    """One entry, and the changes that it undid."""
    rest = max(0, width - NUMBER - WHEN - KIND - 1)
    who = min(24, rest // 3)
    style = "warn" if entry.kind in (EntryKind.ROLLBACK, EntryKind.OVERTAKEN) else "plain"
    return (
        right(str(entry.number), NUMBER, "index"),
        left(f" {_when(entry.author.at)}", WHEN, "label"),
        left(KINDS[entry.kind], KIND, style),
        left(f"{entry.author.user} {entry.author.command}", who - 1, "plain"),
        Cell(" "),
        left(": ".join(filter(None, (undone_words(undone), summary(entry)))), rest - who, "name"),
        Cell(" "),
    )


def entry_lines(entry: JournalEntry, undone: Sequence[JournalEntry] = ()) -> tuple[str, ...]:
    """One entry in full, and the changes that it undid."""
    waits = f", to be confirmed within {entry.seconds:g} s" if entry.seconds is not None else ""
    author = entry.author
    which = f" {words}" if (words := undone_words(undone)) else ""
    return (
        f"{KINDS[entry.kind]}{which} {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(author.at))}{waits}",
        f"by {author.user}, pid {author.pid}: {author.command}",
        became(entry.before, entry.after),
        *(f"  {change}" for change in entry.changes),
    )


def notice_head(width: int, position: str) -> tuple[Cell, ...]:
    """The line above the messages."""
    return (left(" when", WHEN), left(f"message{f'  {position}' if position else ''}", width - WHEN))


def notice_cells(notice: Notice, width: int) -> tuple[Cell, ...]:
    """One message."""
    text = f"{notice.title}: {notice.text}" if notice.title else notice.text
    style = "plain" if not notice.serious else "label" if notice.read else "warn"
    return (left(f" {_when(notice.at)}", WHEN, "label"), left(" ".join(text.split()), width - WHEN, style))


def notice_lines(notice: Notice) -> Sequence[str]:
    """One message in full."""
    return [line for line in (notice.title, *notice.text.splitlines()) if line]
