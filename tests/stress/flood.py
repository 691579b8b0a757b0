# SPDX-License-Identifier: Apache-2.0
"""Numbered packets as fast as the interface takes them, and a record of each one that came through.

Sender and receiver are separate processes. The sender stays only slightly ahead of what the chain has
processed, as counted by its first component, and so never overruns the veth's ring: anything missing was lost
by the interface. Packets for which the receiver's socket had no room were not lost; the kernel counts those.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.stress.children import forking
from xdpchain.model.component import MapRef
from xdpchain.sys import bpf, netns
from xdpchain.sys.cpus import possible_cpus
from xdpchain.testing.frames import scripted
from xdpchain.testing.playground import Playground

__all__ = ["Arrival", "Flood", "counted"]

# veth copies a packet into a buffer of the next multiple of 64 bytes: 66 leaves room for all marks.
LENGTH = 66
SCRIPT = slice(14, 24)
NUMBER = 24
BURST = 32
AHEAD = 96  # frames that may be in flight; a veth's ring holds 256
MOST_SECONDS = 110.0
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_IGNORE_OUTGOING = 23
SO_RCVBUFFORCE = 33
QUIET = 0.5  # seconds without a packet after which none is left


@dataclass(frozen=True)
class Arrival:
    """What came through: for each packet, in order, the index of its kind, and its marks; ``numbers_rise``
    says whether each packet was newer than the one before (no duplicates, no reordering).
    """

    kinds: list[tuple[bytes, str]]
    order: array[int]
    numbers_rise: bool
    no_room: int


def counted(ref: MapRef) -> int:
    """What the sample ``counter`` has counted."""
    with bpf.map_by_id(ref.id) as fd:
        return _sum(fd)


def _sum(fd: bpf.Fd) -> int:
    return sum(struct.unpack(f"={possible_cpus()}Q", bpf.map_lookup(fd, bytes(4), 8 * possible_cpus())))


class Flood:
    """Send frames of all ``scripts`` in turn to the interface, from entry to `stop`."""

    def __init__(self, playground: Playground, scripts: Sequence[bytes], counter: MapRef) -> None:
        self._playground = playground
        self._frames = [scripted(script.ljust(10, b"\2"), length=LENGTH) for script in scripts]
        self._counter = counter
        self._flag = mmap.mmap(-1, mmap.PAGESIZE)  # shared with the children: 1 once it is over

    def __enter__(self) -> Flood:
        self._results, results = forking.Pipe(duplex=False)
        self._sums, sums = forking.Pipe(duplex=False)
        ready, tell = forking.Pipe(duplex=False)
        self._receiver = forking.Process(target=self._receive, args=(tell, results), daemon=True)
        self._receiver.start()
        if not ready.poll(30):
            raise TimeoutError("the receiver does not listen")
        self._sender = forking.Process(target=self._send, args=(sums,), daemon=True)
        self._sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._flag[0] = 1
        for child in (self._sender, self._receiver):
            child.join(10)
            if child.is_alive():
                child.kill()
                child.join()
        self._flag.close()

    def stop(self) -> tuple[int, Arrival]:
        """How many were sent, and what arrived."""
        self._flag[0] = 1
        if not self._sums.poll(30):
            raise TimeoutError("the sender does not answer")
        sent = self._sums.recv()
        if not self._results.poll(30):
            raise TimeoutError("the receiver does not answer")
        kinds, order, rise, no_room = self._results.recv()
        return sent, Arrival(kinds, array("H", order), rise, no_room)

    def _send(self, sums: object) -> None:
        playground = self._playground
        wire = netns.run(playground.peer_netns, lambda: _packet_socket(playground.peer_ifname, 0))
        os.nice(5)  # editors come first: the rate is what is left, and the test is over sooner
        # All from one CPU: packets from two would overtake one another in the kernel.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        numbered = [(bytearray(frame), frame) for frame in self._frames]
        sent, deadline = 0, time.monotonic() + MOST_SECONDS
        with bpf.map_by_id(self._counter.id) as counter:
            start = _sum(counter)
            while not self._flag[0] and time.monotonic() < deadline:
                for _ in range(BURST):
                    frame = numbered[sent % len(numbered)][0]
                    struct.pack_into("=Q", frame, NUMBER, sent)
                    wire.send(frame)
                    sent += 1
                while sent - (_sum(counter) - start) > AHEAD and not self._flag[0]:
                    time.sleep(0)
        sums.send(sent)  # type: ignore[attr-defined]

    def _receive(self, tell: object, results: object) -> None:
        playground = self._playground
        wire = netns.run(playground.netns, lambda: _packet_socket(playground.ifname, 3))
        wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        wire.settimeout(QUIET)
        os.nice(5)
        tell.send(True)  # type: ignore[attr-defined]
        index: dict[tuple[bytes, bytes], int] = {}
        order, rise, newest = array("H"), True, -1
        for frame in self._frames_until_quiet(wire):
            key = (frame[SCRIPT], frame[LENGTH:])
            order.append(index.setdefault(key, len(index)))
            number = int.from_bytes(frame[NUMBER : NUMBER + 8], "little")
            rise &= number > newest
            newest = number
        _, no_room = struct.unpack("=II", wire.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        kinds = [(script, marks.decode()) for script, marks in index]
        results.send((kinds, order.tobytes(), rise, no_room))  # type: ignore[attr-defined]

    def _frames_until_quiet(self, wire: socket.socket) -> Iterator[bytes]:
        while True:
            try:
                yield wire.recv(2048)
            except TimeoutError:
                if self._flag[0]:
                    return


def _packet_socket(ifname: str, protocol: int) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    if protocol:
        made.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    made.bind((ifname, protocol))
    return made
