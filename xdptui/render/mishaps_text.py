# SPDX-License-Identifier: Apache-2.0
"""Lost and redirected packets as a table and as a document. Pure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from xdptui.view.mishaps import Mishaps, mishap_lines

__all__ = ["mishaps_document", "mishaps_table"]


def mishaps_table(found: Mishaps, width: int) -> str:
    """The tables and the last events."""
    lines = ("".join(text for text, _ in parts).rstrip() for parts in mishap_lines(found, width))
    return "\n".join((f"in {found.seconds:.1f} s", *lines))


def mishaps_document(found: Mishaps) -> dict[str, Any]:
    """A line of JSON; ``events`` are those that are new since the line before."""
    rows = dict.fromkeys((*found.lost, *found.sent))
    return {
        "at": found.at,
        "seconds": round(found.seconds, 6),
        "rows": [asdict(row) for row in rows],
        "events": [asdict(one) for one in (found.events[-found.fresh :] if found.fresh else ())],
        "untold": found.untold,
        "unplaced": found.unplaced,
        "missed": found.missed,
    }
