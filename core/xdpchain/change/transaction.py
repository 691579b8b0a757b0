# SPDX-License-Identifier: Apache-2.0
"""Apply a plan: lock, look again, build beside, swap, clean up.

The one kernel operation that changes what packets meet is the swap, and it names the program that it
expects to replace. Everything before it is undone by closing descriptors and removing pins; a process
killed before it leaves the old chain (and perhaps pins, which the next change sweeps up); killed after it,
the new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from xdpchain.advice import Do, advise
from xdpchain.errors import Cancelled, NotFound, NotOurs, RaceLost, XdpChainError
from xdpchain.linkage import Built, Linker
from xdpchain.linkage.freplace import FreplaceLinker
from xdpchain.linkage.static import StaticLinker
from xdpchain.linkage.tailcall import RowUpdate, TailcallLinker, in_place
from xdpchain.model.chain import Chain, Interface, Linkage
from xdpchain.model.running import Running
from xdpchain.observe.discover import author_of, look
from xdpchain.observe.pending_pins import forget_settled
from xdpchain.observe.permissions import require_capabilities
from xdpchain.sys import bpf, bpffs, netns

from .author import current_author
from .confirm.arming import Arming, make_way
from .journal.entries import Moment
from .journal.recording import Recording
from .plan import Plan, make_plan
from .stale import sweep
from .swap import swap, took_effect

__all__ = ["LOCK_TIMEOUT", "TRIES", "apply", "edit"]

LOCK_TIMEOUT = 10.0
"""Seconds to wait for another editor to finish."""

TURNED = "its actions or routes were changed since, in its program arrays"

TRIES = 10
"""How often `edit` makes a change anew that lost a race: as often as libxdp does."""

LINKERS: dict[Linkage, Callable[[], Linker]] = {
    Linkage.STATIC: StaticLinker,
    Linkage.FREPLACE: FreplaceLinker,
    Linkage.TAILCALL: TailcallLinker,
}


def apply(
    plan: Plan,
    *,
    progress: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    confirm: float | None = None,
    restores: Moment | None = None,
    warn: Callable[[str], None] | None = None,
) -> Running:
    """Make the plan's candidate run, and return what runs then.

    ``progress`` is told each step before it begins; when ``cancelled`` answers True before the swap,
    nothing is changed and Cancelled is raised. Raises RaceLost if what runs is not what the plan was made
    from (``detail`` says who changed it), Busy if another editor holds the lock, and whatever the linkage,
    the kernel or the driver refuses; PermissionDenied names what this process lacks. After any error the
    interface runs what it ran.

    With ``confirm``, the old chain is kept, and comes back after so many seconds, whatever becomes of this
    process, unless `xdpchain.change.confirm.confirm` is called before; the answer's ``armed`` says so. While
    a change waits for that, another one raises Busy. ``restores`` is for the journal: the state that an undo
    goes back to. ``warn`` is told what went wrong beside the change (a journal that can't be written).
    """
    if plan.empty:
        return plan.running
    require_capabilities()
    tell = progress or (lambda step: None)
    interface = plan.running.interface
    with bpffs.lock(lock_timeout), contextlib.ExitStack() as held:
        tell("compare with what runs")
        now = _unchanged(plan)
        make_way(now)
        if confirm is not None and now.following is not None:
            from xdpchain.follow.inside import take_back  # it needs libpcap and more

            now = take_back(now)  # what may be gone back to must not be a chain that records
        hook = now.hook
        sweep(interface.ifindex, hook.prog_id if hook else None)
        recording = Recording(plan, now, restores)
        arming = None
        if confirm is not None:
            tell("start the guardian of the rollback")
            arming = held.enter_context(Arming(confirm, now))
        # A change that waits to be confirmed needs an old program to go back to.
        turn = in_place(now, plan.candidate) if arming is None else None
        try:
            if turn is not None:
                _turn(turn, plan.candidate, tell, cancelled)
            else:
                _put(interface, now, plan.candidate, tell, cancelled, arming)
        except NotFound:
            _unchanged(plan)  # what was missing went with the interface, or with the chain: say that instead
            raise
        forget_settled(netns.inode(interface.netns), interface.ifindex)
        if now.chain is not None and arming is None and turn is None:
            tell("release the old chain")
            _linker(now.chain.linkage).retire(now)
        after = look(interface.name, interface.netns)
        troubles = (recording.write(after, confirm), _count_on(after))
    for trouble in filter(None, troubles):
        if warn is not None:
            warn(trouble)
    return after


def _count_on(running: Running) -> str:
    """Let counters that were pinned on the interface follow the change; what went wrong, in words, if any.

    The chain runs already: its counters are no reason to fail.
    """
    from xdpchain.observe.trace import retrace

    try:
        retrace(running)
    except XdpChainError as error:
        return f"the change is done, but the pinned counters did not follow: {error}"
    return ""


def edit(
    name: str,
    netns: str | None,
    change: Callable[[Running], Chain],
    *,
    adopts: Callable[[], int | None] | None = None,
    progress: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    tries: int = TRIES,
    confirm: float | None = None,
    restores: Callable[[], Moment | None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> Running:
    """Apply a change that makes sense whatever runs there ("add this component"), and return what runs then.

    ``change`` makes the candidate of what runs; it is asked again when another editor was faster (libxdp
    does not hold the lock while it attaches, and retries in the same way), at most ``tries`` times. Raises
    what ``change``, `plan.make_plan` and `apply` raise; RaceLost after the last try. ``confirm``, ``warn``
    and ``restores`` are as for `apply`; the last is asked after ``change`` was, and so is ``adopts`` (as for
    `plan.make_plan`).
    """
    require_capabilities()  # what can't be read looks like somebody else's
    for left in reversed(range(tries)):
        running = look(name, netns)
        candidate = change(running)
        plan = make_plan(running, candidate, adopts=adopts() if adopts else None)
        try:
            return apply(
                plan,
                progress=progress,
                cancelled=cancelled,
                lock_timeout=lock_timeout,
                confirm=confirm,
                restores=restores() if restores else None,
                warn=warn,
            )
        except RaceLost:
            if not left:
                raise
    raise ValueError(f"{tries} tries are none")


def _unchanged(plan: Plan) -> Running:
    """What runs now, if it is what the plan was made from. Raises RaceLost, NotOurs."""
    interface = plan.running.interface
    now = look(interface.name, interface.netns)
    if now.identity != plan.running.identity:
        raise RaceLost(
            f"{interface} does not run what this change was made from",
            author_of(now) if now.identity[:2] != plan.running.identity[:2] else TURNED,
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
) -> None:
    """Build the candidate, arm its rollback, and swap it in; or take off what runs, for an empty one."""
    with contextlib.ExitStack() as held:
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
                built.pin()
            if arming is not None:
                tell("arm the rollback")
                arming.arm(new, built.chain if built else candidate)
            tell("swap it in" if built else "detach")
            swap(now, built.program if built else None, chain.mode)
        except BaseException:
            if not took_effect(interface, chain.mode, new):
                if arming is not None:
                    arming.call_off()
                if built is not None:
                    built.unpin()
            raise


def _turn(
    turn: RowUpdate, candidate: Chain, tell: Callable[[str], None], cancelled: Callable[[], bool] | None
) -> None:
    """Make the candidate run by one update of a program array."""
    if cancelled is not None and cancelled():
        raise Cancelled("the change was cancelled", "nothing was changed")
    tell(f"set one row of the program array of {candidate.slots[turn.slot].name} (slot {turn.slot})")
    turn.apply()


def _linker(linkage: Linkage) -> Linker:
    return LINKERS[linkage]()
