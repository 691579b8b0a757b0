# SPDX-License-Identifier: Apache-2.0
"""``xdptui time IF``: how long the chain takes, and each slot of it."""

from __future__ import annotations

import json
import shutil
import time
from argparse import Namespace

from xdpchain.discover import look
from xdptui.commands import options as values
from xdptui.commands.in_place import Lines, Screen, in_place
from xdptui.render.time_text import time_document, time_table
from xdptui.timing import Timing

__all__ = ["run"]

LEAST_INTERVAL = 0.05


def run(options: Namespace) -> int:
    """Show reading after reading, until interrupted or as many as were asked for."""
    interval = values.seconds(options.interval, "interval", LEAST_INTERVAL)
    count = None if options.count is None else values.amount(options.count, "count")
    running = look(options.interface, options.netns)
    screen = Screen() if not options.json and in_place() else Lines()
    with Timing(running) as timing:
        timing.read()
        due, shown = time.monotonic(), 0
        while count is None or shown < count:
            due = max(due + interval, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            found = timing.read()
            if options.json:
                screen.show(json.dumps(time_document(running.interface, found), separators=(",", ":")))
            else:
                screen.show(
                    time_table(running.interface, found, min(shutil.get_terminal_size().columns, 120))
                )
            shown += 1
    return 0
