# SPDX-License-Identifier: Apache-2.0
"""A packet generator in the kernel: BPF_F_TEST_XDP_LIVE_FRAMES runs an XDP program on frames that are then
really sent where the program says (kernel 5.18, b530e9e1063e).
"""

from __future__ import annotations

import struct

from xdpchain.sys import bpf, netns
from xdpchain.sys.bpf.call import Command, Memory, bpf_call
from xdpchain.testing.playground import Playground

__all__ = ["Generator"]

LIVE_FRAMES = 1 << 1
BATCH = 64
REDIRECT = 23  # bpf_redirect()


class Generator:
    """Sends frames from the playground's peer to the interface under test."""

    def __init__(self, playground: Playground, frame: bytes) -> None:
        self._namespace = playground.peer_netns
        self._frame = frame
        code = struct.pack("=BBhiBBhiBBhiBBhi", 0xB7, 1, 0, playground.links[0].peer_ifindex,
                           0xB7, 2, 0, 0, 0x85, 0, 0, REDIRECT, 0x95, 0, 0, 0)  # fmt: skip
        self._program = bpf.prog_load(bpf.ProgType.XDP, code, name="generator")

    def send(self, number: int) -> float:
        """Send ``number`` frames; returns the ns per frame for the whole path: made, sent,
        received, judged.
        """
        return float(netns.run(self._namespace, lambda: self._run(number)))

    def _run(self, number: int) -> int:
        memory = Memory()
        attr = struct.pack(
            "<IIIIQQIIIIQQIII",
            self._program, 0, len(self._frame), 0, memory.at(self._frame), 0, number, 0,
            0, 0, 0, 0, LIVE_FRAMES, 0, BATCH,
        )  # fmt: skip
        return int(struct.unpack_from("<I", bpf_call(Command.PROG_TEST_RUN, attr)[1], 36)[0])

    def close(self) -> None:
        self._program.close()
