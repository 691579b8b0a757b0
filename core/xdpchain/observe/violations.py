# SPDX-License-Identifier: Apache-2.0
"""Policy violations: forbidden return codes with the packet's first bytes, as reported by the dispatcher.

Reports wait in a ring buffer (64 KiB, about 500) until they are read; while it is full, violations are
counted but not reported. Each report is read once: two readers each get some of them.
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
    """A forbidden return code: when (seconds of CLOCK_MONOTONIC), the slot (key and name; empty if it has
    left the chain), the packet's interface, its length in bytes, and its first 96 bytes.
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
        """The violations since the last call. Never blocks."""
        violations = []
        for record in self._ring.drain():
            at, ifindex, row, code, length, head = RECORD.unpack(record[: RECORD.size])
            slot = self._slots.get(row)
            known = code in Action.__members__.values()
            violations.append(
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
        return violations

    def close(self) -> None:
        self._ring.close()


def open_violations(running: Running) -> ViolationReader | None:
    """A reader of a running chain's reports; None if nothing is forbidden.

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
