# SPDX-License-Identifier: Apache-2.0
"""Record the outcome of a pending change in the journal. Small, since the guardian loads it."""

from __future__ import annotations

import contextlib

from xdpchain.change.author import current_author
from xdpchain.change.moment import Moment
from xdpchain.errors import XdpChainError
from xdpchain.model.manifest import Author
from xdpchain.model.pending_change import ConfirmOutcome, Outcome, PendingChange

from .entries import EntryKind, JournalEntry
from .store import append, boot_id, drop_interfaces, entries, interface_folder

__all__ = ["note_settled"]

KINDS = {
    Outcome.CONFIRMED: EntryKind.CONFIRM,
    Outcome.ROLLED_BACK: EntryKind.ROLLBACK,
    Outcome.OVERTAKEN: EntryKind.OVERTAKEN,
}


def note_settled(pending: PendingChange, settled: ConfirmOutcome, *, by: Author | None = None) -> None:
    """Append the outcome to the journal; errors are ignored. ``by``: who decided (None: nobody in time)."""
    kind = KINDS.get(settled.outcome)
    if kind is None:
        return
    with contextlib.suppress(OSError, XdpChainError):
        folder = interface_folder(pending.ifname, pending.inode)
        boot = boot_id()
        author = by or current_author()
        known = {}
        for entry in entries(folder):
            for moment in (entry.before, entry.after):
                if moment.boot == boot:
                    known[moment.program] = moment
            if entry.seconds is not None and (entry.after.program, entry.after.boot) == (pending.new, boot):
                known[pending.old] = entry.before  # its ID differs if packets were followed

        def at(program: int | None) -> Moment:
            return known.get(program, Moment(program, boot))

        before = at(pending.new)
        if append(folder, JournalEntry(kind, author, before, at(settled.runs), (settled.text,))):
            drop_interfaces()
