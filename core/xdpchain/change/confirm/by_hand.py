# SPDX-License-Identifier: Apache-2.0
"""Confirm a pending change, or roll it back now."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial

from xdpchain.advice import Do, advise
from xdpchain.change.author import current_author
from xdpchain.change.journal.settling import note_settled
from xdpchain.errors import KernelRefused, NotFound, RaceLost, XdpChainError
from xdpchain.model.manifest import Author
from xdpchain.model.pending_change import ConfirmOutcome, Decision, Outcome, PendingChange, PendingState
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.observe.hook import author_of
from xdpchain.observe.pending_pins import DECISION, all_pending, open_held
from xdpchain.observe.permissions import require_capabilities
from xdpchain.sys import bpf, bpffs, netns
from xdpchain.sys.netlink import Netlink

from .carry_out import carry_out
from .moved_interface import Whereabouts, at_place, place_of
from .pinning import claim

__all__ = ["NotPending", "confirm", "roll_back"]

LOCK_TIMEOUT = 3.0
"""Seconds to wait for another editor. The decision is already made, so nothing depends on the lock."""


class NotPending(NotFound):
    """No change is pending there (any more); ``settled`` is what became of the last one, if that is known."""

    settled: ConfirmOutcome | None = None


def confirm(name: str, netns: str | None = None) -> Running:
    """Keep the pending change on an interface, and on those changed together with it; the old chains are
    released. Returns what runs.

    Raises NotArmed (``why`` says if it was rolled back), RaceLost if another tool changed the chain
    meanwhile, NotFound (no such interface), PermissionDenied.
    """
    return _decide(name, netns, Decision.CONFIRM)


def roll_back(name: str, netns: str | None = None) -> Running:
    """Swap the old chain back now, also on the interfaces changed together with this one. Returns what runs
    then, read from the kernel. Raises as `confirm` does, and what the kernel refuses: then the guardian
    retries.
    """
    return _decide(name, netns, Decision.ROLL_BACK)


def _decide(name: str, netns: str | None, wanted: Decision) -> Running:
    require_capabilities()
    running = look(name, netns)
    pending = running.pending
    if pending is None or pending.state is PendingState.MAKING:
        raise _not_pending(running)
    author = current_author()
    # A rollback that was not requested here was decided by someone else.
    why = f"by {author.user}: {author.command}" if wanted is Decision.ROLL_BACK else ""
    with open_held(pending) as held, place_of(running.interface) as place:
        if not held:
            raise _not_pending(look(name, netns))
        try:
            decision = claim(held[DECISION], wanted)
        except bpf.BpfError as error:
            raise bpf.refusal(error, "the decision can't be made") from error
        with _lock():
            settled = carry_out(pending, decision, held, place, why)
            _carry_out_others(pending, decision, place, author, why)
    now = look(name, netns)
    if decision is not wanted:
        raise NotPending(
            f"no change is pending on {now.interface} any more",
            f"it was {'confirmed' if decision is Decision.CONFIRM else 'rolled back'} a moment ago",
        )
    if settled is not None:
        note_settled(pending, settled, by=author)
        if settled.outcome is Outcome.OVERTAKEN:
            raise RaceLost(
                f"{now.interface} no longer runs the pending change",
                author_of(now),
                "It was left alone, and no change is pending any more; check the chain as it is now",
            )
    hook = now.hook.prog_id if now.hook else None
    if wanted is Decision.ROLL_BACK and hook != pending.old:
        raise KernelRefused(
            f"{now.interface} does not run what it ran before",
            author_of(now),
            advise(Do.LOOK, on=now.interface),
        )
    return now


def _carry_out_others(
    pending: PendingChange, decision: Decision, place: Whereabouts, author: Author, why: str
) -> None:
    """The same on the interfaces changed together with this one. What can't be done now is left to the
    guardian, and to the next change there.
    """
    for found in all_pending():
        other = found.change
        if other.decision != pending.decision or (other.inode, other.ifindex) == (
            pending.inode,
            pending.ifindex,
        ):
            continue
        with contextlib.suppress(OSError, XdpChainError), contextlib.ExitStack() as stack:
            netlink = place.netlink
            if other.inode != place.inode:
                name = netns.name_of(other.inode)
                if name is None:
                    continue
                netlink = stack.enter_context(Netlink(name))
            held = stack.enter_context(open_held(other))
            home = Whereabouts(netlink, other.ifindex, other.inode)
            if held:
                settled = at_place(other, home, partial(carry_out, other, decision, held, why=why))
                if settled is not None:
                    note_settled(other, settled, by=current_author())


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(XdpChainError):
            stack.enter_context(bpffs.lock(LOCK_TIMEOUT))
        yield


def _not_pending(running: Running) -> NotPending:
    where, settled = running.interface, running.settled
    why = "every change there is confirmed or was made without --confirm"
    if settled is not None:
        when = time.strftime("%H:%M:%S", time.localtime(settled.at))
        why = f"at {when} {settled.text}"
    error = NotPending(f"no change is pending on {where}", why)
    error.settled = settled
    return error
