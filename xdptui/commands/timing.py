# SPDX-License-Identifier: Apache-2.0
"""``xdptui time IF``: how long the chain and each of its slots take."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace

from xdpchain.observe.discover import look
from xdptui.commands.in_place import due, screen_for
from xdptui.render.time_text import time_document, time_table
from xdptui.workers.timing import Timing

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Show readings until interrupted, or as many as requested."""
    readings = due(options)
    running = look(options.interface, options.netns)
    screen = screen_for(options)
    with Timing(running) as timing:
        timing.read()
        for _ in readings:
            found = timing.read()
            if options.json:
                screen.show(json.dumps(time_document(running.interface, found), separators=(",", ":")))
            else:
                screen.show(
                    time_table(running.interface, found, min(shutil.get_terminal_size().columns, 120))
                )
    return 0
