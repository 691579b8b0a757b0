# SPDX-License-Identifier: Apache-2.0
"""``xdptui why``: which source lines decided the verdicts, with counts."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from contextlib import closing

from xdpchain.errors import NotFound
from xdpchain.model.actions import Action
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.observe.running_sites import reasons_of
from xdpchain.observe.site_shares import SlotReasons
from xdptui.commands import options as values
from xdptui.commands.in_place import Lines, due, in_place, screen_for
from xdptui.render.why_text import Row, reasons_table, why_document
from xdptui.words.rates import Trends
from xdptui.workers.meter import Meter, open_missing

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Count for one interval and show the result; with ``--watch``, repeat until interrupted."""
    code = None if options.code is None else Action.parse(options.code).name
    if not options.watch:
        options.count = "1"
    screen = screen_for(options) if options.watch else Lines()
    with closing(Meter()) as meter:
        running = look(options.interface, options.netns)
        slots = _chosen(running, options)
        trends: Trends[Row] | None = Trends() if options.watch else None
        meter.sync((running,), open_missing((running,), meter.known))
        meter.read(running.interface.ifindex)
        for _ in due(options):
            now = look(options.interface, options.netns)
            if now.identity != running.identity:
                running, slots = now, _chosen(now, options)
                meter.sync((running,), open_missing((running,), meter.known))
            index = running.interface.ifindex
            reading, why = meter.read(index), meter.why(index)
            if options.json:
                document = why_document(running, slots, reading, why, code)
                screen.show(json.dumps(document, indent=None if options.watch else 2))
            else:
                width = shutil.get_terminal_size().columns if in_place() else None
                screen.show(reasons_table(running, slots, reading, why, code, trends, width))
    return 0


def _chosen(running: Running, options: Namespace) -> tuple[SlotReasons, ...]:
    """The sites of all slots, or of those named. Raises UsageError, NotFound, InvalidInput."""
    found, slot = reasons_of(running), options.slot
    if options.where:
        which = values.Which(slot, options.where)
        wanted = which.among(running.chain or running.shown, running.interface)
        return tuple(reasons for reasons in found if reasons.index in wanted)
    if slot is None:
        return found
    chosen = tuple(reasons for reasons in found if slot in (str(reasons.index), reasons.name))
    if not chosen:
        there = ", ".join(f"{reasons.index} ({reasons.name})" for reasons in found) or "none"
        raise NotFound(f"there is no slot {slot} on {running.interface.name}", f"it has {there}")
    return chosen
