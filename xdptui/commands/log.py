# SPDX-License-Identifier: Apache-2.0
"""``xdptui log``: who changed what and when, from the journal; and who loaded what runs, from the kernel."""

from __future__ import annotations

import json
from argparse import Namespace

from xdpchain.change.journal.keeping import moment_of
from xdpchain.change.journal.undoing import history
from xdpchain.change.moment import Moment
from xdpchain.model.running import Owner
from xdpchain.observe.discover import look
from xdpchain.observe.hook import author_of
from xdptui.commands.options import amount
from xdptui.outcome import write
from xdptui.render.log_text import log_document, log_text
from xdptui.words.printable import printable

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Show an interface's changes, oldest first."""
    most = None if options.last is None else amount(options.last, "number of changes")
    running = look(options.interface, options.netns)
    found = history(running)
    now: Moment = moment_of(running)
    shown = found if most is None else found[-most:]
    if options.json:
        hook = running.hook
        document = {
            "interface": running.interface.name,
            "netns": running.interface.netns,
            "entries": log_document(shown),
            "running": {
                "program": hook.prog_id if hook else None,
                "author": author_of(running),
                "known": _known(found, now),
            },
        }
        write(json.dumps(document, indent=2))
        return 0
    lines = [log_text(shown) or "the journal has no changes for this interface"]
    what = author_of(running)
    if not _known(found, now):
        ours = running.owner is Owner.XDPTUI
        forgot = "the journal could not be written then, or has dropped this interface since"
        what += f"; {forgot}" if ours else "; not made with xdptui"
    write("\n".join([*lines, printable(what)]))
    return 0


def _known(found: tuple[object, ...], now: Moment) -> bool:
    """Whether the last entry accounts for what runs now."""
    last = found[-1] if found else None
    after = getattr(last, "after", None)
    return now.program is None if after is None else bool(now.same(after))
