# SPDX-License-Identifier: Apache-2.0
"""What a slot in shadow would have done, in words. Pure."""

from __future__ import annotations

from xdpchain.model.shadow import WouldHave
from xdptui.words.numbers import share

__all__ = ["shadow_line"]


def shadow_line(one: WouldHave, unit: str = "packets") -> str:
    """``would have dropped 0.31 % (12 of 3,871 packets)``, and what else it would have done."""
    if not one.all:
        return "no packets yet"
    parts = [f"dropped {share(one.dropped, one.all)} ({_number(one.dropped)} of {_number(one.all)} {unit})"]
    if one.sent:
        parts.append(f"sent {share(one.sent, one.all)}")
    if one.passed:
        parts.append(f"passed {share(one.passed, one.all)} by the rest of the chain")
    if one.diverted:
        parts.append(f"led {share(one.diverted, one.all)} to another slot")
    return "would have " + ", ".join(parts)


def _number(value: float) -> str:
    return f"{value:,.0f}"
