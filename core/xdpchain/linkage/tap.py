# SPDX-License-Identifier: Apache-2.0
"""What a dispatcher needs to record packets on their way through it (`xdpchain.follow`): a filter and the
maps.

The maps' layouts are those of bpf/include/follow.h.
"""

from __future__ import annotations

from collections.abc import Mapping

from xdpchain.bytecode.classic import HEAD
from xdpchain.frozen import frozen
from xdpchain.sys import bpf

__all__ = [
    "FILTER",
    "HEADS",
    "LEAST_SNAP",
    "MOST_SNAP",
    "PASSED",
    "RING",
    "STATE",
    "STATE_SIZE",
    "Tap",
    "make_maps",
]

STATE, HEADS, RING, PASSED = "xdptui_follow", "xdptui_heads", "xdptui_ring", "xdptui_passed"
STATE_SIZE, HEAD_SIZE = 192, 328
RING_SIZE = 1 << 20
"""In bytes: 3,400 records of `HEAD` bytes, enough for 300 packets through a chain of ten."""

LEAST_SNAP, MOST_SNAP = 64, 16384
"""Range of the bytes of a packet that a record keeps."""

MOST_PASSED = 1024

FILTER = "follow_filter"
"""The stub in bpf/following.bpf.c that the filter replaces."""

BPF_F_MMAPABLE = 1 << 10


@frozen
class Tap:
    """A filter as eBPF instructions, the bytes of a packet that it needs, the maps by their names in the
    dispatcher, and the mark for the program. ``snap`` bytes of a packet are recorded, a multiple of 8.
    ``fates``: passed packets are noted in the map `PASSED`.
    """

    instructions: bytes
    needs: int
    maps: Mapping[str, bpf.Fd]
    mark: bytes
    snap: int = HEAD
    fates: bool = False


def make_maps(snap: int = HEAD) -> dict[str, bpf.Fd]:
    """New, zeroed maps for following. The ring holds as many records with ``snap`` packet bytes as it would
    with `HEAD`. Raises KernelRefused, PermissionDenied, Unsupported.
    """
    ring = RING_SIZE << max(0, (snap - 1) // HEAD).bit_length()
    made: dict[str, bpf.Fd] = {}
    try:
        made[STATE] = bpf.map_create(bpf.MapType.ARRAY, 4, STATE_SIZE, 1, name=STATE, flags=BPF_F_MMAPABLE)
        made[HEADS] = bpf.map_create(bpf.MapType.PERCPU_ARRAY, 4, HEAD_SIZE, 1, name=HEADS)
        made[PASSED] = bpf.map_create(bpf.MapType.LRU_HASH, 8, 8, MOST_PASSED, name=PASSED)
        made[RING] = bpf.map_create(bpf.MapType.RINGBUF, 0, 0, ring, name=RING)
    except bpf.BpfError as error:
        for fd in made.values():
            fd.close()
        raise bpf.refusal(error, "the buffers for following packets can't be created") from error
    return made
