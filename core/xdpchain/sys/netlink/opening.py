# SPDX-License-Identifier: Apache-2.0
"""The two sockets of a `Netlink`, opened, or kept for the next one in the same namespace."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from xdpchain.sys import netns as namespaces

from .transport import NETLINK_GENERIC, NETLINK_ROUTE, Transport

__all__ = ["REUSED", "open_sockets", "reuse_sockets"]

Opened = tuple[int, Transport, Transport]
"""The namespace's inode, and the sockets."""


def open_sockets() -> Opened:
    """The inode of the thread's namespace, and sockets in it."""
    inode = os.stat(namespaces.OWN).st_ino
    route = Transport(NETLINK_ROUTE)
    try:
        return inode, route, Transport(NETLINK_GENERIC)
    except BaseException:
        route.close()
        raise


class _Reused:
    """Sockets of named namespaces that nobody uses at the moment, by the namespace's inode: while they are
    open, no other namespace gets its number. A forked copy of the process has no part in them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[int, list[tuple[Transport, Transport]]] = {}
        self._wanted = 0
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._close_idle()

    def _close_idle(self) -> None:
        idle, self._idle = self._idle, {}
        for route, generic in (sockets for some in idle.values() for sockets in some):
            route.close()
            generic.close()

    def take(self, netns: str | None) -> tuple[bool, Opened | None]:
        """Whether such sockets are kept, and what `open_sockets` would give, if any are idle in the namespace
        that the name stands for now.
        """
        if netns is None or not self._wanted:
            return False, None
        inode = namespaces.inode_at(netns)
        with self._lock:
            idle = self._idle.get(inode) if inode is not None else None
            return True, (inode, *idle.pop()) if inode is not None and idle else None

    def give(self, inode: int, route: Transport, generic: Transport) -> bool:
        """Keep these for the next who wants such; False where nothing is kept (any more)."""
        with self._lock:
            if not self._wanted:
                return False
            kept = route.handed_on(), generic.handed_on()
            if kept[0] is not None and kept[1] is not None:  # else they were given before
                self._idle.setdefault(inode, []).append((kept[0], kept[1]))
            return True

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        with self._lock:
            self._wanted += 1
        try:
            yield
        finally:
            with self._lock:
                self._wanted -= 1
                if not self._wanted:
                    self._close_idle()


REUSED = _Reused()
"""Those of this process."""


def reuse_sockets() -> contextlib.AbstractContextManager[None]:
    """Within this, sockets in a named namespace are opened once and used again, as long as the name stands
    for the same namespace: for who opens them hundreds of times. They keep the namespace alive meanwhile.
    """
    return REUSED.keeping()
