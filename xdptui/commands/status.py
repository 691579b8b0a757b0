# SPDX-License-Identifier: Apache-2.0
"""``xdptui status``: what runs, as a table or as JSON."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from xdpchain.linkage.kept_maps import LONGEST, KeptMap, kept_maps
from xdpchain.observe.discover import look, survey, survey_all
from xdpchain.observe.pending_pins import boot_clock
from xdpchain.observe.permissions import unseen
from xdptui.commands.options import with_labels
from xdptui.outcome import UsageError, write
from xdptui.render.status_table import status_table
from xdptui.words.printable import printable
from xdptui.workers.readings import totals

if TYPE_CHECKING:
    from xdpchain.model.running import Running
    from xdpchain.observe.behind import Behind
    from xdptui.commands.around import Around

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Show one interface, all in the namespace, or all on the machine."""
    if options.all_netns:
        return _everywhere(options)
    if options.interface is None:
        found = survey(options.netns)
    else:
        found = (look(options.interface, options.netns),)
    found = with_labels(found, options.where)
    entries = [(running, totals(running)) for running in found]
    behind = _behind(found)
    kept, hidden = kept_maps(), unseen()
    around: Around | None = None
    if found and options.interface and (options.json or options.verbose):
        from xdptui.commands.around import Around  # costs about a dozen requests to the kernel

        around = Around.of(found[0])
    if options.json:
        from xdptui.render import documents

        document = documents.status(entries, boot_clock(), kept, behind)
        document["unseen"] = list(hidden)
        if around is not None:
            document["interfaces"][0] |= around.document()
        write(json.dumps(document, indent=2))
        return 0
    write(status_table(entries, boot_clock(), behind, verbose=options.verbose))
    if around is not None:
        write("\n".join(around.lines()))
    _write_rest(kept, hidden)
    return 0


def _everywhere(options: Namespace) -> int:
    """All network namespaces: in JSON every interface, otherwise those with programs."""
    if options.interface is not None or options.netns is not None:
        raise UsageError("--all-netns excludes IF and --netns", todo="`xdptui status --all-netns` shows all")
    found, not_reached = survey_all()
    kept, hidden = kept_maps(), (*unseen(), *not_reached)
    if options.json:
        from xdptui.render import documents

        document = documents.status((), boot_clock(), kept)
        for runnings in found.values():
            entries = [(running, totals(running)) for running in with_labels(runnings, options.where)]
            there = documents.status(entries, boot_clock(), (), _behind(runnings))
            document["interfaces"] += there["interfaces"]
        document["unseen"] = list(hidden)
        write(json.dumps(document, indent=2))
        return 0
    idle = 0
    for place, runnings in found.items():
        shown = [running for running in with_labels(runnings, options.where) if running.hooks]
        idle += not shown
        if shown:
            entries = [(running, totals(running)) for running in shown]
            write(printable(f"network namespace {place}:" if place else "this network namespace:"))
            write(status_table(entries, boot_clock(), _behind(shown), verbose=options.verbose))
    write(f"{idle} network namespace{'s' * (idle != 1)} without XDP programs")
    _write_rest(kept, hidden)
    return 0


def _behind(found: Sequence[Running]) -> dict[int, tuple[Behind, ...]]:
    """What is attached behind the programs, by ifindex."""
    if not any(running.hooks for running in found):
        return {}
    from xdpchain.observe.behind import programs_behind

    return {running.interface.ifindex: programs_behind(running) for running in found}


def _write_rest(kept: Sequence[KeptMap], hidden: Sequence[str]) -> None:
    """Print maps kept from unloaded slots, one line for each set unloaded together; and what is not seen."""
    now = boot_clock()
    for (since, ifindex, _), some in groupby(
        kept, key=lambda kept_map: (kept_map.since, kept_map.ifindex, kept_map.inode)
    ):
        names = ", ".join(f"{printable(kept_map.name)} ({kept_map.map_id})" for kept_map in some)
        left = (since + LONGEST - now) / 3600
        write(f"maps of slots unloaded from ifindex {ifindex}, kept for another {left:.0f} h: {names}")
    for reason in hidden:
        write(f"not seen: {reason}")
