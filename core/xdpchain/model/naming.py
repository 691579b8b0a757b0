# SPDX-License-Identifier: Apache-2.0
"""Lists and plurals in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["counted", "some"]

MOST = 4


def some(names: Iterable[object]) -> str:
    """``a, b, c``; if there are many, the first ones ``and 149 more``."""
    listed = [str(name) for name in names]
    if len(listed) <= MOST:
        return ", ".join(listed)
    shown = MOST - 1
    return f"{', '.join(listed[:shown])} and {len(listed) - shown} more"


def counted(count: int, thing: str) -> str:
    """``1 queue``, ``2 queues``."""
    return f"{count} {thing}{'s' * (count != 1)}"
