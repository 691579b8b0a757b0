# SPDX-License-Identifier: Apache-2.0
"""Programs behind the one on the hook, as lines. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from xdptui.words.printable import printable

if TYPE_CHECKING:
    from xdpchain.observe.behind import Behind

__all__ = ["behind_lines"]

SHOWN = 8
"""Maximum programs in maps listed."""


def behind_lines(found: Sequence[Behind], more: Callable[[int], Sequence[str]] = lambda _: ()) -> list[str]:
    """The first programs in maps, one per line, each followed by the ``more`` lines for its index; and how
    many more there are.
    """
    lines = []
    for number, behind in enumerate(found[:SHOWN]):
        where = f"before the device with ifindex {behind.ifindex}" if behind.ifindex else ""
        where = f"on CPU {behind.index}" if behind.kind == "cpumap" else where or "by tail call"
        program = f"{behind.name} (id {behind.prog_id})"
        lines.append(printable(f"behind it: {behind.map_name}[{behind.index}] → {program}, {where}"))
        lines += more(number)
    if len(found) > SHOWN:
        lines.append(f"and {len(found) - SHOWN} more programs")
    return lines
