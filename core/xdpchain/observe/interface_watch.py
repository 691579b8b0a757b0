# SPDX-License-Identifier: Apache-2.0
"""Watch which interfaces exist in a set of namespaces. Namespaces may come and go."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from xdpchain.closing import Closing
from xdpchain.errors import NotFound
from xdpchain.sys import netns as namespaces

from .discover import interfaces
from .link_watch import NAME_POLL, SLOW_POLL, Watch

__all__ = ["Presence", "Present", "names_of"]

ASKED = 0.01
"""Seconds to wait for each named namespace before all their names are looked up again."""


class Present(NamedTuple):
    """An existing interface. If it is deleted and created again its ``identity`` differs: namespace (inode
    number) and ifindex.
    """

    name: str
    identity: tuple[int, int]


There = Mapping[str | None, tuple[Present, ...]]


def names_of(there: There) -> dict[str | None, tuple[str, ...]]:
    """Only the names, by namespace."""
    return {netns: tuple(interface.name for interface in present) for netns, present in there.items()}


class Presence(Closing):
    """Lists the interfaces of namespaces, and waits until it is time to look again.

    ``absent``: the namespaces that did not exist at the last look.
    """

    def __init__(self, netns: Iterable[str | None]) -> None:
        self._wanted = tuple(netns)
        self._kept: dict[str | None, _Names] = {}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.absent: tuple[str | None, ...] = ()

    def look(self) -> dict[str | None, tuple[Present, ...]]:
        """The interfaces of each namespace, by ifindex. Later changes end a `wait`. Lists them all at first
        and every few seconds (`Watch`), and otherwise goes by what the notifications say.
        """
        present: dict[str | None, tuple[Present, ...]] = {}
        absent = []
        for netns in self._wanted:
            try:
                present[netns] = self._names(netns).read()
            except NotFound:
                self._forget(netns)
                present[netns] = ()
                absent.append(netns)
        self.absent = tuple(absent)
        return present

    def _names(self, netns: str | None) -> _Names:
        """Start listening before looking, again if the name now refers to another namespace."""
        inode = namespaces.inode(netns)
        known = self._kept.get(netns)
        if known is None or known.inode != inode:
            self._forget(netns)
            known = self._kept[netns] = _Names(netns, inode)
        return known

    def _forget(self, netns: str | None) -> None:
        known = self._kept.pop(netns, None)
        if known is not None:
            known.watch.close()

    def wait(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for a change or `poke`."""
        # There is no notification of names that appear or go.
        named = sum(netns is not None for netns in self._wanted)
        names = max(NAME_POLL, ASKED * named) if named else SLOW_POLL
        end = time.monotonic() + max(0.0, min(timeout, names if self.absent else SLOW_POLL))
        ready = select.poll()
        ready.register(self._wake, select.POLLIN)
        for kept in self._kept.values():
            ready.register(kept.watch.fileno(), select.POLLIN)
        while True:
            left = end - time.monotonic()
            if ready.poll(max(0.0, min(left, names)) * 1000) or left <= names:
                break
            if any(kept.watch.wait(0) for kept in self._kept.values()):
                break
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def poke(self) -> None:
        """End the current or next `wait`; may be called from a signal handler or another thread."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        for netns in list(self._kept):
            self._forget(netns)
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1


class _Names:
    """The names of one namespace's interfaces."""

    def __init__(self, netns: str | None, inode: int) -> None:
        self._netns, self.inode = netns, inode
        self.watch = Watch(netns)
        self._names: dict[int, str] | None = None

    def read(self) -> tuple[Present, ...]:
        names, self._names = self._names, None  # if reading fails, the next call lists all
        changes, late = self.watch.take()
        if names is None or changes.everything or late:
            names = {interface.ifindex: interface.name for interface in interfaces(self._netns)}
        else:
            for ifindex in changes.gone:
                names.pop(ifindex, None)
            names.update(changes.names)
        self._names = names
        return tuple(Present(name, (self.inode, ifindex)) for ifindex, name in sorted(names.items()))
