# SPDX-License-Identifier: Apache-2.0
"""Frames onto a wire and off it, by packet sockets in a network namespace, and what its devices counted.

Each object holds descriptors that keep the namespace alive: close it before the namespace is to go.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from xdpchain.closing import Closing
from xdpchain.sys import netns
from xdpchain.sys.packet_socket import incoming, packet_socket

from .errors import PlaygroundError

__all__ = ["Counters", "DeviceCounters", "Listener", "Sender"]

SO_RCVBUFFORCE = 33  # beyond net.core.rmem_max, for those who may
RECEIVE_BUFFER = 16 << 20  # bytes; a frame takes at least 768, whatever its length


@dataclass(frozen=True, slots=True)
class Counters:
    """What a device received, as the kernel counts it; packets that XDP dropped are among them.

    ``bytes`` follows the driver: veth leaves out the Ethernet header while a native program runs.
    """

    packets: int
    bytes: int
    dropped: int


class DeviceCounters:
    """The receive counters of the devices of one namespace: 30 µs a look, no process and no netlink."""

    def __init__(self, namespace: str) -> None:
        # The file shows the namespace of the thread that opened it, for as long as it is open.
        self._fd = netns.run(
            namespace, lambda: os.open("/proc/thread-self/net/dev", os.O_RDONLY | os.O_CLOEXEC)
        )

    def read(self, ifname: str) -> Counters:
        """The counters of that device now. Raises PlaygroundError when it is gone."""
        text = os.pread(self._fd, 1 << 16, 0).decode()
        for line in text.splitlines()[2:]:
            name, _, numbers = line.partition(":")
            if name.strip() == ifname:
                received = [int(number) for number in numbers.split()[:4]]
                return Counters(packets=received[1], bytes=received[0], dropped=received[3])
        raise PlaygroundError(f"Can't count on {ifname}", "the interface is gone")

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self._fd)


class Sender:
    """Sends frames out of one device exactly as they are."""

    def __init__(self, namespace: str, ifname: str) -> None:
        self._socket = netns.run(namespace, lambda: packet_socket(ifname, receives=False))

    def send(self, frames: Iterable[bytes]) -> int:
        """Send them all, as fast as the device takes them; how many there were."""
        sent = 0
        for frame in frames:
            self._socket.send(frame)
            sent += 1
        return sent

    def close(self) -> None:
        """Let go of the namespace."""
        self._socket.close()


class Listener(Closing):
    """Receives what comes in by one device, as the network stack sees it: after XDP.

    Listens from the moment it is made; thousands of frames may wait for being read.
    """

    def __init__(self, namespace: str, ifname: str) -> None:
        self._socket = netns.run(namespace, lambda: packet_socket(ifname, receives=True))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)

    def receive(self, count: int, *, timeout: float = 2.0) -> list[bytes]:
        """The next ``count`` frames, in their order; fewer when no more came within ``timeout`` seconds."""
        return list(islice(incoming(self._socket, seconds=timeout), count))

    def close(self) -> None:
        """Stop listening, and let go of the namespace."""
        self._socket.close()
