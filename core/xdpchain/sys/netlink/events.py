# SPDX-License-Identifier: Apache-2.0
"""Notifications about the network devices of a namespace."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from xdpchain.closing import Closing
from xdpchain.sys import netns as namespaces

from .messages import chosen, messages, text
from .transport import NETLINK_ROUTE

__all__ = ["LinkChanges", "LinkEvents"]

_RTMGRP_LINK = 1
_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_AF_BRIDGE = 7
_IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change mask
_HEADER_SIZE = 16
_IFNAME = 3

_BUFFER = 1 << 16
_RECEIVE_BUFFER = 1 << 20  # hundreds of events between two polls; the kernel doubles the value
_SO_RCVBUFFORCE = 33  # not in Python's socket module
_AT_ONCE = 4096  # events to take before poll returns, however fast new ones come


class LinkChanges(NamedTuple):
    """Ifindexes of devices that are new or changed, and of those that are gone; false if there are none.

    ``everything``: events were lost, so anything may have changed: read all links again. ``names``: of the
    changed ones, as far as the events say (those of wireless devices don't).
    """

    changed: frozenset[int] = frozenset()
    gone: frozenset[int] = frozenset()
    everything: bool = False
    names: Mapping[int, str] = MappingProxyType({})

    def __bool__(self) -> bool:
        return self.everything or bool(self.changed or self.gone)

    def then(self, later: LinkChanges) -> LinkChanges:
        """Both, one after the other."""
        if self.everything or later.everything:
            return LinkChanges(everything=True)
        if not self:
            return later
        return LinkChanges(
            self.changed - later.gone | later.changed,
            self.gone - later.changed | later.gone,
            False,
            {**self.names, **later.names},
        )


class LinkEvents(Closing):
    """Notifications of RTNLGRP_LINK: devices created, deleted, renamed, up, down, and XDP programs attached
    over netlink.

    An attachment through bpf_link sends none, so poll the links slowly as well. Subscribe before reading the
    links, or a change in between is lost. Opening raises NetnsError and PermissionDenied.

    For a separate thread::

        while (changes := events.poll(1.0)) is not None:
            if changes: ...

    which ends when any other thread calls close().
    """

    def __init__(self, netns: str | None = None, *, receive_buffer: int = _RECEIVE_BUFFER) -> None:
        self.netns = netns
        self._using = threading.Lock()  # held while waiting on the descriptors or closing them
        self._ending = threading.Lock()
        self._closing = threading.Event()
        self._socket = namespaces.run(netns, _subscribe)
        try:
            _enlarge(self._socket, receive_buffer)
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """A descriptor that becomes readable when something changes, for poll(2)."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the subscription; a poll() in another thread returns None at once. Closing twice is
        harmless.
        """
        with self._ending:
            if self._closing.is_set():
                return
            self._closing.set()
            os.eventfd_write(self._wake, 1)
            with self._using:  # a descriptor closed while a poll waits on it may be reused
                self._socket.close()
                os.close(self._wake)

    def poll(self, timeout_s: float | None) -> LinkChanges | None:
        """Wait for a change, at most ``timeout_s`` seconds (None: forever); return all changes since the last
        call.

        Returns LinkChanges, which is false after a timeout, or None once closed.
        """
        with self._using:
            if self._closing.is_set():
                return None
            ready = select.poll()
            ready.register(self._socket, select.POLLIN)
            ready.register(self._wake, select.POLLIN)
            ready.poll(None if timeout_s is None else max(0, timeout_s) * 1000)
            return None if self._closing.is_set() else self._drain()

    def _drain(self) -> LinkChanges:
        latest: dict[int, str | None] = {}  # by ifindex: the name if known, None for a device that is gone
        everything = False
        for _ in range(_AT_ONCE):
            try:
                data, _, flags, sender = self._socket.recvmsg(_BUFFER, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                everything = True  # some were lost; what the kernel sends from now on is complete again
                continue
            if sender[0] != 0:  # not from the kernel
                continue
            everything |= bool(flags & socket.MSG_TRUNC)
            for kind, _, _, message in messages(data):
                if kind in (_RTM_NEWLINK, _RTM_DELLINK) and len(message) >= _HEADER_SIZE + _IFINFOMSG.size:
                    family, _, ifindex, _, _ = _IFINFOMSG.unpack_from(message, _HEADER_SIZE)
                    # A bridge sends RTM_DELLINK for a port that leaves it: the device still exists.
                    if kind == _RTM_DELLINK and family != _AF_BRIDGE:
                        latest[ifindex] = None
                    else:
                        named = chosen(message, _HEADER_SIZE + _IFINFOMSG.size, (_IFNAME,))
                        latest[ifindex] = text(named.get(_IFNAME))
        gone = frozenset(ifindex for ifindex, name in latest.items() if name is None)
        names = {ifindex: name for ifindex, name in latest.items() if name}
        return LinkChanges(frozenset(latest) - gone, gone, everything, names)


def _subscribe() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
    try:
        sock.bind((0, _RTMGRP_LINK))
    except BaseException:
        sock.close()
        raise
    return sock


def _enlarge(sock: socket.socket, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:  # needs CAP_NET_ADMIN; otherwise net.core.rmem_max is the limit
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
