# SPDX-License-Identifier: Apache-2.0
"""Packets in fragments, followed from outside: tracing programs hand them out whole, beside the records
(``struct follow_whole`` of bpf/follow_trace.bpf.c), and here they come together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from .records import FIXED, HEAD

__all__ = ["WholePackets"]

_TAG = struct.Struct("=IIII")
MOST_WAITING = 256
"""Packets without a record, which are kept: it comes right after, or was lost."""


class WholePackets:
    """Puts whole packets in the place of what records have of them. Pure."""

    def __init__(self, snap: int) -> None:
        self._snap = snap
        self._waiting: dict[tuple[int, int, int], bytes] = {}

    def take(self, samples: Iterable[bytes]) -> None:
        """What was handed out. Raises struct.error for what is too short."""
        for sample in samples:
            cpu, packet, order, _ = _TAG.unpack_from(sample)
            self._waiting[cpu, packet, order] = sample[_TAG.size :]
        while len(self._waiting) > MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]

    def complete(self, record: bytes) -> bytes:
        """The record with the whole packet, as far as it is kept."""
        if len(record) < FIXED.size + HEAD.size:
            return record
        _, _, cpu, packet, order, *_ = FIXED.unpack_from(record)
        whole = self._waiting.pop((cpu, packet, order), None)
        if whole is None:
            return record
        length, _ = HEAD.unpack_from(record, FIXED.size)
        kept = whole[: min(length, self._snap)]
        return record[: FIXED.size] + HEAD.pack(length, len(kept)) + kept
