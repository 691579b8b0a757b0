# SPDX-License-Identifier: Apache-2.0
"""Which of a program's verdict sites packets reached, as text and as JSON. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from xdpchain.bytecode.sites import VerdictSite
from xdpchain.frozen import frozen
from xdptui.words.printable import printable
from xdptui.words.site_words import site_document, site_words

__all__ = ["Row", "places", "reached_document", "reached_text"]

UNKNOWN = "an unknown place"
NAME = 34


@frozen
class Row:
    """A packet: its number (from 1), name and verdict, the index of the site (None: unknown), the expectation
    as text, and whether it was met (None: nothing was expected).
    """

    number: int
    name: str
    verdict: str
    site: int | None
    expected: str
    ok: bool | None


def places(site: VerdictSite) -> tuple[str, ...]:
    """The lines that identify a site: ``file:line`` of its condition, and of its return."""
    lines = (line for line in (site.condition, site.returns) if line is not None)
    return tuple(f"{line.file}:{line.number}" for line in lines)


def reached_text(name: str, rows: Sequence[Row], sites: Sequence[VerdictSite], notes: Sequence[str]) -> str:
    """One line per packet, then the sites that none of them reached."""
    lines = [printable(name)]
    for row in rows:
        where = UNKNOWN if row.site is None else site_words(sites[row.site])
        lines.append(f"  {row.number:3} {printable(row.name)[:NAME]:{NAME}} {row.verdict:8} {where}")
        if row.ok is False:
            lines.append(f"      expected {printable(row.expected)}")
    counts = Counter(row.site for row in rows)
    missed = [site for index, site in enumerate(sites) if not counts[index]]
    lines.append(f"reached {len(sites) - len(missed)} of {len(sites)} places{', never:' if missed else ''}")
    lines += [f"  {site.word:8} {site_words(site)}" for site in missed]
    wanted = [row for row in rows if row.ok is not None]
    if wanted:
        failed = sum(not row.ok for row in wanted)
        lines.append(f"{len(wanted) - failed} of {len(wanted)} expectations met")
    lines += [f"note: {printable(note)}" for note in notes]
    return "\n".join(lines)


def reached_document(
    name: str, rows: Sequence[Row], sites: Sequence[VerdictSite], notes: Sequence[str]
) -> dict[str, Any]:
    """``{"program", "packets": […], "sites": […], "reached", "notes"}``, see docs/cli.md."""
    counts = Counter(row.site for row in rows)
    return {
        "program": name,
        "packets": [
            {
                "packet": row.number,
                "name": row.name,
                "verdict": row.verdict,
                "site": row.site,
                "expected": row.expected or None,
                "ok": row.ok,
            }
            for row in rows
        ],
        "sites": [site_document(site) | {"packets": counts[index]} for index, site in enumerate(sites)],
        "reached": sum(1 for index in range(len(sites)) if counts[index]),
        "notes": list(notes),
    }
