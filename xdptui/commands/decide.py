# SPDX-License-Identifier: Apache-2.0
"""``xdptui confirm`` and ``xdptui rollback``: decide a pending change."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from xdpchain.change.confirm.by_hand import confirm, roll_back
from xdpchain.model.naming import some
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.observe.pending_pins import boot_clock
from xdptui.commands.chosen import chosen
from xdptui.outcome import write
from xdptui.render import documents
from xdptui.render.plan_text import running_text
from xdptui.words.printable import printable
from xdptui.workers.readings import totals

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Confirm, or roll back now, and show what runs. Interfaces changed together are decided together."""
    keeps = options.command == "confirm"
    each = []
    decided: set[int] = set()
    for name in chosen(options.interface, options.netns):
        before = look(name, options.netns)
        pending = before.pending
        undecided = pending is not None and pending.decision not in decided
        if not undecided and before.settled is not None and before.settled.decision in decided:
            now = before
        else:
            now = (confirm if keeps else roll_back)(name, options.netns)  # or says why there is nothing
        if pending is not None:
            decided.add(pending.decision)
        others = [] if pending is None else [name for name in pending.together if name != str(now.interface)]
        if options.json:
            each.append(_document(now, others, keeps=keeps))
        else:
            done = ("confirmed" if keeps else "rolled back") + (f", as {some(others)} is" if others else "")
            write(f"{printable(str(now.interface))}: {done}; {running_text(now)}")
    if options.json:
        write(json.dumps({"interfaces": each} if len(each) > 1 else each[0], indent=2))
    return 0


def _document(now: Running, others: list[str], *, keeps: bool) -> dict[str, Any]:
    return {
        "interface": now.interface.name,
        "netns": now.interface.netns,
        "decision": "confirmed" if keeps else "rolled-back",
        "together": others,
        "running": documents.interface(now, totals(now), boot_clock()),
    }
