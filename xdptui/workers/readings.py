# SPDX-License-Identifier: Apache-2.0
"""What a chain has counted so far, if that can be read without starting to count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpchain.errors import XdpChainError
from xdpchain.model.running import Running

if TYPE_CHECKING:
    from xdpchain.observe.counters import Sample

__all__ = ["PAUSE", "counts_already", "totals"]

PAUSE = 0.05
"""Seconds between two notifications that a viewer takes note of, if the next reading is due later."""


def totals(running: Running) -> Sample | None:
    """The current counters; None if nothing counts, or if they may not be read."""
    try:
        if not counts_already(running):
            return None
        from xdpchain.observe.counters import open_counters

        reader = open_counters(running, attach=False)
        if reader is None:
            return None
        with reader:
            return reader.read()
    except XdpChainError:  # the chain was just replaced, or we lack permission
        return None


def counts_already(running: Running) -> bool:
    """Whether counting is already in progress: counters attached now would all be zero."""
    if running.counting is not None:
        return True
    if not running.hooks or running.linkage_facts.counts_chain:
        return False
    from xdpchain.observe.trace import is_traced

    return is_traced(running)
