# SPDX-License-Identifier: Apache-2.0
"""The maps that an interface's programs use: a cpumap's drops are reported only with its ID."""

from __future__ import annotations

from collections.abc import Iterable

from xdpchain.model.running import Running
from xdpchain.sys import bpf

__all__ = ["maps_used"]


def maps_used(runnings: Iterable[Running]) -> frozenset[int]:
    """The IDs of the maps of what runs there, as far as readable: of its components, or of a single foreign
    program.
    """
    found: set[int] = set()
    for running in runnings:
        for slot in running.chain or running.shown or ():
            found |= {ref.id for ref in slot.component.maps}
        for hook in running.hooks:
            try:
                with bpf.prog_by_id(hook.prog_id) as program:
                    found |= set(bpf.prog_map_ids(program))
            except OSError:  # gone meanwhile
                continue
    return frozenset(found)
