# SPDX-License-Identifier: Apache-2.0
"""What slots returned though their policies forbid it: each time with the packet's head, as the dispatcher
reported it.

The reports wait in a ring buffer (64 KiB, some 500 of them) until somebody reads them; what comes while it is
full is counted, but not reported. Each is read once: of two readers, each gets some.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from xdpchain.closing import Closing
from xdpchain.linkage.policing import ring_of
from xdpchain.model.actions import Action
from xdpchain.model.running import Running
from xdpchain.sys import bpf
from xdpchain.sys.ring import Ring

__all__ = ["Violation", "ViolationReader", "open_violations"]

RECORD = struct.Struct("=QIIII96s")
"""``struct violation`` of bpf/include/violations.h."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A forbidden return code: when (seconds of CLOCK_MONOTONIC), of which slot (its key and name; empty if
    it left the chain since), on which interface the packet came in, its length in bytes, and its first 96.
    """

    at: float
    slot: str
    name: str
    code: Action | int
    ifindex: int
    length: int
    head: bytes


class ViolationReader(Closing):
    """The reports of one chain, oldest first."""

    def __init__(self, running: Running, ring: bpf.Fd) -> None:
        """Raises BpfError."""
        self._slots = {slot.row: slot for slot in running.chain or ()}
        self._ring = Ring(ring.fileno())

    def read(self) -> list[Violation]:
        """What came since the last reading; it never waits."""
        found = []
        for record in self._ring.drain():
            at, ifindex, row, code, length, head = RECORD.unpack(record[: RECORD.size])
            slot = self._slots.get(row)
            known = code in Action.__members__.values()
            found.append(
                Violation(
                    at / 1e9,
                    slot.key if slot else "",
                    slot.name if slot else "",
                    Action(code) if known else code,
                    ifindex,
                    length,
                    head[: min(length, len(head))],
                )
            )
        return found

    def close(self) -> None:
        self._ring.close()


def open_violations(running: Running) -> ViolationReader | None:
    """A reader of the reports of a running chain; None where nothing is forbidden.

    Raises NotFound if the chain is gone, PermissionDenied, KernelRefused.
    """
    try:
        ring = ring_of(running)
        if ring is None:
            return None
        with ring:
            return ViolationReader(running, ring)
    except bpf.BpfError as error:
        raise bpf.refusal(error, "policy violations can't be read") from error
