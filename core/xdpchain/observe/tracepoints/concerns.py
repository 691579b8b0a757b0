# SPDX-License-Identifier: Apache-2.0
"""Which maps the programs of an interface use: a cpumap's drops are told by its id alone."""

from __future__ import annotations

from collections.abc import Iterable

from xdpchain.model.running import Running
from xdpchain.sys import bpf

__all__ = ["maps_used"]


def maps_used(runnings: Iterable[Running]) -> frozenset[int]:
    """The ids of the maps of whatever runs there, as far as it can be read: its components', or those of a
    single program of somebody else.
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
