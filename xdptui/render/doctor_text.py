# SPDX-License-Identifier: Apache-2.0
"""What the doctor found, as text and as a document. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from xdpchain.doctor import Finding, Level
from xdptui.advice import worded
from xdptui.outcome import printable

__all__ = ["MARKS", "document", "groups", "summary", "text"]

MARKS = {Level.OK: "ok", Level.INFO: "info", Level.WARN: "WARN", Level.ERROR: "ERROR"}
"""Words, not colours: they say the same on every terminal."""

INDENT = " " * 8


def groups(found: Iterable[Finding]) -> list[tuple[str, list[Finding]]]:
    """The findings under their headings, in their order."""
    return [(heading, list(under)) for heading, under in groupby(found, key=_heading)]


def _heading(finding: Finding) -> str:
    if finding.interface is not None:
        return f"interface {printable(finding.interface)}"
    return str(finding.topic)


def text(found: Sequence[Finding]) -> str:
    """A line for each finding, and why it matters and what to do below those that are not fine."""
    lines = []
    for heading, under in groups(found):
        lines.append(f"{heading}:")
        for finding in under:
            lines.append(f"  {MARKS[finding.level]:5} {printable(finding.what)}")
            if finding.level is not Level.OK:
                lines += [f"{INDENT}{printable(part)}" for part in (finding.why,) if part]
                lines += [f"{INDENT}fix: {printable(part)}" for part in (worded(finding.fix),) if part]
    return "\n".join([*lines, summary(found)])


def summary(found: Sequence[Finding]) -> str:
    """How many there are of what is not fine."""
    counts = Counter(finding.level for finding in found)
    words = {Level.ERROR: "error", Level.WARN: "warning", Level.INFO: "note"}
    parts = [f"{counts[n]} {word}{'s' * (counts[n] != 1)}" for n, word in words.items() if counts[n]]
    return ", ".join(parts) if parts else "all is fine"


def document(found: Sequence[Finding]) -> dict[str, Any]:
    """``doctor --json``."""
    counts = Counter(finding.level for finding in found)
    return {
        "findings": [
            {
                "level": finding.level.value,
                "topic": finding.topic.value,
                "check": finding.check,
                "interface": finding.interface,
                "what": finding.what,
                "why": finding.why,
                "fix": worded(finding.fix),
            }
            for finding in found
        ],
        "counts": {level.value: counts[level] for level in Level},
    }
