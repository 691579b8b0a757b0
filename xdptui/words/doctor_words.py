# SPDX-License-Identifier: Apache-2.0
"""Titles of the doctor's findings, and their grouping. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from xdpchain.doctor import Finding, Level
from xdptui.words.printable import printable

__all__ = ["MARKS", "groups", "summary"]

MARKS = {Level.OK: "ok", Level.INFO: "info", Level.WARN: "WARN", Level.ERROR: "ERROR"}
"""Words, not colours: they say the same on every terminal."""


def groups(found: Iterable[Finding]) -> list[tuple[str, list[Finding]]]:
    """The findings under their headings, in order."""
    return [(heading, list(under)) for heading, under in groupby(found, key=_heading)]


def _heading(finding: Finding) -> str:
    if finding.interface is not None:
        return f"interface {printable(finding.interface)}"
    return str(finding.topic)


def summary(found: Sequence[Finding]) -> str:
    """How many findings there are besides passed checks."""
    counts = Counter(finding.level for finding in found)
    words = {Level.ERROR: "error", Level.WARN: "warning", Level.INFO: "note"}
    parts = [f"{counts[n]} {word}{'s' * (counts[n] != 1)}" for n, word in words.items() if counts[n]]
    return ", ".join(parts) if parts else "all is fine"
