# SPDX-License-Identifier: Apache-2.0
"""When to look again: link notifications, and a slow poll for what sends none (an attachment through
bpf_link).
"""

from __future__ import annotations

import time

from xdpchain.closing import Closing
from xdpchain.sys.netlink import LinkEvents

__all__ = ["SLOW_POLL", "Watch"]

SLOW_POLL = 5.0
"""Seconds after which things may have changed although nobody said so."""


class Watch(Closing):
    """Waits for changes of a namespace's interfaces and their XDP hooks.

    Make it first and look at the interfaces then, or a change between the two is missed. Raises NotFound
    for an unknown namespace, PermissionDenied.
    """

    def __init__(self, netns: str | None = None, *, slow_poll: float = SLOW_POLL) -> None:
        self._events = LinkEvents(netns)
        self._slow_poll = slow_poll
        self._due = time.monotonic() + slow_poll

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds; True when it is time to look again. At once False after
        `close`, which another thread may call.
        """
        changes = self._events.poll(max(0.0, min(timeout, self._due - time.monotonic())))
        if changes is None:
            return False
        late = time.monotonic() >= self._due
        if changes or late:
            self._due = time.monotonic() + self._slow_poll
        return bool(changes) or late

    def fileno(self) -> int:
        """A descriptor that gets readable when `wait` need not: for who waits for several things at once."""
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()
