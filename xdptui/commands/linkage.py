# SPDX-License-Identifier: Apache-2.0
"""Which linkage a chain gets, and why."""

from __future__ import annotations

from xdpchain.chain import Linkage
from xdpchain.running import Running

__all__ = ["choose", "default"]


def choose(asked: str, running: Running) -> tuple[Linkage, str]:
    """The linkage for ``asked`` (a linkage, or ``auto``), and the reason in words."""
    if asked != "auto":
        return Linkage(asked), "asked for"
    if running.chain is not None:
        return running.chain.linkage, "as the chain that runs"
    return default()


def default() -> tuple[Linkage, str]:
    """What a new chain gets on this machine, and the reason in words."""
    return Linkage.STATIC, "the only one that is built"
