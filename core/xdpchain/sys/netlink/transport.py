# SPDX-License-Identifier: Apache-2.0
"""One netlink socket: a request is sent, its replies are read.

It is opened in a namespace without a fork, works from any thread and inside a running event loop, and does
not accept an interrupted dump as complete.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
import threading
import time
from functools import cache, cached_property

from xdpchain.errors import Busy, KernelRefused

from .messages import ACK, DONE, DUMP, ERROR, HEADER, ack_text, messages

__all__ = ["NETLINK_GENERIC", "NETLINK_ROUTE", "NETLINK_XFRM", "Refusal", "Transport"]

NETLINK_ROUTE = 0
NETLINK_GENERIC = 16
NETLINK_XFRM = 6

_SO_NETNS_COOKIE = 71  # not in Python's socket module
_SOL_NETLINK = 270
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12

_NLM_F_DUMP_INTR = 0x10

_BUFFER = 1 << 16  # the kernel fills at most 32 KiB of a dump at once
_TIMEOUT_S = 10.0  # answers are ready when sendmsg returns, so nobody waits but for a lost one
_DUMP_ATTEMPTS = 10
# Python calls 95 ENOTSUP; 524 is internal to the kernel, but some drivers return it.
_NAMES = dict(errno.errorcode) | {errno.EOPNOTSUPP: "EOPNOTSUPP", 524: "ENOTSUPP"}


class Refusal(Exception):
    """The kernel's negative answer: its errno (``code``), and the extended ack or what the errno means."""

    def __init__(self, code: int, ack: str) -> None:
        super().__init__(code, ack)
        self.code = code
        self.words = ack or os.strerror(code)

    @property
    def detail(self) -> str:
        """For XdpChainError.detail: the errno's name and the kernel's message."""
        return f"{_NAMES.get(self.code, self.code)}: {self.words}"


class _Interrupted(Exception):
    """The objects changed during the kernel's dump: some may be missing."""

    def __init__(self, replies: list[tuple[int, bytes]]) -> None:
        super().__init__()
        self.replies = replies


class Transport:
    """A netlink socket in the calling thread's namespace. Usable from any thread, one request at a time."""

    def __init__(self, protocol: int) -> None:
        self._lock = threading.Lock()
        self._sequence = int(time.monotonic())
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            for option in (_NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
                try:
                    self.socket.setsockopt(_SOL_NETLINK, option, 1)
                except OSError as error:
                    if error.errno != errno.ENOPROTOOPT:  # before 4.12 and 4.20: less text, same answers
                        raise
            self.socket.setblocking(False)
        except BaseException:
            self.socket.close()
            raise

    @cached_property
    def cookie(self) -> int | None:
        """The kernel's number of the socket's namespace, unique within a boot; None before kernel 5.14."""
        try:
            cookie = self.socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError:
            return None
        return int.from_bytes(cookie, sys.byteorder)

    def close(self) -> None:
        """Close, after waiting for a pending request. Closing twice is harmless."""
        with self._lock:
            self.socket.close()

    def handed_on(self) -> Transport | None:
        """Another one with this socket; this one is closed then. None if it was. Waits as `close` does."""
        with self._lock:
            if self.socket.fileno() < 0:
                return None
            other = Transport.__new__(Transport)
            other.__dict__.update(self.__dict__, _lock=threading.Lock())
            self.socket = _closed_socket()
            return other

    def exchange(self, request: bytes, *, settled: bool = True) -> list[tuple[int, bytes]]:
        """Send a dump, a request that asks for an ack, or one that is answered by one reply; return its
        replies (type, message with header) without the ack.

        Raises Refusal if the kernel answers with an error, and Busy if a dump is interrupted repeatedly; with
        ``settled`` false, such a dump is returned as it is.
        """
        with self._lock:
            if self.socket.fileno() < 0:
                raise ValueError("this netlink socket is closed")
            for attempt in range(1, _DUMP_ATTEMPTS + 1):
                try:
                    return self._once(bytearray(request))
                except _Interrupted as interrupted:
                    if attempt == _DUMP_ATTEMPTS and not settled:
                        return interrupted.replies
        raise Busy(
            "Can't read the list of interfaces",
            f"it changed {_DUMP_ATTEMPTS} times while it was read",
            "Try again when fewer interfaces come and go",
            detail="NLM_F_DUMP_INTR",
        )

    def _once(self, request: bytearray) -> list[tuple[int, bytes]]:
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        struct.pack_into("=I", request, 8, self._sequence)
        more = struct.unpack_from("=H", request, 6)[0] & (ACK | DUMP)
        replies: list[tuple[int, bytes]] = []
        interrupted = False
        try:
            self.socket.sendto(request, (0, 0))
            while True:
                for kind, flags, sequence, message in messages(self._receive()):
                    if sequence != self._sequence:  # left over from an aborted request
                        continue
                    interrupted |= bool(flags & _NLM_F_DUMP_INTR)
                    if kind in (ERROR, DONE):
                        _raise_error(message)
                        if interrupted:
                            raise _Interrupted(replies)
                        return replies
                    replies.append((kind, message))
                    if not more:
                        return replies
        except TimeoutError as error:
            why = f"no answer within {_TIMEOUT_S:.0f} s"
            raise KernelRefused("Can't talk to the kernel over netlink", why, "Try again") from error
        except OSError as error:
            why = error.strerror or str(error)
            raise KernelRefused("Can't talk to the kernel over netlink", why, "Try again") from error

    def _receive(self) -> bytes:
        while True:
            try:
                data, _, flags, sender = self.socket.recvmsg(_BUFFER)
            except BlockingIOError:
                ready = select.poll()
                ready.register(self.socket, select.POLLIN)
                if not ready.poll(_TIMEOUT_S * 1000):
                    raise TimeoutError from None
                continue
            if sender[0] != 0:  # only the kernel has port 0; anything else is from another process
                continue
            if flags & socket.MSG_TRUNC:
                raise KernelRefused("Can't read an answer over netlink", f"it is longer than {_BUFFER} bytes")
            return data


@cache
def _closed_socket() -> socket.socket:
    closed = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC)
    closed.close()
    return closed


def _raise_error(message: bytes) -> None:
    # NLMSG_ERROR and a dump's NLMSG_DONE both begin with the negative errno; old kernels' DONE may be empty.
    if len(message) < HEADER.size + 4:
        return
    code = -struct.unpack_from("=i", message, HEADER.size)[0]
    if code > 0:
        raise Refusal(code, ack_text(message))
