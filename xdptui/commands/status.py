# SPDX-License-Identifier: Apache-2.0
"""``xdptui status``: what runs, as a table or as JSON."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from itertools import groupby

from xdpchain.linkage.kept_maps import LONGEST, KeptMap, kept_maps
from xdpchain.model.commands import Commands
from xdpchain.observe.behind import programs_behind
from xdpchain.observe.beside import beside
from xdpchain.observe.discover import look, survey
from xdpchain.observe.gather_evidence import evidence_of
from xdpchain.observe.owner_evidence import judge
from xdpchain.observe.pending_pins import boot_clock
from xdpchain.observe.permissions import unseen
from xdptui.commands.options import with_labels
from xdptui.outcome import write
from xdptui.render import documents
from xdptui.render.status_table import status_table
from xdptui.words.beside_words import beside_lines
from xdptui.words.owners import evidence_lines
from xdptui.words.printable import printable
from xdptui.workers.readings import totals

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Show one interface, or all of the namespace."""
    if options.interface is None:
        found = survey(options.netns)
    else:
        found = (look(options.interface, options.netns),)
    found = with_labels(found, options.where)
    entries = [(running, totals(running)) for running in found]
    behind = {running.interface.ifindex: programs_behind(running) for running in found}
    kept, hidden = kept_maps(), unseen()
    # Some dozen messages to the kernel: only where one interface is looked at.
    near = bool(found and options.interface and (options.json or options.verbose))
    seen = beside(found[0]) if near else None
    evidence = next(iter(evidence_of(found).values()), None) if near else None
    if options.json:
        document = documents.status(entries, boot_clock(), kept, behind)
        document["unseen"] = list(hidden)
        if seen is not None:
            document["interfaces"][0]["beside"] = documents.beside(seen)
        if evidence is not None:
            verdict = judge(evidence, Commands(options.netns))
            document["interfaces"][0]["owner_evidence"] = documents.owner_evidence(verdict, evidence)
        write(json.dumps(document, indent=2))
        return 0
    write(status_table(entries, boot_clock(), behind, verbose=options.verbose))
    if evidence is not None:
        who = judge(evidence, Commands(options.netns)).who
        write(
            "\n".join(
                [
                    "    what is known of its loader:",
                    *(f"      {line}" for line in evidence_lines(who, evidence)),
                ]
            )
        )
    if seen is not None:
        write("\n".join(["    beside XDP:", *(f"      {line}" for line in beside_lines(seen))]))
    _write_kept(kept, boot_clock())
    for one in hidden:
        write(f"not seen: {one}")
    return 0


def _write_kept(kept: Sequence[KeptMap], now: float) -> None:
    """Maps of slots that were unloaded together, a line each."""
    for (since, ifindex, _), some in groupby(
        kept, key=lambda kept_map: (kept_map.since, kept_map.ifindex, kept_map.inode)
    ):
        names = ", ".join(f"{printable(kept_map.name)} ({kept_map.map_id})" for kept_map in some)
        left = (since + LONGEST - now) / 3600
        write(f"maps of slots unloaded from ifindex {ifindex}, kept for another {left:.0f} h: {names}")
