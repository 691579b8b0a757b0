# SPDX-License-Identifier: Apache-2.0
"""``xdptui events``: what becomes of packets after their program has spoken."""

from __future__ import annotations

import json
import shutil
import time
from argparse import Namespace

from xdpchain.discover import look, survey
from xdptui.commands import options as values
from xdptui.commands.in_place import Lines, Screen, in_place
from xdptui.listening import Listening
from xdptui.outcome import write
from xdptui.render.mishaps_text import mishaps_document, mishaps_table

__all__ = ["run"]

LEAST_INTERVAL = 0.05
SEARCH = 5.0
"""Seconds until programs are looked at anew, for maps whose losses are theirs."""


def run(options: Namespace) -> int:
    """Show reading after reading, until interrupted or as many as were asked for."""
    interval = values.seconds(options.interval, "interval", LEAST_INTERVAL)
    count = None if options.count is None else values.amount(options.count, "count")
    chosen = look(options.interface, options.netns) if options.interface is not None else None
    screen = Screen() if not options.json and in_place() else Lines()
    with Listening(options.netns, chosen.interface.ifindex if chosen else None) as listening:
        if not options.json:
            write("listening to the kernel's XDP tracepoints; ctrl-C ends")
        searched = float("-inf")
        due, shown = time.monotonic(), 0
        while count is None or shown < count:
            if time.monotonic() - searched >= SEARCH:
                found = survey(options.netns)
                listening.follow(r for r in found if chosen is None or r.interface == chosen.interface)
                searched = time.monotonic()
            due = max(due + interval, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            reading = listening.read()
            if options.json:
                screen.show(json.dumps(mishaps_document(reading), separators=(",", ":")))
            else:
                screen.show(mishaps_table(reading, min(shutil.get_terminal_size().columns, 120)))
            shown += 1
    return 0
