# SPDX-License-Identifier: Apache-2.0
"""Where the interface of an armed change is now: it may have moved to another network namespace since, and
got another ifindex there. It is known by the program that was swapped in: the kernel gives no id twice.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from xdpchain.errors import KernelRefused, NotFound
from xdpchain.model.chain import Interface
from xdpchain.model.pending_change import PendingChange
from xdpchain.sys import all_netns, bpf, netns
from xdpchain.sys.netlink import Netlink

__all__ = ["Whereabouts", "at_place", "place_of"]

T = TypeVar("T")

PAUSES = (0.0, 0.1, 0.5)
"""Seconds before each look for an interface that left its namespace."""


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """An interface, by its ifindex in the network namespace with this inode, to which ``netlink`` speaks."""

    netlink: Netlink
    ifindex: int
    inode: int

    def on_hook(self, armed: PendingChange) -> int | None:
        """The prog id on its hook; None: none, in the modes of this change. Raises NotFound."""
        link = self.netlink.link(self.ifindex)
        return next(filter(None, (link.program(mode.value) for mode in armed.modes)), None)


@contextlib.contextmanager
def place_of(interface: Interface) -> Iterator[Whereabouts]:
    """Where an interface is that was just seen. Raises NotFound."""
    with Netlink(interface.netns) as netlink:
        yield Whereabouts(netlink, interface.ifindex, netns.inode(interface.netns))


def at_place(armed: PendingChange, home: Whereabouts, call: Callable[[Whereabouts], T]) -> T:
    """Call with the place where the interface of ``armed`` is; ``home`` is where it was when it was armed.

    If nothing runs the change anywhere, that is home: it was overtaken, or the interface is gone. Raises
    KernelRefused if it may be where it can't be seen, and what ``call`` raises.
    """
    hook = _hook(home, armed)
    if armed.new is None or hook in (armed.new, armed.old) or armed.in_gap(hook):
        return call(home)  # without a program there is nothing to know it by
    with _search(armed, home) as found:
        if found is None:
            return call(home)

        def there() -> T:
            with Netlink() as netlink:
                return call(Whereabouts(netlink, found.ifindex, found.inode))

        return netns.run_at(f"/proc/self/fd/{found.descriptor}", there)


GONE = -1


def _hook(home: Whereabouts, armed: PendingChange) -> int | None:
    try:
        return home.on_hook(armed)
    except NotFound:
        return GONE


@dataclass(frozen=True, slots=True)
class _Found:
    descriptor: int
    inode: int
    ifindex: int


@contextlib.contextmanager
def _search(armed: PendingChange, home: Whereabouts) -> Iterator[_Found | None]:
    """Where the program of the change runs, in whichever network namespace; None: nowhere."""
    with contextlib.ExitStack() as held:
        found: list[_Found] = []

        def look() -> bool:
            with Netlink() as netlink:
                for link in netlink.links():
                    if any(attachment.prog_id == armed.new for attachment in link.xdp):
                        number = os.open(netns.OWN, os.O_RDONLY | os.O_CLOEXEC)
                        held.callback(os.close, number)
                        found.append(_Found(number, os.fstat(number).st_ino, link.ifindex))
                        return True
            return False

        complete = False
        for pause in PAUSES:
            time.sleep(pause)
            complete = all_netns.visit(look)
            # What just moves is nowhere for a moment; but then its program lives.
            if found or not (_hook(home, armed) == GONE and bpf.prog_lives(armed.new or 0)):
                break
        if not found and not complete and _hook(home, armed) == GONE:
            raise KernelRefused(
                f"{armed.ifname} can't be found",
                "it left its network namespace, and not all others are visible from here",
            )
        yield found[0] if found else None
