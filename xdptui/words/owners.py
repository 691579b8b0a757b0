# SPDX-License-Identifier: Apache-2.0
"""Whose program it is, in words. Pure."""

from __future__ import annotations

from xdpchain.model.running import Owner

__all__ = ["whose"]

WORDS = {Owner.FOREIGN: "somebody else's", Owner.UNKNOWN: "owner unknown"}


def whose(owner: Owner) -> str:
    """``by libxdp``, or ``somebody else's``."""
    return WORDS.get(owner, f"by {owner}")
