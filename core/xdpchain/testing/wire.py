# SPDX-License-Identifier: Apache-2.0
"""Send and receive frames by packet sockets in a network namespace, and read its devices' counters.

Each object holds descriptors that keep the namespace alive: close it before removing the namespace.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from itertools import islice

from xdpchain.closing import Closing
from xdpchain.frozen import frozen
from xdpchain.sys import netns
from xdpchain.sys.packet_socket import incoming, packet_socket

from .errors import PlaygroundError

__all__ = ["Counters", "DeviceCounters", "Listener", "Sender"]

SO_RCVBUFFORCE = 33  # allows more than net.core.rmem_max, with CAP_NET_ADMIN
RECEIVE_BUFFER = 16 << 20  # bytes; a frame takes at least 768, whatever its length


@frozen
class Counters:
    """What a device received, as the kernel counts it, including packets that XDP dropped.

    ``bytes`` depends on the driver: veth omits the Ethernet header while a native program runs.
    """

    packets: int
    bytes: int
    dropped: int


class DeviceCounters:
    """The receive counters of one namespace's devices: 30 µs per read, without a process or netlink."""

    def __init__(self, namespace: str) -> None:
        # The file keeps showing the namespace of the thread that opened it.
        self._fd = netns.run(
            namespace, lambda: os.open("/proc/thread-self/net/dev", os.O_RDONLY | os.O_CLOEXEC)
        )

    def read(self, ifname: str) -> Counters:
        """The device's current counters. Raises PlaygroundError if it is gone."""
        text = os.pread(self._fd, 1 << 16, 0).decode()
        for line in text.splitlines()[2:]:
            name, _, numbers = line.partition(":")
            if name.strip() == ifname:
                received = [int(number) for number in numbers.split()[:4]]
                return Counters(packets=received[1], bytes=received[0], dropped=received[3])
        raise PlaygroundError(f"Can't count on {ifname}", "the interface is gone")

    def close(self) -> None:
        """Release the namespace."""
        os.close(self._fd)


class Sender:
    """Sends frames through one device, unchanged."""

    def __init__(self, namespace: str, ifname: str) -> None:
        self._socket = netns.run(namespace, lambda: packet_socket(ifname, receives=False))

    def send(self, frames: Iterable[bytes]) -> int:
        """Send them all as fast as the device accepts them; returns their number."""
        sent = 0
        for frame in frames:
            self._socket.send(frame)
            sent += 1
        return sent

    def close(self) -> None:
        """Release the namespace."""
        self._socket.close()


class Listener(Closing):
    """Receives what arrives on one device, as the network stack sees it: after XDP.

    Listens from its creation; thousands of frames may be queued until they are read.
    """

    def __init__(self, namespace: str, ifname: str) -> None:
        self._socket = netns.run(namespace, lambda: packet_socket(ifname, receives=True))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)

    def receive(self, count: int, *, timeout: float = 2.0) -> list[bytes]:
        """The next ``count`` frames in order; fewer if no more arrive within ``timeout`` seconds."""
        return list(islice(incoming(self._socket, seconds=timeout), count))

    def close(self) -> None:
        """Stop listening, and release the namespace."""
        self._socket.close()
