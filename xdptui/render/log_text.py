# SPDX-License-Identifier: Apache-2.0
"""Journal entries as text and as JSON documents. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from xdpchain.change.journal.entries import JournalEntry
from xdpchain.change.moment import Moment
from xdpchain.model.chain import Chain
from xdptui.render.documents import routes
from xdptui.words.history_words import KINDS, became, ran
from xdptui.words.printable import printable

__all__ = ["log_document", "log_text"]


def log_text(entries: Sequence[JournalEntry]) -> str:
    """One line per entry and one per change in it; a gap in what ran is somebody else's change."""
    lines: list[str] = []
    last: Moment | None = None
    for entry in entries:
        if last is not None and not last.same(entry.before):
            lines.append(f"     ? {ran(last)} became {ran(entry.before)}, not with xdptui")
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.author.at))
        waits = f", to be confirmed within {entry.seconds:g} s" if entry.seconds is not None else ""
        how = f"{became(entry.before, entry.after)}{waits}"
        by = printable(str(entry.author))
        lines.append(f"{entry.number:4}  {when}  {KINDS[entry.kind]} by {by}: {how}")
        lines += [f"      {printable(change)}" for change in entry.changes]
        last = entry.after
    return "\n".join(lines)


def log_document(entries: Sequence[JournalEntry]) -> list[dict[str, Any]]:
    """The same for scripts."""
    return [
        {
            "number": entry.number,
            "kind": entry.kind.value,
            "at": entry.author.at,
            "user": entry.author.user,
            "pid": entry.author.pid,
            "command": entry.author.command,
            "changes": list(entry.changes),
            "confirm_seconds": entry.seconds,
            "before": _state(entry.before),
            "after": _state(entry.after),
        }
        for entry in entries
    ]


def _state(moment: Moment) -> dict[str, Any]:
    return {
        "program": moment.program,
        "boot": moment.boot,
        "slots": [
            {
                "name": slot.name,
                "priority": slot.priority,
                "actions": list(slot.actions.names()),
                "policy": slot.policy and str(slot.policy),
                "routes": routes(moment.chain or Chain(), slot),
                "shadow": slot.shadow,
                "off": slot.off,
                "labels": dict(slot.labels),
                "sha256": slot.component.object.sha256 if slot.component.object else None,
                "path": slot.component.object.path if slot.component.object else None,
            }
            for slot in moment.chain or ()
        ],
    }
