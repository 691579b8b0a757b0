# SPDX-License-Identifier: Apache-2.0
"""The doctor's findings as styled lines. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from xdpchain.doctor import Finding, Level
from xdptui.words.advice import worded
from xdptui.words.doctor_words import MARKS, groups
from xdptui.words.printable import printable

__all__ = ["Part", "doctor_lines"]

Part = tuple[str, str]
"""A text and its style, in Textual's notation."""

STYLES = {
    Level.OK: "$success",
    Level.INFO: "$primary",
    Level.WARN: "$warning",
    Level.ERROR: "bold $error",
}
INDENT = " " * 6


def doctor_lines(found: Sequence[Finding], *, everything: bool) -> list[list[Part]]:
    """A list of parts for each line; without ``everything``, passed checks are only counted."""
    lines: list[list[Part]] = []
    for heading, under in groups(found):
        shown = [finding for finding in under if everything or finding.level is not Level.OK]
        fine = len(under) - len(shown)
        if lines:
            lines.append([("", "")])
        said = f"  {fine} fine" if fine else ""
        lines.append([(heading, "bold $primary"), (said, "$foreground 65%")])
        for finding in shown:
            lines.append(
                [
                    (f"{MARKS[finding.level]:<{len(INDENT)}}", STYLES[finding.level]),
                    (printable(finding.what), ""),
                ]
            )
            if finding.level is not Level.OK:
                lines += [[(INDENT + printable(text), "$foreground 75%")] for text in (finding.why,) if text]
                lines += [
                    [(f"{INDENT}fix: ", "bold"), (printable(text), "")]
                    for text in (worded(finding.fix),)
                    if text
                ]
    return lines
