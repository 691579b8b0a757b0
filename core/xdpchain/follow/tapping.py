# SPDX-License-Identifier: Apache-2.0
"""What a follower reads and controls, wherever the records are written: the three maps of
bpf/include/follow.h.
"""

from __future__ import annotations

import mmap
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xdpchain.bytecode.sites import VerdictSite
from xdpchain.frozen import frozen
from xdpchain.linkage.tap import HEAD_SIZE, HEADS, PASSED, RING, STATE
from xdpchain.sys import bpf
from xdpchain.sys.cpus import possible_cpus
from xdpchain.sys.ring import Ring

__all__ = ["FollowTally", "Keep", "Tapping", "sign_of_life"]

BEAT_AT, GRANTED_AT, TAKEN_AT = 0, 8, 128
TALLY_AT = 32


@frozen
class FollowTally:
    """Packets that the filter looked at, packets that arrived while none were granted, and records that did
    not fit into the ring buffer.
    """

    looked_at: int
    passed_by: int
    lost_records: int


class Keep(NamedTuple):
    """How much to record: how many bytes of a packet, a multiple of 8; whether to note passed packets; how
    many packets to follow before the next grant.
    """

    snap: int
    fates: bool
    granted: int


def sign_of_life(state: mmap.mmap) -> None:
    """Signal that somebody follows; valid for some seconds."""
    struct.pack_into("=Q", state, BEAT_AT, time.monotonic_ns())


class Tapping(ABC):
    """A source of records. ``slots`` are (key, name) by stage, ``sites`` their verdict sites, ``state`` is
    shared with the recording programs. ``remark``: how what is kept differs from what was asked for.
    """

    slots: Mapping[int, tuple[str, str]]
    sites: Mapping[int, Sequence[VerdictSite]]
    remark: str = ""

    def __init__(self, maps: Mapping[str, bpf.Fd], keep: Keep) -> None:
        """Grants ``keep.granted`` packets before anything records: the first that arrives is followed."""
        self.state = mmap.mmap(maps[STATE].fileno(), mmap.PAGESIZE)
        self.grant(keep.granted)
        self._heads = maps[HEADS]
        self.passed = maps[PASSED]
        self._ring = Ring(maps[RING].fileno())

    @property
    def taken(self) -> int:
        """Packets followed since the start."""
        return int(struct.unpack_from("=Q", self.state, TAKEN_AT)[0])

    def live(self) -> None:
        """Give a sign of life."""
        sign_of_life(self.state)

    def grant(self, packets: int) -> None:
        """Allow this many packets to be followed, counted from the start; also gives a sign of life."""
        self.live()
        struct.pack_into("=Q", self.state, GRANTED_AT, packets)

    def read(self) -> list[bytes]:
        """The records that arrived since the last call."""
        return self._ring.drain()

    def tally(self) -> FollowTally:
        """What was not followed, and why."""
        cpus = possible_cpus()
        whole = bpf.map_lookup(self._heads, bytes(4), HEAD_SIZE * cpus)
        counts = [struct.unpack_from("=3Q", whole, HEAD_SIZE * cpu + TALLY_AT) for cpu in range(cpus)]
        return FollowTally(*(sum(column) for column in zip(*counts, strict=True)))

    @abstractmethod
    def why_not(self) -> str:
        """Why nothing is recorded any more; empty while recording."""

    def close(self) -> None:
        """Stop recording."""
        self._ring.close()
        self.state.close()
