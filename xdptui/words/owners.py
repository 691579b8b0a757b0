# SPDX-License-Identifier: Apache-2.0
"""Who owns a program, as text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpchain.model.running import Owner
from xdptui.words.printable import printable

if TYPE_CHECKING:
    from xdpchain.observe.owner_evidence import Evidence

__all__ = ["evidence_lines", "whose"]

WORDS = {Owner.FOREIGN: "somebody else's", Owner.UNKNOWN: "owner unknown"}


def whose(owner: Owner) -> str:
    """``by libxdp``, or ``somebody else's``."""
    return WORDS.get(owner, f"by {owner}")


def evidence_lines(owner: str, evidence: Evidence) -> list[str]:
    """The presumed owner ("": unknown), and the pins of what it loaded, one per line."""
    lines = [f"owner: {owner.removeprefix('of ') or 'not known'}"]
    lines += [f"pin: {pin}{' (of the link)' if pin in evidence.link_pins else ''}" for pin in evidence.pins]
    if not evidence.complete:
        lines.append("not all processes and pins could be checked")
    return [printable(line) for line in lines]
