# SPDX-License-Identifier: Apache-2.0
"""The cpumaps that an interface's programs use: their drops are reported only with the map's ID."""

from __future__ import annotations

from collections.abc import Iterable

from xdpchain.model.running import Running
from xdpchain.sys import bpf
from xdpchain.sys.while_it_lives import while_it_lives

__all__ = ["cpumaps_used"]


def cpumaps_used(runnings: Iterable[Running]) -> frozenset[int]:
    """The IDs of the cpumaps that components, or a single foreign program, use; as far as readable."""
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
    return frozenset(filter(_is_cpumap, found))


@while_it_lives(bpf.map_by_id)
def _is_cpumap(map_id: int) -> bool:
    """Whether it is one; of a map that is gone nobody asks any more. The kernel uses no ID twice."""
    try:
        with bpf.map_by_id(map_id) as fd:
            return bpf.map_info(fd).type == bpf.MapType.CPUMAP
    except OSError:
        return False
