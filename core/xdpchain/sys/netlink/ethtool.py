# SPDX-License-Identifier: Apache-2.0
"""Which driver serves a device: ETHTOOL_GDRVINFO.

pyroute2 does not have it, and sysfs shows the devices of the namespace that it was mounted in.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct

__all__ = ["driver"]

_SIOCGIFNAME = 0x8910
_SIOCETHTOOL = 0x8946
_ETHTOOL_GDRVINFO = 0x3
_IFNAMSIZ = 16
_IFREQ = 40  # sizeof(struct ifreq) on 64-bit
_DRVINFO = 196  # sizeof(struct ethtool_drvinfo): u32 cmd, then char driver[32], …


def driver(sock: socket.socket, ifindex: int) -> str | None:
    """The driver's name in the namespace of the socket; None for a device without ethtool support (loopback).

    Raises OSError (ENODEV when there is no such device).
    """
    request = bytearray(struct.pack(f"={_IFNAMSIZ}si", b"", ifindex).ljust(_IFREQ, b"\0"))
    fcntl.ioctl(sock, _SIOCGIFNAME, request)
    info = ctypes.create_string_buffer(struct.pack("=I", _ETHTOOL_GDRVINFO), _DRVINFO)
    request[_IFNAMSIZ:] = struct.pack("P", ctypes.addressof(info)).ljust(_IFREQ - _IFNAMSIZ, b"\0")
    try:
        fcntl.ioctl(sock, _SIOCETHTOOL, request)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return None
        raise
    name = info.raw[4:36].split(b"\0", 1)[0].decode(errors="replace")
    return name or None
