# SPDX-License-Identifier: Apache-2.0
"""Apply a plan: lock, look again, build beside, swap, clean up.

The one kernel operation that changes what packets meet is the swap, and it names the program that it
expects to replace. Everything before it is undone by closing descriptors and removing pins; a process
killed before it leaves the old chain (and perhaps pins, which the next change sweeps up); killed after it,
the new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from xdpchain.advice import Do, advise
from xdpchain.errors import Cancelled, InvalidInput, NotFound, NotOurs, RaceLost
from xdpchain.linkage import Built, Linker
from xdpchain.linkage.freplace import FreplaceLinker
from xdpchain.linkage.static import StaticLinker
from xdpchain.linkage.tailcall import RowUpdate, TailcallLinker, in_place
from xdpchain.maps.filling import Filling
from xdpchain.model.chain import Chain, Interface, Linkage
from xdpchain.model.running import Running
from xdpchain.observe.discover import author_of, look
from xdpchain.observe.pending_pins import forget_settled
from xdpchain.observe.permissions import require_capabilities
from xdpchain.sys import bpf, bpffs, netns
from xdpchain.sys.netlink import Netlink

from .author import current_author
from .confirm.arming import Arming, make_way
from .plan import Plan
from .stale import sweep
from .swap import swap, took_effect

__all__ = ["LOCK_TIMEOUT", "Change", "Hook", "apply"]

LOCK_TIMEOUT = 10.0
"""Seconds to wait for another editor to finish."""

TURNED = "its actions or routes were changed since, in its program arrays"

LINKERS: dict[Linkage, Callable[[], Linker]] = {
    Linkage.STATIC: StaticLinker,
    Linkage.FREPLACE: FreplaceLinker,
    Linkage.TAILCALL: TailcallLinker,
}


class Change(NamedTuple):
    """A change under way. ``now`` is what runs before it; ``confirm`` is how many seconds the change waits to
    be confirmed (None: it is final).
    """

    plan: Plan
    now: Running
    confirm: float | None


class Hook(Protocol):
    """What goes along with a change, under its lock. It is called for one change only."""

    def before(self, change: Change) -> Running | None:
        """Called before anything is built. Returns what runs now, if this changed it; an error ends the
        change, and nothing was done.
        """

    def after(self, change: Change, after: Running) -> str:
        """Called when ``after`` runs. Returns what went wrong, in words; it never fails the change."""


def apply(
    plan: Plan,
    *,
    hooks: Sequence[Hook] = (),
    progress: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    confirm: float | None = None,
    warn: Callable[[str], None] | None = None,
) -> Running:
    """Make the plan's candidate run, and return what runs then (`xdpchain.editing.apply`)."""
    if plan.empty:
        return plan.running
    if plan.only_fills and confirm is not None:
        raise InvalidInput(
            "map entries alone can't wait to be confirmed",
            "a rollback brings back programs, not what maps held",
            "Make this change without a time to confirm in",
        )
    require_capabilities()
    tell = progress or (lambda step: None)
    interface = plan.running.interface
    with bpffs.lock(lock_timeout), contextlib.ExitStack() as held:
        tell("compare with what runs")
        netlink = held.enter_context(Netlink(interface.netns))
        now = _unchanged(plan, netlink)
        make_way(now)
        for hook in hooks:
            now = hook.before(Change(plan, now, confirm)) or now
        change = Change(plan, now, confirm)
        sweep(interface.ifindex, now.hook.prog_id if now.hook else None)
        arming = None
        if confirm is not None:
            tell("start the guardian of the rollback")
            arming = held.enter_context(Arming(confirm, now))
        # A change that waits to be confirmed needs an old program to go back to.
        update = in_place(now, plan.candidate) if arming is None else None
        stays = update is not None or plan.only_fills
        try:
            if now.chain is not None and stays:
                _change_in_place(now.chain, update, plan.candidate, interface, tell, cancelled)
            else:
                _put(interface, now, plan.candidate, tell, cancelled, arming, netlink)
        except NotFound:
            _unchanged(
                plan, netlink
            )  # what was missing went with the interface, or with the chain: say that instead
            raise
        forget_settled(netns.inode(interface.netns), interface.ifindex)
        if now.chain is not None and arming is None and not stays:
            tell("release the old chain")
            _linker(now.chain.linkage).retire(now)
        after = look(interface.name, interface.netns, through=netlink)
        troubles = [hook.after(change, after) for hook in hooks]
    for trouble in filter(None, troubles):
        if warn is not None:
            warn(trouble)
    return after


