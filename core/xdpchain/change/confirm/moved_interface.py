# SPDX-License-Identifier: Apache-2.0
"""Find the interface of a pending change, which may have moved to another network namespace and ifindex. It
is identified by the program that was swapped in, since program IDs are not reused.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from xdpchain.errors import KernelRefused, NotFound
from xdpchain.frozen import frozen
from xdpchain.model.interface import Interface
from xdpchain.model.pending_change import PendingChange
from xdpchain.sys import all_netns, bpf, netns
from xdpchain.sys.netlink import Netlink

__all__ = ["Whereabouts", "at_place", "place_of"]

T = TypeVar("T")

PAUSES = (0.0, 0.1, 0.5)
"""Seconds before each search for an interface that left its namespace."""


@frozen
class Whereabouts:
    """An interface: its ifindex, the inode of its network namespace, and a netlink socket in that."""

    netlink: Netlink
    ifindex: int
    inode: int

    def on_hook(self, pending: PendingChange) -> int | None:
        """The program ID on its hook in the change's modes; None if empty. Raises NotFound."""
        link = self.netlink.link(self.ifindex)
        return next(filter(None, (link.program(mode.value) for mode in pending.modes)), None)


@contextlib.contextmanager
def place_of(interface: Interface) -> Iterator[Whereabouts]:
    """The place of an interface that was just seen. Raises NotFound."""
    with Netlink(interface.netns) as netlink:
        yield Whereabouts(netlink, interface.ifindex, netlink.inode)


def at_place(pending: PendingChange, home: Whereabouts, call: Callable[[Whereabouts], T]) -> T:
    """Call with the current place of the interface of ``pending``; ``home`` is where it was when armed.

    If the change's program runs nowhere, the place is home: it was overtaken, or the interface is gone.
    Raises KernelRefused if it may be in a hidden namespace, and whatever ``call`` raises.
    """
    hook = _hook(home, pending)
    if pending.new is None or hook in (pending.new, pending.old) or pending.in_gap(hook):
        return call(home)  # without a program it can't be identified elsewhere
    with _search(pending, home) as found:
        if found is None:
            return call(home)

        def there() -> T:
            with Netlink() as netlink:
                return call(Whereabouts(netlink, found.ifindex, found.inode))

        return netns.run_at(f"/proc/self/fd/{found.descriptor}", there)


GONE = -1


def _hook(home: Whereabouts, pending: PendingChange) -> int | None:
    try:
        return home.on_hook(pending)
    except NotFound:
        return GONE


@frozen
class _Found:
    descriptor: int
    inode: int
    ifindex: int


@contextlib.contextmanager
def _search(pending: PendingChange, home: Whereabouts) -> Iterator[_Found | None]:
    """Where the change's program runs, in any network namespace; None: nowhere."""
    with contextlib.ExitStack() as held:
        found: list[_Found] = []

        def look() -> bool:
            with Netlink() as netlink:
                for link in netlink.links():
                    if any(attachment.prog_id == pending.new for attachment in link.xdp):
                        fd = os.open(netns.OWN, os.O_RDONLY | os.O_CLOEXEC)
                        held.callback(os.close, fd)
                        found.append(_Found(fd, os.fstat(fd).st_ino, link.ifindex))
                        return True
            return False

        complete = False
        for pause in PAUSES:
            time.sleep(pause)
            complete = all_netns.visit(look)
            # While it moves, it is nowhere for a moment, but its program lives.
            if found or not (_hook(home, pending) == GONE and bpf.prog_lives(pending.new or 0)):
                break
        if not found and not complete and _hook(home, pending) == GONE:
            raise KernelRefused(
                f"{pending.ifname} can't be found",
                "it left its network namespace, and not all others are visible from here",
            )
        yield found[0] if found else None
