# SPDX-License-Identifier: Apache-2.0
"""``xdptui account IF``: what the interface counted compared with what its chain counted."""

from __future__ import annotations

import json
from argparse import Namespace

from xdpchain.observe.account import Accounting
from xdpchain.observe.discover import look
from xdptui.commands.in_place import due, screen_for
from xdptui.render.account_text import account_document, account_table

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Show the account after each interval, counting from the start of the command."""
    readings = due(options)
    running = look(options.interface, options.netns)
    screen = screen_for(options)
    with Accounting(running) as accounting:
        for _ in readings:
            accounting.follow(look(options.interface, options.netns))
            account = accounting.read()
            if options.json:
                document = account_document(running.interface, account, accounting.deaf)
                screen.show(json.dumps(document, separators=(",", ":")))
            else:
                screen.show(account_table(running.interface, account, accounting.deaf))
    return 0
