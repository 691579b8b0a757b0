# SPDX-License-Identifier: Apache-2.0
"""The kernel memory used by a chain, as reported by the kernel (``memlock`` in proc_pid_fdinfo(5))."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import field

from xdpchain.frozen import frozen
from xdpchain.model.running import Running
from xdpchain.sys import bpf
from xdpchain.sys.while_it_lives import while_it_lives

__all__ = ["ChainMemory", "SlotMemory", "chain_memory"]

NO_PREALLOC = 1
PREALLOCATED = frozenset(
    {
        bpf.MapType.ARRAY,
        bpf.MapType.PERCPU_ARRAY,
        bpf.MapType.PROG_ARRAY,
        bpf.MapType.HASH,
        bpf.MapType.PERCPU_HASH,
        bpf.MapType.LRU_HASH,
        bpf.MapType.LRU_PERCPU_HASH,
    }
)


@frozen
class SlotMemory:
    """Bytes of a slot's own programs (None: its code is in the chain's program), and of the maps that it
    uses. Shared maps count for each slot.
    """

    programs: int | None
    maps: int


@frozen
class ChainMemory:
    """Bytes of the programs on the hook, and of the slots by key."""

    programs: int
    slots: Mapping[str, SlotMemory] = field(default_factory=dict)


def chain_memory(running: Running) -> ChainMemory:
    """Measure a chain. Objects that disappear meanwhile count as 0. Raises PermissionDenied."""
    maps: dict[int, int | None] = {}
    slots = {}
    for slot in running.chain or running.shown or ():
        refs = {ref.id for ref in slot.component.maps}
        maps |= {map_id: _map(map_id) for map_id in refs - maps.keys()}
        # Under static linkage neither exists: programs loaded for verification were freed again.
        ids = {prog_id for prog_id in (slot.program, slot.component.id) if prog_id is not None}
        own = [taken for prog_id in ids if (taken := _program(prog_id)) is not None]
        slots[slot.key] = SlotMemory(sum(own) if own else None, sum(maps[map_id] or 0 for map_id in refs))
    hooks = sum(_program(hook.prog_id) or 0 for hook in running.hooks)
    return ChainMemory(hooks, slots)


@while_it_lives(bpf.prog_by_id)
def _program(prog_id: int) -> int | None:
    """As `_taken`. It does not change as long as the program exists, and its ID is not used again."""
    return _taken(bpf.prog_by_id, prog_id)


def _map(map_id: int) -> int | None:
    """As `_taken`."""
    return _taken(bpf.map_by_id, map_id) if (fixed := _fixed(map_id)) is None else fixed


@while_it_lives(bpf.map_by_id)
def _fixed(map_id: int) -> int | None:
    """As `_taken`, of a map whose memory was all allocated when it was made; None of another."""
    try:
        with bpf.map_by_id(map_id) as fd:
            info = bpf.map_info(fd)
            return bpf.memory_of(fd) if info.type in PREALLOCATED and not info.flags & NO_PREALLOC else None
    except bpf.BpfError:
        return None


def _taken(open_by_id: Callable[[int], bpf.Fd], object_id: int) -> int | None:
    """Bytes of a program or map; None if it is gone."""
    try:
        with open_by_id(object_id) as fd:
            return bpf.memory_of(fd)
    except bpf.BpfError as error:
        if error.errno == errno.ENOENT:
            return None
        raise bpf.refusal(error, "the memory of a chain can't be read") from error
