# SPDX-License-Identifier: Apache-2.0
"""When to look again: link notifications, and a slow poll for changes that send none (attaching through
bpf_link). For the name of a network namespace a quicker one: whoever listens in it keeps it alive, with the
other ends of its veth pairs, until it is looked at again.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

from xdpchain.closing import Closing
from xdpchain.errors import XdpChainError
from xdpchain.sys import netns as namespaces
from xdpchain.sys.netlink import LinkChanges, LinkEvents

__all__ = ["NAME_POLL", "SLOW_POLL", "Seen", "Watch"]

SLOW_POLL = 5.0
"""Seconds after which to look at what sends no notifications, whatever they said."""

NAME_POLL = 0.5
"""Seconds after which to look whether the name of a namespace still refers to it."""


class Seen(NamedTuple):
    """What notifications named since the last time, and whether it is time to look at what sends none."""

    changes: LinkChanges
    late: bool


class Watch(Closing):
    """Waits for changes of a namespace's interfaces and their XDP hooks.

    Create it before looking at the interfaces, or a change in between is missed. Raises NotFound for an
    unknown namespace, PermissionDenied.
    """

    def __init__(self, netns: str | None = None, *, slow_poll: float = SLOW_POLL) -> None:
        self._netns, self._inode = netns, namespaces.inode(netns)
        self._events = LinkEvents(netns)
        self._name_due = math.inf if netns is None else time.monotonic() + NAME_POLL
        self._slow_poll = slow_poll
        self._due = time.monotonic() + slow_poll
        self._seen = Seen(LinkChanges(everything=True), True)

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds; True when it is time to look again. Returns False at once after
        `close`, which may be called from another thread.
        """
        end = min(time.monotonic() + timeout, self._due)
        while True:
            changes = self._events.poll(max(0.0, min(end, self._name_due) - time.monotonic()))
            if changes is None:
                return False
            moved = self._moved()
            if changes or moved or time.monotonic() >= end:
                break
        late = moved or time.monotonic() >= self._due
        if late:
            self._due = time.monotonic() + self._slow_poll
        self._seen = Seen(self._seen.changes.then(changes), self._seen.late or late)
        return late or bool(changes)

    def _moved(self) -> bool:
        """Whether the namespace was deleted, or its name given to another. Asks twice a second."""
        if time.monotonic() < self._name_due:
            return False
        self._name_due = time.monotonic() + NAME_POLL
        try:
            return namespaces.inode(self._netns) != self._inode
        except XdpChainError:  # the next look says why
            return True

    def take(self) -> Seen:
        """What to look at again since the last call, at first everything. Doesn't wait."""
        self.wait(0)
        seen, self._seen = self._seen, Seen(LinkChanges(), False)
        return seen

    def put_off(self, seconds: float) -> None:
        """Look at what sends no notifications no sooner than this from now."""
        self._due = max(self._due, time.monotonic() + seconds)

    def fileno(self) -> int:
        """A descriptor that becomes readable when `wait` would not block, for use with poll(2)."""
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()
