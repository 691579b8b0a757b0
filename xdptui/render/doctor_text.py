# SPDX-License-Identifier: Apache-2.0
"""The doctor's findings as text and as a document. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from xdpchain.doctor import Finding, Level
from xdptui.words.advice import worded
from xdptui.words.doctor_words import MARKS, groups, summary
from xdptui.words.printable import printable

__all__ = ["document", "text"]


INDENT = " " * 8


def text(found: Sequence[Finding]) -> str:
    """One line per finding; for problems, why it matters and what to do below it."""
    lines = []
    for heading, under in groups(found):
        lines.append(f"{heading}:")
        for finding in under:
            lines.append(f"  {MARKS[finding.level]:5} {printable(finding.what)}")
            if finding.level is not Level.OK:
                lines += [f"{INDENT}{printable(part)}" for part in (finding.why,) if part]
                lines += [f"{INDENT}fix: {printable(part)}" for part in (worded(finding.fix),) if part]
    return "\n".join([*lines, summary(found)])


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
