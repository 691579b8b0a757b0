# SPDX-License-Identifier: Apache-2.0
"""Journal entries as text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpchain.change.journal.entries import EntryKind
from xdpchain.change.moment import Moment

if TYPE_CHECKING:
    from xdpchain.change.journal.undoing import Undo

__all__ = ["KINDS", "became", "ran", "undo_notes"]

KINDS = {
    EntryKind.CHANGE: "changed",
    EntryKind.UNDO: "undone",
    EntryKind.CONFIRM: "confirmed",
    EntryKind.ROLLBACK: "rolled back",
    EntryKind.OVERTAKEN: "overtaken",
}


def ran(moment: Moment) -> str:
    """What ran at one time."""
    return "nothing" if moment.program is None else f"program {moment.program}"


def became(before: Moment, after: Moment) -> str:
    """What ran before and after. Rows of a program array may rotate, and changes may be confirmed, without
    the program changing.
    """
    if before.program == after.program:
        return f"{ran(after)} stays"
    return f"{ran(before)} → {ran(after)}"


def undo_notes(undo: Undo) -> tuple[str, ...]:
    """Notes on an undo, except for its losses, which are among the plan's warnings."""
    anew = f"counted anew: {', '.join(undo.recounted)}"
    return (f"this undoes {undo.what}", *((anew,) if undo.recounted else ()))
