# SPDX-License-Identifier: Apache-2.0
"""``xdptui events``: what happens to packets after their program has returned."""

from __future__ import annotations

import json
import shutil
import time
from argparse import Namespace

from xdpchain.model.running import Running
from xdpchain.observe.discover import look, survey
from xdptui.commands.in_place import due, screen_for
from xdptui.outcome import write
from xdptui.words.packet_event_documents import packet_events_document, packet_events_table
from xdptui.workers.listening import Listening

__all__ = ["run"]

SEARCH = 5.0
"""Seconds until programs are looked up again, to attribute losses in their maps."""


def run(options: Namespace) -> int:
    """Show readings until interrupted, or as many as requested."""
    readings = due(options)
    chosen = look(options.interface, options.netns) if options.interface is not None else None
    screen = screen_for(options)
    with Listening(options.netns, chosen.interface.ifindex if chosen else None) as listening:
        if not options.json:
            write("listening to the kernel's XDP tracepoints; ctrl-C stops")
        searched = _search(listening, chosen, options.netns)
        for _ in readings:
            reading = listening.read()
            if options.json:
                screen.show(json.dumps(packet_events_document(reading), separators=(",", ":")))
            else:
                screen.show(packet_events_table(reading, min(shutil.get_terminal_size().columns, 120)))
            if time.monotonic() - searched >= SEARCH:
                searched = _search(listening, chosen, options.netns)
    return 0


def _search(listening: Listening, chosen: Running | None, netns: str | None) -> float:
    """Tell ``listening`` which programs run now; returns when that was read."""
    found = survey(netns)
    listening.follow(r for r in found if chosen is None or r.interface == chosen.interface)
    return time.monotonic()
