# SPDX-License-Identifier: Apache-2.0
"""A tun device in a playground's namespace: packets written to it arrive through it unchanged."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from xdpchain.sys import netns

from .two_hosts import ip

__all__ = ["NEAR", "PEER", "Tun"]

DEVICE = Path("/dev/net/tun")
TUNSETIFF, TUNSETLINK = 0x400454CA, 0x400454CD
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
NEAR, PEER = "198.51.100.1", "198.51.100.2"


class Tun:
    """``tun0``, up and with an address; ``arphrd`` gives it a type other than ARPHRD_NONE."""

    ifname = "tun0"

    def __init__(self, namespace: str, arphrd: int | None = None) -> None:
        def make() -> int:  # the device belongs to the namespace in which the file was opened
            fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", self.ifname.encode(), IFF_TUN | IFF_NO_PI))
            if arphrd is not None:
                fcntl.ioctl(fd, TUNSETLINK, arphrd)
            return fd

        try:
            self._fd = netns.run(namespace, make)
        except OSError as error:
            pytest.skip(f"{DEVICE}: {error.strerror}")
        ip(namespace, f"addr add {NEAR}/24 dev {self.ifname}", f"link set {self.ifname} up")

    def receive(self, packet: bytes) -> None:
        """Make a packet arrive."""
        os.write(self._fd, packet)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
