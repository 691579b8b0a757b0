# SPDX-License-Identifier: Apache-2.0
"""A device's driver, queues and offloads, by ethtool ioctls.

An ioctl applies to the namespace of its socket; sysfs shows the devices of the namespace that it was mounted
in.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct

from .links import Channels, Offload

__all__ = ["channels", "driver", "offloads", "statistics"]

_SIOCGIFNAME = 0x8910
_SIOCETHTOOL = 0x8946
_GDRVINFO, _GSTRINGS, _GSTATS, _GSSET_INFO, _GFEATURES, _GCHANNELS = 0x3, 0x1B, 0x1D, 0x37, 0x3A, 0x3C
_ETH_SS_STATS, _ETH_SS_FEATURES = 1, 4
_IFNAMSIZ = 16
_IFREQ = 40  # sizeof(struct ifreq) on 64-bit
_DRVINFO = 196  # sizeof(struct ethtool_drvinfo): u32 cmd, then char driver[32], …
_GSTRING_LEN = 32
_SPARE = 256  # entries


def driver(sock: socket.socket, ifindex: int) -> str | None:
    """The driver's name, in the socket's namespace; None for a device without ethtool support (loopback).

    Raises OSError (ENODEV if there is no such device).
    """
    info = _ask(sock, ifindex, struct.pack("=I", _GDRVINFO), _DRVINFO)
    if info is None:
        return None
    name = info[4:36].split(b"\0", 1)[0].decode(errors="replace")
    return name or None


def channels(sock: socket.socket, ifindex: int) -> Channels | None:
    """The device's queues, None if the driver does not report them. Raises OSError."""
    answer = _ask(sock, ifindex, struct.pack("=I", _GCHANNELS), 36)
    if answer is None:
        return None
    _, max_rx, max_tx, _, max_combined, rx, tx, _, combined = struct.unpack("=9I", answer)
    return Channels(max_rx, max_tx, max_combined, rx, tx, combined)


def offloads(sock: socket.socket, ifindex: int) -> tuple[Offload, ...]:
    """The device's features, in the kernel's order; () if it reports none. Raises OSError."""
    names = _names(sock, ifindex, _ETH_SS_FEATURES)
    count = len(names)
    if not names:
        return ()
    words = (count + 31) // 32
    bits = _ask(sock, ifindex, struct.pack("=II", _GFEATURES, words), 8 + 16 * words)
    if bits is None:
        return ()
    blocks = list(struct.iter_unpack("=IIII", bits[8:]))  # available, requested, active, never changed
    found = []
    for i, name in enumerate(names):
        available, _, active, never = (block >> i % 32 & 1 for block in blocks[i // 32])
        if name:
            found.append(Offload(name, bool(active), bool(never or not available)))
    return tuple(found)


def statistics(sock: socket.socket, ifindex: int) -> tuple[tuple[str, int], ...]:
    """The driver's own counters by its names, in its order; () if it has none. Raises OSError.

    Their number may change between two calls (with the number of queues); the result is then ().
    """
    names = _names(sock, ifindex, _ETH_SS_STATS)
    if not names:
        return ()
    head = struct.pack("=II", _GSTATS, len(names))
    # Leave room for more than requested: older kernels write as many as there are now.
    answer = _ask(sock, ifindex, head, 8 + 8 * (len(names) + _SPARE))
    if answer is None or struct.unpack_from("=I", answer, 4)[0] != len(names):
        return ()
    return tuple(zip(names, struct.unpack_from(f"={len(names)}Q", answer, 8), strict=True))


def _names(sock: socket.socket, ifindex: int, which: int) -> list[str]:
    """The names of a set of strings ("" for one without a name)."""
    answer = _ask(sock, ifindex, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << which, 0), 20)
    if answer is None:
        return []
    count = struct.unpack_from("=I", answer, 16)[0]
    head = struct.pack("=III", _GSTRINGS, which, count)
    strings = _ask(sock, ifindex, head, 12 + (count + _SPARE) * _GSTRING_LEN)
    if strings is None or struct.unpack_from("=I", strings, 8)[0] != count:
        return []
    raw = (strings[12 + i * _GSTRING_LEN : 12 + (i + 1) * _GSTRING_LEN] for i in range(count))
    return [name.split(b"\0", 1)[0].decode(errors="replace") for name in raw]


def _ask(sock: socket.socket, ifindex: int, head: bytes, size: int) -> bytes | None:
    """The answer to an ethtool command; None if the device does not support it."""
    request = bytearray(struct.pack(f"={_IFNAMSIZ}si", b"", ifindex).ljust(_IFREQ, b"\0"))
    fcntl.ioctl(sock, _SIOCGIFNAME, request)
    room = ctypes.create_string_buffer(head, size)
    request[_IFNAMSIZ:] = struct.pack("P", ctypes.addressof(room)).ljust(_IFREQ - _IFNAMSIZ, b"\0")
    try:
        fcntl.ioctl(sock, _SIOCETHTOOL, request)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return None
        raise
    return room.raw
