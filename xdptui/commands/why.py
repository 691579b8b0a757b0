# SPDX-License-Identifier: Apache-2.0
"""``xdptui why``: which lines of source decided what became of the packets, with what was counted."""

from __future__ import annotations

import json
from argparse import Namespace
from contextlib import closing

from xdpchain.errors import NotFound
from xdpchain.model.actions import Action
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.observe.reasons import reasons_of
from xdpchain.observe.site_shares import SlotReasons
from xdptui.commands.in_place import Lines, due, screen_for
from xdptui.render.why_text import Row, reasons_table, why_document
from xdptui.words.rates import Trends
from xdptui.workers.meter import Meter, open_missing

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Count for one interval and show it; with ``--watch`` again and again, until interrupted."""
    code = None if options.code is None else Action.parse(options.code).name
    if not options.watch:
        options.count = "1"
    screen = screen_for(options) if options.watch else Lines()
    with closing(Meter()) as meter:
        running = look(options.interface, options.netns)
        slots = _chosen(running, options.slot)
        trends: Trends[Row] | None = Trends() if options.watch else None
        meter.sync((running,), open_missing((running,), meter.known))
        meter.read(running.interface.ifindex)
        for _ in due(options):
            now = look(options.interface, options.netns)
            if now.identity != running.identity:
                running, slots = now, _chosen(now, options.slot)
                meter.sync((running,), open_missing((running,), meter.known))
            index = running.interface.ifindex
            reading, why = meter.read(index), meter.why(index)
            if options.json:
                document = why_document(running, slots, reading, why, code)
                screen.show(json.dumps(document, indent=None if options.watch else 2))
            else:
                screen.show(reasons_table(running, slots, reading, why, code, trends))
    return 0


def _chosen(running: Running, slot: str | None) -> tuple[SlotReasons, ...]:
    """The sites of all slots, or of the one with this number or name. Raises NotFound."""
    found = reasons_of(running)
    if slot is None:
        return found
    chosen = tuple(one for one in found if slot in (str(one.index), one.name))
    if not chosen:
        there = ", ".join(f"{one.index} ({one.name})" for one in found) or "none"
        raise NotFound(f"there is no slot {slot} on {running.interface.name}", f"it has {there}")
    return chosen
