# SPDX-License-Identifier: Apache-2.0
"""What happened to followed packets after XDP_PASS: whether the network stack dropped them, and why.

A driver builds the socket buffer around the packet, so its data begins where the packet began when it passed.
The follower's programs note that address, and raw tracepoints where the kernel frees socket buffers look it
up (bpf/fates.bpf.c). If a driver copies the packet, or it is merged with another or loses an outer header,
nothing is found and its fate is unknown. A buffer's memory is reused for other packets: one that arrives
there replaces the note of the one before.

Tried and rejected: the address of the socket buffer itself, which the XDP program does not know, and the
packet's bytes, which many packets share.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from xdpchain.closing import Closing
from xdpchain.errors import Unsupported
from xdpchain.linkage.tap import PASSED
from xdpchain.model.actions import Action
from xdpchain.sys import bpf, shipped
from xdpchain.sys.kallsyms import kernel_function
from xdpchain.sys.libbpf import LoadFailed, Object
from xdpchain.sys.libbpf.kernel_enums import kernel_enum
from xdpchain.sys.ring import Ring

from .followed import WAIT, Fate, Followed

__all__ = ["Fates"]

WHAT = "the fate of packets after XDP can't be reported"
REASONS = "skb_drop_reason"
_FATE = struct.Struct("=IIQII")


class Fates(Closing):
    """Reports the fates of packets that passed, until it is closed."""

    def __init__(self, passed: bpf.Fd) -> None:
        """``passed`` is the map in which the follower's programs note them. Raises Unsupported, and what the
        kernel refuses.
        """
        self._waiting: deque[tuple[float, Followed]] = deque()
        self._known: dict[tuple[int, int], Fate] = {}
        self._settled: dict[int, int] = {}
        """The last packet of each CPU that was returned: reports about it are now too late."""
        self._reasons = kernel_enum(REASONS)
        if not self._reasons:
            raise Unsupported(
                WHAT, "this kernel reports no drop reasons", "Kernel 5.17 or newer with BTF is needed"
            )
        with contextlib.ExitStack() as held:
            with Object(shipped.read("fates"), "fates") as opened:
                for bpf_map in opened.maps():
                    if bpf_map.name == PASSED:
                        bpf_map.reuse(passed)
                try:
                    opened.load()
                except LoadFailed as error:
                    raise bpf.refusal(error, WHAT, log=error.log) from error
                maps = {
                    created.name: held.enter_context(bpf.Fd(os.dup(created.fd))) for created in opened.maps()
                }
                for program in opened.programs():
                    try:
                        tracepoint = program.section.partition("/")[2]
                        held.enter_context(bpf.trace_attach(program.fd, tracepoint))
                    except bpf.BpfError as error:
                        raise bpf.refusal(error, WHAT) from error
            self._ring = held.enter_context(Ring(maps["xdptui_ring"].fileno()))
            self._held = held.pop_all()

    def read(self) -> None:
        """Read new reports. Call it before packets are read, so that the packet of each report is known."""
        for record in self._ring.drain():
            cpu, packet, place, reason, _ = _FATE.unpack(record)
            if packet <= self._settled.get(cpu, -1):
                continue
            name = self._reasons.get(reason, f"reason {reason}").removeprefix("SKB_DROP_REASON_")
            self._known[cpu, packet] = (
                Fate(name, kernel_function(place)) if place else Fate(without_drop=True)
            )

    def settled(self, packets: Iterable[Followed], *, all_of_them: bool = False) -> list[Followed]:
        """These packets and the waiting ones, in order, up to the first whose fate is still awaited."""
        now = time.monotonic()
        self._waiting += ((now + WAIT, packet) for packet in packets)
        found = []
        while self._waiting:
            until, packet = self._waiting[0]
            if packet.verdict == Action.PASS:
                fate = self._known.pop((packet.cpu, packet.on_cpu), None)
                if fate is None and now < until and not all_of_them:
                    break
                packet = replace(packet, fate=fate or Fate())
            self._waiting.popleft()
            self._settled[packet.cpu] = packet.on_cpu
            found.append(packet)
        if not self._waiting:
            self._known.clear()
        return found

    def close(self) -> None:
        self._held.close()
