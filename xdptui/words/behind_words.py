# SPDX-License-Identifier: Apache-2.0
"""Programs behind the one on the hook, as lines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xdptui.words.printable import printable

if TYPE_CHECKING:
    from xdpchain.observe.behind import Behind

__all__ = ["behind_lines"]

SHOWN = 8
"""Programs in maps that are listed."""


def behind_lines(found: Sequence[Behind], *, verbose: bool = True) -> list[str]:
    """The first programs in maps, one per line, with ``verbose`` also why their verdicts are not counted; and
    how many more there are.
    """
    lines = []
    for behind in found[:SHOWN]:
        where = f"before the device with ifindex {behind.ifindex}" if behind.ifindex else ""
        where = f"on CPU {behind.index}" if behind.kind == "cpumap" else where or "by tail call"
        program = f"{behind.name} (id {behind.prog_id})"
        lines.append(printable(f"behind it: {behind.map_name}[{behind.index}] → {program}, {where}"))
        if verbose:
            lines.append(f"  not counted: {behind.uncounted}")
    if len(found) > SHOWN:
        lines.append(f"and {len(found) - SHOWN} more programs")
    return lines
