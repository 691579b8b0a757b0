# SPDX-License-Identifier: Apache-2.0
"""``xdptui status``: what runs, as a table or as JSON."""

from __future__ import annotations

import json
from argparse import Namespace

from xdpchain.observe.behind import programs_behind
from xdpchain.observe.discover import look, survey
from xdpchain.observe.pending_pins import boot_clock
from xdptui.outcome import write
from xdptui.render import documents
from xdptui.render.status_table import status_table
from xdptui.workers.readings import totals

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Show one interface, or all of the namespace."""
    if options.interface is None:
        found = survey(options.netns)
    else:
        found = (look(options.interface, options.netns),)
    entries = [(running, totals(running)) for running in found]
    behind = {running.interface.ifindex: programs_behind(running) for running in found}
    if options.json:
        write(json.dumps(documents.status(entries, boot_clock(), behind), indent=2))
    else:
        write(status_table(entries, boot_clock(), behind))
    return 0