def _unchanged(plan: Plan, netlink: Netlink) -> Running:
    """What runs now, if it is what the plan was made from. Raises RaceLost, NotOurs."""
    interface = plan.running.interface
    now = look(interface.name, interface.netns, through=netlink)
    if now.identity != plan.running.identity:
        why = author_of(now) if now.identity[:2] != plan.running.identity[:2] else TURNED
        if plan.running.armed is not None and now.settled is not None:
            why = f"{now.settled.outcome.text} meanwhile; {why}"
        raise RaceLost(
            f"{interface} does not run what this change was made from",
            why,
            advise(Do.LOOK_AT_LOG, on=interface) | advise(Do.READ_AGAIN),
            detail=f"expected program ids {plan.running.identity[1]}, found {now.identity[1]}",
        )
    if not now.editable and plan.adopts is None:  # its pins were removed meanwhile
        raise NotOurs(f"{interface} can't be changed any more", now.note, now.todo)
    return now


def _put(
    interface: Interface,
    now: Running,
    candidate: Chain,
    tell: Callable[[str], None],
    cancelled: Callable[[], bool] | None,
    arming: Arming | None,
    netlink: Netlink,
) -> None:
    """Build the candidate, arm its rollback, and swap it in; or take off what runs, for an empty one."""
    with contextlib.ExitStack() as held:
        filling = held.enter_context(Filling())
        built: Built | None = None
        new: int | None = None
        if candidate.slots:
            tell(f"load and link {len(candidate)} slots ({candidate.linkage})")
            built = _linker(candidate.linkage).build(candidate, now, current_author())
            held.callback(built.close)
            new = bpf.prog_info(built.program).id
        chain = built.chain if built else now.chain or candidate
        if cancelled is not None and cancelled():
            raise Cancelled("the change was cancelled", "nothing was changed")
        try:
            if built is not None:
                _fill(filling, built.chain, candidate, interface, tell)
                built.pin()
            if arming is not None:
                tell("arm the rollback")
                arming.arm(new, built.chain if built else candidate)
            tell("swap it in" if built else "detach")
            swap(now, built.program if built else None, chain.mode, netlink)
        except BaseException:
            if not took_effect(interface, chain.mode, new):
                if arming is not None:
                    arming.call_off()
                if built is not None:
                    built.unpin()
                filling.take_back()
            raise


def _change_in_place(
    chain: Chain,
    update: RowUpdate | None,
    candidate: Chain,
    interface: Interface,
    tell: Callable[[str], None],
    cancelled: Callable[[], bool] | None,
) -> None:
    """Make the candidate run without another program: by what maps hold, and by one update of a program
    array.
    """
    if cancelled is not None and cancelled():
        raise Cancelled("the change was cancelled", "nothing was changed")
    with Filling() as filling:
        _fill(filling, chain, candidate, interface, tell)
        if update is None:
            return
        tell(f"set one row of the program array of {candidate.slots[update.slot].name} (slot {update.slot})")
        try:
            update.apply()
        except BaseException:
            filling.take_back()
            raise


def _fill(
    filling: Filling, chain: Chain, candidate: Chain, interface: Interface, tell: Callable[[str], None]
) -> None:
    if any(slot.entries for slot in candidate):
        tell("set map entries")
        filling.write(chain, candidate, interface.netns)


def _linker(linkage: Linkage) -> Linker:
    return LINKERS[linkage]()
