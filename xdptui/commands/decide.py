# SPDX-License-Identifier: Apache-2.0
"""``xdptui confirm`` and ``xdptui rollback``: decide a change that waits to be confirmed."""

from __future__ import annotations

import json
from argparse import Namespace

from xdpchain.change.confirm.deciding import confirm, roll_back
from xdpchain.observe.pending_pins import boot_clock
from xdptui.outcome import write
from xdptui.render import documents
from xdptui.render.plan_text import running_text
from xdptui.words.printable import printable
from xdptui.workers.readings import totals

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Confirm, or roll back now, and show what runs."""
    keeps = options.command == "confirm"
    now = (confirm if keeps else roll_back)(options.interface, options.netns)
    if options.json:
        document = {
            "interface": now.interface.name,
            "netns": now.interface.netns,
            "decision": "confirmed" if keeps else "rolled-back",
            "running": documents.interface(now, totals(now), boot_clock()),
        }
        write(json.dumps(document, indent=2))
    else:
        done = "confirmed" if keeps else "rolled back"
        write(f"{printable(str(now.interface))}: {done}; {running_text(now)}")
    return 0
