# SPDX-License-Identifier: Apache-2.0
"""What runs in a namespace, kept up to date for as long as somebody watches."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import Final

from xdpchain.closing import Closing
from xdpchain.errors import NotFound
from xdpchain.model.running import Running
from xdpchain.sys import bpf
from xdpchain.sys import netns as namespaces
from xdpchain.sys.netlink import Netlink, XdpAttachment

from .discover import look_at_hook, survey
from .link_watch import Watch
from .pending_state import with_pending

__all__ = ["KeptSurvey"]

MOST_SINGLY: Final = 64
"""If more interfaces changed, a survey of all costs less than looking at each."""


WHOLE_POLL: Final = 60.0
"""Seconds after which everything is read again, whatever is known to have changed."""


class KeptSurvey(Closing):
    """Surveys a namespace again and again, and reads only what notifications named as changed, what is held
    by a bpf_link (its changes send no notification) and what a pending change is about.

    Every few seconds (`Watch`) it also reads each chain again, since program arrays, marks and components
    change without notification, and whether there are other bpf_links: if so, or if that can't be told,
    everything. Otherwise everything is read at first, every minute, and if asked, so an interface's own
    packet counts may be that old. What is unchanged is the same object as before.

    Use it in one thread at a time, but for `close`. Raises NotFound for an unknown namespace,
    PermissionDenied.
    """

    def __init__(self, netns: str | None = None) -> None:
        self._netns = netns
        self._watch = Watch(netns)
        self._inode = namespaces.inode(netns)
        self._found: dict[int, Running] = {}
        self._links: frozenset[int] | None = None
        self._whole_due = 0.0
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
        changes, late = self._watch.take()
        whole |= changes.everything or self._unread or time.monotonic() >= self._whole_due
        again = changes.changed | {index for index, running in self._found.items() if _silent(running)}
        if late or whole:
            before, self._links = self._links, _link_ids()
            whole |= self._links is None or self._links != before
            again |= frozenset() if whole else self._differing()
        whole |= len(again) > MOST_SINGLY
        self._unread = True  # until it has been read
        for ifindex in changes.gone:
            self._found.pop(ifindex, None)
        if whole:
            found = survey(self._netns)
            self._found = {running.interface.ifindex: running for running in found}
            self._whole_due = time.monotonic() + WHOLE_POLL
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

    def _differing(self) -> frozenset[int]:
        """The interfaces where the programs on the hook now make up something else."""
        from .hook import read_hook  # late, as in `discover`

        return frozenset(
            index
            for index, running in self._found.items()
            if running.hooks and read_hook(running.device, _attachments(running)) != _bare(running)
        )

    def close(self) -> None:
        self._watch.close()


def _link_ids() -> frozenset[int] | None:
    """The IDs of all bpf_links; None if they can't be listed."""
    try:
        return frozenset(bpf.ids(bpf.Command.LINK_GET_NEXT_ID))
    except bpf.BpfError:
        return None


def _attachments(running: Running) -> tuple[XdpAttachment, ...]:
    return tuple(XdpAttachment(hook.mode.value, hook.prog_id) for hook in running.hooks)


def _silent(running: Running) -> bool:
    """Whether what runs there can change without a notification."""
    held = any(hook.link_id is not None for hook in running.hooks)
    return held or running.pending is not None


def _bare(running: Running) -> Running:
    """Without what `with_pending` adds."""
    if running.pending is None and running.settled is None:
        return running
    return replace(running, pending=None, settled=None)
