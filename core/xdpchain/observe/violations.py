# SPDX-License-Identifier: Apache-2.0
"""Policy violations: forbidden return codes with the packet's first bytes, as reported by the chain.

Reports wait in a ring buffer (64 KiB, about 500; under freplace linkage one for each slot) until they are
read; while it is full, violations are counted but not reported. Each report is read once: two readers each
get some of them.
"""

from __future__ import annotations

import struct
from operator import attrgetter

from xdpchain.closing import Closing
from xdpchain.frozen import frozen
from xdpchain.linkage.policing import rings_of
from xdpchain.model.actions import Action
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.sys import bpf
from xdpchain.sys.ring import Ring

__all__ = ["Violation", "ViolationReader", "open_violations"]

RECORD = struct.Struct("=QIIII96s")
"""``struct violation`` of bpf/include/violations.h."""


@frozen
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

    def __init__(self, running: Running) -> None:
        """Raises BpfError, KernelRefused."""
        self._by_row = {slot.row: slot for slot in running.chain or () if slot.row is not None}
        self._rings: list[tuple[Ring, Slot | None]] = []
        try:
            for fd, slot in rings_of(running):
                with fd:
                    self._rings.append((Ring(fd.fileno()), slot))
        except BaseException:
            self.close()
            raise

    def __bool__(self) -> bool:
        """Whether anything is reported."""
        return bool(self._rings)

    def read(self) -> list[Violation]:
        """The violations since the last call. Never blocks."""
        found = []
        for ring, slot in self._rings:
            for record in ring.drain():
                at, ifindex, row, code, length, head = RECORD.unpack(record[: RECORD.size])
                about = slot if slot is not None else self._by_row.get(row)
                known = code in Action.__members__.values()
                found.append(
                    Violation(
                        at / 1e9,
                        about.key if about else "",
                        about.name if about else "",
                        Action(code) if known else code,
                        ifindex,
                        length,
                        head[: min(length, len(head))],
                    )
                )
        return sorted(found, key=attrgetter("at"))

    def close(self) -> None:
        while self._rings:
            self._rings.pop()[0].close()


def open_violations(running: Running) -> ViolationReader | None:
    """A reader of a running chain's reports; None if nothing is forbidden.

    Raises NotFound if the chain is gone, PermissionDenied, KernelRefused.
    """
    try:
        return ViolationReader(running) or None
    except bpf.BpfError as error:
        raise bpf.refusal(error, "policy violations can't be read") from error
