# SPDX-License-Identifier: Apache-2.0
"""``xdptui clean``: remove pins no longer in use, and undo what a killed follower left behind."""

from __future__ import annotations

import json
from argparse import Namespace

from xdpchain.change.stale import StalePins, clean
from xdpchain.errors import XdpChainError
from xdpchain.linkage.kept_maps import forget_kept, kept_maps
from xdpchain.model.running import Running
from xdpchain.observe.discover import look, survey
from xdpchain.observe.permissions import require_capabilities
from xdptui.outcome import write
from xdptui.words.advice import told
from xdptui.words.printable import printable

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Remove stale pins, or list them."""
    require_capabilities()  # without them nothing is readable, and everything would look clean
    ifindex = None
    if options.interface is not None:
        runnings: tuple[Running, ...] = (look(options.interface, options.netns),)
        ifindex = runnings[0].interface.ifindex
    else:
        runnings = survey(options.netns)
    left = [running for running in runnings if running.following is not None and not running.following.alive]
    followed = [_taken_back(running, options.dry_run) for running in left]
    found = clean(dry_run=options.dry_run, ifindex=ifindex, force=options.force)
    kept = tuple(bpf_map for bpf_map in kept_maps() if options.kept and ifindex in (None, bpf_map.ifindex))
    if not options.dry_run:
        forget_kept(kept)
    if options.json:
        pins = [
            {
                "path": str(leftover.path),
                "program": leftover.program,
                "why": leftover.why,
                "certain": leftover.certain,
                "removed": leftover.removed,
            }
            for leftover in found
        ]
        chains = [
            {
                "interface": running.interface.name,
                "taken_back": not why and not options.dry_run,
                "why_not": why,
            }
            for running, why in zip(left, followed, strict=True)
        ]
        write(
            json.dumps(
                {
                    "dry_run": options.dry_run,
                    "pins": pins,
                    "followed": chains,
                    "kept_maps": [kept_map.map_id for kept_map in kept],
                },
                indent=2,
            )
        )
    else:
        lines = [_chain(running, why, options) for running, why in zip(left, followed, strict=True)]
        done = "would be released" if options.dry_run else "released"
        lines += [_line(leftover, options) for leftover in found]
        lines += [f"map {kept_map.map_id}, kept from an unloaded slot: {done}" for kept_map in kept]
        write("\n".join(lines) or "no stale pins")
    return 0


def _taken_back(running: Running, dry_run: bool) -> str:
    """Bring back the normal dispatcher where the follower is gone; returns why that failed, if it did."""
    if dry_run:
        return ""
    from xdpchain.follow import take_back_left_over

    try:
        take_back_left_over(running)
    except XdpChainError as error:
        return told(error)
    return ""


def _chain(running: Running, why: str, options: Namespace) -> str:
    done = "would be restored" if options.dry_run else "restored"
    said = f"left alone: {why}" if why else f"its normal dispatcher {done}: the packet follower is gone"
    return f"{printable(str(running.interface))}: {printable(said)}"


def _line(pins: StalePins, options: Namespace) -> str:
    if pins.removed:
        done = "removed"
    elif options.dry_run and (pins.certain or options.force):
        done = "would be removed"
    else:
        done = "left alone" if options.force else "left alone (--force removes it)"
    return f"{printable(str(pins.path))}: {done}: {pins.why}"
