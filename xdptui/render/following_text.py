# SPDX-License-Identifier: Apache-2.0
"""Who follows packets through a chain, as text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpchain.model.running import Running
from xdptui.render.pending_text import command
from xdptui.words.printable import printable

if TYPE_CHECKING:
    from xdpchain.model.following import Following

__all__ = ["following_line"]


def following_line(following: Following, running: Running) -> str:
    """One line."""
    which = f"packets that match {following.expression!r}" if following.expression else "all packets"
    by = printable(str(following.author))
    if following.alive:
        return f"FOLLOWED: {printable(which)} are recorded; by {by}"
    return f"followed by {by}, who is gone: `{command('clean', running)}` restores the normal dispatcher"
