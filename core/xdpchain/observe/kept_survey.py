# SPDX-License-Identifier: Apache-2.0
"""What runs in a namespace, kept up to date for as long as somebody watches."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Final

from xdpchain.closing import Closing
from xdpchain.errors import NotFound
from xdpchain.model.running import Running
from xdpchain.sys import netns as namespaces
from xdpchain.sys.netlink import Netlink

from .discover import look_at_hook, survey
from .link_watch import Watch
from .pending_state import with_pending

__all__ = ["KeptSurvey"]

MOST_SINGLY: Final = 64
"""If more interfaces changed, a survey of all costs less than looking at each."""


class KeptSurvey(Closing):
    """Surveys a namespace again and again, and reads only what notifications named as changed, what is held
    by a bpf_link (its changes send no notification) and what a pending change is about; all interfaces at
    first, every few seconds (`Watch`), and if asked. So an interface's own packet counts may be that old.

    Use it in one thread at a time, but for `close`. Raises NotFound for an unknown namespace,
    PermissionDenied.
    """

    def __init__(self, netns: str | None = None) -> None:
        self._netns = netns
        self._watch = Watch(netns)
        self._inode = namespaces.inode(netns)
        self._found: dict[int, Running] = {}
        self._unread = True

    @property
    def outdated(self) -> bool:
        """Whether the name now refers to another namespace. Raises NotFound."""
        return namespaces.inode(self._netns) != self._inode

    def wait(self, timeout: float) -> bool:
        """As `Watch.wait`."""
        return self._watch.wait(timeout)

    def look(self, *, whole: bool = False) -> tuple[Running, ...]:
        """As `survey`. ``whole``: read all again."""
        changes = self._watch.take()
        again = changes.changed | {index for index, running in self._found.items() if _silent(running)}
        whole |= changes.everything or len(again) > MOST_SINGLY or self._unread
        self._unread = True  # until it has been read
        for ifindex in changes.gone:
            self._found.pop(ifindex, None)
        if whole:
            found = survey(self._netns)
            self._found = {running.interface.ifindex: running for running in found}
        else:
            found = with_pending(namespaces.inode(self._netns), lambda: self._read(again))
        self._unread = False
        return found

    def _read(self, ifindexes: frozenset[int]) -> tuple[Running, ...]:
        if ifindexes:
            with Netlink(self._netns) as netlink:
                for ifindex in ifindexes:
                    self._found.pop(ifindex, None)
                    with contextlib.suppress(NotFound):  # it is gone
                        self._found[ifindex] = look_at_hook(ifindex, self._netns, netlink)
        return tuple(_bare(self._found[ifindex]) for ifindex in sorted(self._found))

    def close(self) -> None:
        self._watch.close()


def _silent(running: Running) -> bool:
    """Whether what runs there can change without a notification."""
    held = any(hook.link_id is not None for hook in running.hooks)
    return held or running.pending is not None


def _bare(running: Running) -> Running:
    """Without what `with_pending` adds."""
    if running.pending is None and running.settled is None:
        return running
    return replace(running, pending=None, settled=None)
