# SPDX-License-Identifier: Apache-2.0
"""Packet sockets (packet(7)): raw frames of one device in this thread's network namespace."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator

__all__ = ["incoming", "packet_socket"]

ETH_P_ALL = 0x0003
PACKET_OUTGOING = 4
LONGEST = 1 << 16


def packet_socket(ifname: str, *, receives: bool) -> socket.socket:
    """A socket on a device. Without ``receives`` it queues nothing. Raises OSError."""
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # protocol 0 receives nothing
    try:
        packets.bind((ifname, ETH_P_ALL if receives else 0))
    except BaseException:
        packets.close()
        raise
    return packets


def incoming(
    packets: socket.socket, *, seconds: float, stopped: Callable[[], bool] = lambda: False, step: float = 0.1
) -> Iterator[bytes]:
    """Frames received within ``seconds``, as the network stack sees them: after XDP. Raises OSError."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0 and not stopped():
        if not select.select([packets], [], [], min(step, left))[0]:
            continue
        frame, address = packets.recvfrom(LONGEST)
        if address[2] != PACKET_OUTGOING:
            yield frame
