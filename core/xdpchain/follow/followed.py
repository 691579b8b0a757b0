# SPDX-License-Identifier: Apache-2.0
"""A followed packet: as it arrived, what each slot made of it, and what happened to it after. Pure."""

from __future__ import annotations

from xdpchain.bytecode.sites import VerdictSite
from xdpchain.frozen import frozen
from xdpchain.model.actions import Action
from xdpchain.model.link_layer import ETHERNET, LinkLayer

__all__ = ["WAIT", "ByteChange", "Fate", "Followed", "Step", "View", "changes"]


@frozen
class View:
    """A packet at one moment: its length in bytes, and as many of its first bytes as are known."""

    length: int
    head: bytes


@frozen
class ByteChange:
    """Bytes that a slot changed: ``before`` at offset ``at`` of the packet as it entered the slot, ``after``
    at offset ``at_after`` as it left. One of them is empty if bytes were added or removed.
    """

    at: int
    before: bytes
    at_after: int
    after: bytes


@frozen
class Step:
    """What one slot did: its key and component's name, what it returned, the time it took in ns (including
    one clock reading), the packet afterwards, and by how many bytes its start moved (below 0: bytes were
    added in front).
    """

    slot: str
    name: str
    code: int
    ns: int
    view: View
    moved: int
    changes: tuple[ByteChange, ...]
    resized: int = 0
    """By how many bytes the packet grew (below 0: shrank)."""
    site: VerdictSite | None = None
    """Where its code was decided, if that is known."""


WAIT = 0.2
"""Seconds to wait for a packet's fate."""


@frozen
class Fate:
    """What happened to a packet after XDP_PASS. ``reason`` is the kernel's drop reason (`NO_SOCKET`),
    ``function`` the function that dropped it ("": unknown). Without a reason it was freed ``without_drop``,
    or its fate is unknown.
    """

    reason: str = ""
    function: str = ""
    without_drop: bool = False


@frozen
class Followed:
    """A packet's path. ``number`` counts from 1, ``time`` is in ns since 1970, ``verdict`` is what the
    dispatcher returned; ``ns`` is the time from entry to verdict, including recording, and ``clock_ns`` the
    time of one clock reading; ``layer`` is its link layer, ``queue`` the RX queue it arrived on. ``on_cpu``
    is its number among the packets that this CPU recorded, ``fate`` what happened after XDP_PASS, if
    requested.
    """

    number: int
    time: int
    cpu: int
    ifindex: int
    entry: View
    steps: tuple[Step, ...]
    verdict: int
    ns: int
    clock_ns: int
    layer: LinkLayer = ETHERNET
    queue: int = 0
    on_cpu: int = 0
    fate: Fate | None = None

    @property
    def outcome(self) -> Action:
        """What the kernel makes of the verdict: a code that is no action is XDP_ABORTED."""
        known = self.verdict in Action.__members__.values()
        return Action(self.verdict) if known else Action.ABORTED

    @property
    def final(self) -> View:
        """The packet as the last slot left it."""
        return self.steps[-1].view if self.steps else self.entry


def changes(before: View, after: View, moved: int) -> tuple[ByteChange, ...]:
    """The differences that the heads show: bytes added or removed at the front, each run of bytes changed in
    place, and bytes added or removed at the end.

    Bytes added at the front may have made room after the addresses, as a VLAN tag does. The place of the
    addition is then after the unchanged start, if that makes the difference smaller.
    """
    found = _changes(before, after, moved, 0)
    if not moved:
        return found
    longest = min(len(before.head), len(before.head) - moved, len(after.head), len(after.head) + moved)
    other = _changes(before, after, moved, _same(before.head, after.head, longest))
    return other if _size(other) < _size(found) else found


def _same(old: bytes, new: bytes, longest: int) -> int:
    """How many of the first ``longest`` bytes are equal."""
    return next((i for i in range(longest) if old[i] != new[i]), max(0, longest))


def _size(found: tuple[ByteChange, ...]) -> int:
    return sum(len(change.before) + len(change.after) for change in found)


def _changes(before: View, after: View, moved: int, place: int) -> tuple[ByteChange, ...]:
    """The same, for bytes added or removed at ``place``; what is before it must be equal."""
    found = []
    old, new = before.head, after.head
    if moved > 0:
        found.append(ByteChange(place, old[place : place + moved], place, b""))
    elif moved < 0:
        found.append(ByteChange(place, b"", place, new[place : place - moved]))
    at = place + max(0, moved)
    last = min(len(old), len(new) + moved, before.length, after.length + moved)
    while at < last:
        if old[at] == new[at - moved]:
            at += 1
            continue
        start = at
        while at < last and old[at] != new[at - moved]:
            at += 1
        found.append(ByteChange(start, old[start:at], start - moved, new[start - moved : at - moved]))
    # The end of one is inside the other; what lies beyond the heads is unknown.
    if before.length < after.length + moved:
        end = before.length - moved
        if end < len(new):
            found.append(ByteChange(before.length, b"", end, new[end:]))
    elif before.length > after.length + moved:
        end = after.length + moved
        if end < len(old):
            found.append(ByteChange(end, old[end:], after.length, b""))
    return tuple(found)
