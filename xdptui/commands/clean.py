# SPDX-License-Identifier: Apache-2.0
"""``xdptui clean``: remove pins that nobody uses any more."""

from __future__ import annotations

import json
from argparse import Namespace

from xdpchain.discover import look
from xdpchain.stale import StalePins, clean
from xdptui.outcome import printable, write

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Remove stale pins, or say which there are."""
    ifindex = None
    if options.interface is not None:
        ifindex = look(options.interface, options.netns).interface.ifindex
    found = clean(dry_run=options.dry_run, ifindex=ifindex, force=options.force)
    if options.json:
        pins = [
            {
                "path": str(one.path),
                "program": one.program,
                "why": one.why,
                "certain": one.certain,
                "removed": one.removed,
            }
            for one in found
        ]
        write(json.dumps({"dry_run": options.dry_run, "pins": pins}, indent=2))
    else:
        write("\n".join(_line(one, options) for one in found) or "no stale pins")
    return 0


def _line(one: StalePins, options: Namespace) -> str:
    if one.removed:
        done = "removed"
    elif options.dry_run and (one.certain or options.force):
        done = "would be removed"
    else:
        done = "left alone" if options.force else "left alone (--force removes it)"
    return f"{printable(str(one.path))}: {done}: {one.why}"
