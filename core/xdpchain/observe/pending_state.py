# SPDX-License-Identifier: Apache-2.0
"""The pending change on an interface, or its outcome, never both.

The state is spread over three places in the kernel: the hook, the pins of the change, and its recorded
outcome, which are updated one after the other when a decision is carried out. To read a consistent state, all
three are read again until the pins before and after reading the hook agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from xdpchain.model.running import Running

from .pending_pins import Found, read_pending, read_pending_of

if TYPE_CHECKING:
    from xdpchain.model.pending_change import ConfirmOutcome, PendingChange

__all__ = ["with_pending", "with_pending_of_one"]

TRIES = 10
"""Most retries because a change was settled meanwhile."""


def with_pending(inode: int, read: Callable[[], tuple[Running, ...]]) -> tuple[Running, ...]:
    """The result of ``read`` for the network namespace with this inode, with pending changes and outcomes
    added.
    """
    before = _Snapshot(inode, *read_pending(inode))
    for _ in range(TRIES):
        running_all = read()
        after = _Snapshot(inode, *read_pending(inode))
        if after == before:
            break
        before = after
    return tuple(after.of(running) for running in running_all)


def with_pending_of_one(
    inode: int, ifindex: int, program: int | None, read: Callable[[], Running]
) -> Running:
    """As `with_pending`, for one interface; ``program`` was on its hook just now. Reads no pins of others."""
    before = _Snapshot(inode, *read_pending_of(inode, ifindex, program))
    for _ in range(TRIES):
        running = read()
        program = running.hook.prog_id if running.hook else None
        after = _Snapshot(inode, *read_pending_of(inode, running.interface.ifindex, program))
        if after == before:
            break
        before = after
    return after.of(running)


class _Snapshot(NamedTuple):
    """The pins: pending changes, also of other network namespaces, and outcomes of this one."""

    inode: int
    pending: tuple[Found, ...]
    settled: Mapping[int, ConfirmOutcome]

    def of(self, running: Running) -> Running:
        ifindex = running.interface.ifindex
        hook = running.hook.prog_id if running.hook else None
        settled = self.settled.get(ifindex)
        if settled is not None and settled.runs != hook:  # something else happened since
            settled = None
        pending = self._pending(ifindex, hook)
        if pending is None or (settled is not None and settled.ends(pending)):
            same = running.pending is None and running.settled is settled
            return running if same else replace(running, pending=None, settled=settled)
        mine = settled is not None and settled.decision == pending.decision
        return replace(running, pending=pending, settled=settled if mine else None)

    def _pending(self, ifindex: int, hook: int | None) -> PendingChange | None:
        for found in self.pending:
            change = found.change
            here = (change.inode, change.ifindex) == (self.inode, ifindex)
            # An interface that moved to another namespace is identified by its program: IDs are not reused.
            if here or (change.inode != self.inode and change.new == hook is not None):
                state = change.state_on(hook, found.decision, guarded=found.guarded)
                return None if state is None else replace(change, state=state)
        return None
