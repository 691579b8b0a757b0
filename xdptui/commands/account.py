# SPDX-License-Identifier: Apache-2.0
"""``xdptui account IF``: what the interface counted against what its chain counted."""

from __future__ import annotations

import json
import time
from argparse import Namespace

from xdpchain.account import Accounting
from xdpchain.discover import look
from xdptui.commands import options as values
from xdptui.commands.in_place import Lines, Screen, in_place
from xdptui.render.account_text import account_document, account_table

__all__ = ["run"]

LEAST_INTERVAL = 0.05


def run(options: Namespace) -> int:
    """Show the account after each interval, since the command began."""
    interval = values.seconds(options.interval, "interval", LEAST_INTERVAL)
    count = None if options.count is None else values.amount(options.count, "count")
    running = look(options.interface, options.netns)
    screen = Screen() if not options.json and in_place() else Lines()
    with Accounting(running) as accounting:
        due, shown = time.monotonic(), 0
        while count is None or shown < count:
            due = max(due + interval, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))
            accounting.follow(look(options.interface, options.netns))
            account = accounting.read()
            if options.json:
                document = account_document(running.interface, account, accounting.deaf)
                screen.show(json.dumps(document, separators=(",", ":")))
            else:
                screen.show(account_table(running.interface, account, accounting.deaf))
            shown += 1
    return 0
