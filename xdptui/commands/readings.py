# SPDX-License-Identifier: Apache-2.0
"""What a chain has counted so far, where that can be had without changing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpchain.errors import XdpChainError
from xdpchain.running import Running

if TYPE_CHECKING:
    from xdpchain.counters import Sample

__all__ = ["totals"]


def totals(running: Running) -> Sample | None:
    """The counters as they stand; None where nothing counts or may be read."""
    if running.counters_map is None:  # also where counters could be attached: they would all stand at zero
        return None
    from xdpchain.counters import open_counters

    try:
        reader = open_counters(running)
    except XdpChainError:  # the chain was replaced a moment ago, or we may not
        return None
    if reader is None:
        return None
    with reader:
        return reader.read()
