# SPDX-License-Identifier: Apache-2.0
"""What a slot in shadow would have done, as text. Pure."""

from __future__ import annotations

from xdpchain.model.shadow import WouldHave
from xdptui.words.numbers import share

__all__ = ["shadow_line"]


def shadow_line(outcome: WouldHave, unit: str = "packets") -> str:
    """``would have dropped 0.31 % (12 of 3,871 packets)``, and what else it would have done."""
    if not outcome.all:
        return "no packets yet"
    counts = f"{_number(outcome.dropped)} of {_number(outcome.all)} {unit}"
    parts = [f"dropped {share(outcome.dropped, outcome.all)} ({counts})"]
    if outcome.sent:
        parts.append(f"sent {share(outcome.sent, outcome.all)}")
    if outcome.passed:
        parts.append(f"passed {share(outcome.passed, outcome.all)} past the rest of the chain")
    if outcome.diverted:
        parts.append(f"led {share(outcome.diverted, outcome.all)} to another slot")
    return "would have " + ", ".join(parts)


def _number(value: float) -> str:
    return f"{value:,.0f}"
