# SPDX-License-Identifier: Apache-2.0
"""When to look again: link notifications, and a slow poll for changes that send none (attaching through
bpf_link).
"""

from __future__ import annotations

import time
from typing import NamedTuple

from xdpchain.closing import Closing
from xdpchain.sys.netlink import LinkChanges, LinkEvents

__all__ = ["SLOW_POLL", "Seen", "Watch"]

SLOW_POLL = 5.0
"""Seconds after which to look at what sends no notifications, whatever they said."""


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
        self._events = LinkEvents(netns)
        self._slow_poll = slow_poll
        self._due = time.monotonic() + slow_poll
        self._seen = Seen(LinkChanges(everything=True), True)

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds; True when it is time to look again. Returns False at once after
        `close`, which may be called from another thread.
        """
        changes = self._events.poll(max(0.0, min(timeout, self._due - time.monotonic())))
        if changes is None:
            return False
        late = time.monotonic() >= self._due
        if late:
            self._due = time.monotonic() + self._slow_poll
        self._seen = Seen(self._seen.changes.then(changes), self._seen.late or late)
        return late or bool(changes)

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
