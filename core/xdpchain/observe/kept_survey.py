# SPDX-License-Identifier: Apache-2.0
"""What runs in a namespace, kept up to date for as long as somebody watches."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
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
MOST_SHARE: Final = 0.02
"""How much of a processor it takes at most to look at what sends no notifications, however much there is."""
WHOLE_POLL: Final = 60.0
"""Seconds after which everything is read again, whatever is known to have changed."""


class KeptSurvey(Closing):
    """Surveys a namespace again and again, and reads only the interfaces that notifications named as changed.

    What sends none is looked at every few seconds (`Watch`, `MOST_SHARE`): programs attached or replaced
    through a bpf_link, drivers' XDP features (the other end of a veth pair has a say in them), and the
    chains, whose program arrays, marks and components change in place. Everything is read at first, if the
    name now refers to another namespace, if asked, and every minute: an interface's own packet counts may be
    that old. What is unchanged is the same object as before, unless a change is pending there or one was
    settled.

    Use it in one thread at a time. Raises NotFound for an unknown namespace, PermissionDenied.
    """

    def __init__(self, netns: str | None = None) -> None:
        self._netns = netns
        self._inode = namespaces.inode(netns)
        self._watch = Watch(netns)
        self._found: dict[int, Running] = {}
        """By ifindex, without pending changes and outcomes."""
        self._whole_due = 0.0
        self._unread = True

    def wait(self, timeout: float) -> bool:
        """As `Watch.wait`."""
        return self._watch.wait(timeout)

    def look(self, *, whole: bool = False) -> tuple[Running, ...]:
        """As `survey`. ``whole``: read all again."""
        self._follow_name()
        changes, late = self._watch.take()
        whole |= changes.everything or self._unread or time.monotonic() >= self._whole_due
        self._unread = True  # until it has been read
        for ifindex in changes.gone:
            self._found.pop(ifindex, None)
        again = changes.changed | (self._changed_silently() if late and not whole else frozenset())
        if whole or len(again) > MOST_SINGLY:
            found = survey(self._netns)
            self._found = {running.interface.ifindex: _bare(running) for running in found}
            self._whole_due = time.monotonic() + WHOLE_POLL
        else:
            found = with_pending(self._inode, lambda: self._read(again))
        self._unread = False
        return found

    def close(self) -> None:
        self._watch.close()

    def _follow_name(self) -> None:
        """A namespace that we listen in lives on when its name is deleted and given to another."""
        inode = namespaces.inode(self._netns)
        if inode != self._inode:
            self._watch.close()
            self._unread = True
            self._watch, self._inode = Watch(self._netns), inode

    def _changed_silently(self) -> frozenset[int]:
        from .hook import read_hook  # late, as in `discover`

        began = time.thread_time()
        with Netlink(self._netns) as netlink:
            hooks, features = netlink.hooks(), netlink.xdp_features()
        changed = set(hooks.keys() ^ self._found.keys())
        for index, running in self._found.items():
            attached, device = hooks.get(index, ()), running.device
            able = None if features is None else features.get(index, frozenset())
            same = able == device.features and attached == tuple((h.mode, h.prog_id) for h in running.hooks)
            if not same or (attached and read_hook(device, attached) != running):
                changed.add(index)
        self._watch.put_off((time.thread_time() - began) / MOST_SHARE)
        return frozenset(changed)

    def _read(self, ifindexes: Iterable[int]) -> tuple[Running, ...]:
        if ifindexes:
            with Netlink(self._netns) as netlink:
                for ifindex in ifindexes:
                    self._found.pop(ifindex, None)
                    with contextlib.suppress(NotFound):  # it is gone
                        self._found[ifindex] = look_at_hook(ifindex, self._netns, netlink)
        return tuple(self._found[ifindex] for ifindex in sorted(self._found))


def _bare(running: Running) -> Running:
    """Without what `with_pending` adds."""
    if running.pending is None and running.settled is None:
        return running
    return replace(running, pending=None, settled=None)
