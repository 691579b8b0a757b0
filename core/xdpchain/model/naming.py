# SPDX-License-Identifier: Apache-2.0
"""Names in a sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["counted", "some"]

MOST = 4


def some(names: Iterable[object]) -> str:
    """``a, b, c``; of many the first ones, ``and 149 more``."""
    listed = [str(name) for name in names]
    if len(listed) <= MOST:
        return ", ".join(listed)
    shown = MOST - 1
    return f"{', '.join(listed[:shown])} and {len(listed) - shown} more"


def counted(number: int, thing: str) -> str:
    """``1 queue``, ``2 queues``."""
    return f"{number} {thing}{'s' * (number != 1)}"
