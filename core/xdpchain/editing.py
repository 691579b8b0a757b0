# SPDX-License-Identifier: Apache-2.0
"""Change what runs on an interface: `apply` a plan, or `edit` whatever runs.

The transaction itself (`change.transaction`) knows nothing of what accompanies a change. That is added here:
a recording chain is replaced by the normal one, the journal records the change, and counters pinned on the
interface follow it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypedDict, Unpack
from urllib.parse import unquote

from xdpchain import files
from xdpchain.change import transaction
from xdpchain.change.journal.folders import searched_once
from xdpchain.change.journal.keeping import Journal
from xdpchain.change.journal.store import MOST_INTERFACES
from xdpchain.change.journal.undoing import undo_of
from xdpchain.change.plan import Plan, in_generic, make_plan
from xdpchain.change.under_way import ChangeUnderWay
from xdpchain.errors import RaceLost, XdpChainError
from xdpchain.linkage.kept_maps import forget_kept, keep_maps, overdue
from xdpchain.model.chain import Chain
from xdpchain.model.interface import Interface
from xdpchain.model.naming import some
from xdpchain.model.pending_change import PendingState
from xdpchain.model.running import Running
from xdpchain.observe.discover import look, reuse_sockets
from xdpchain.observe.permissions import require_capabilities

__all__ = ["TRIES", "Edited", "Options", "apply", "apply_all", "edit", "edit_all", "one_by_one", "undo"]

TRIES = 10
"""How often `edit` retries a change that lost a race: as often as libxdp does."""


class Options(TypedDict, total=False):
    """How a change is made; defaults are those of `transaction.apply`.

    ``progress`` is called with each step before it starts. If ``cancelled`` returns True before the swap,
    nothing is changed and Cancelled is raised. ``lock_timeout``: seconds to wait for another editor. ``warn``
    is called with problems that do not stop the change (a journal that can't be written).

    With ``confirm``, the old chain is kept and comes back after that many seconds, whatever happens to this
    process, unless `xdpchain.confirm` is called first; ``pending`` of the result says so. While a change is
    pending, any other change raises Busy.
    """

    progress: Callable[[str], None] | None
    cancelled: Callable[[], bool] | None
    lock_timeout: float
    confirm: float | None
    warn: Callable[[str], None] | None


class Edited(NamedTuple):
    """What an edit did: the plan that was applied, and what runs now."""

    plan: Plan
    running: Running


def apply(plan: Plan, **options: Unpack[Options]) -> Running:
    """Make the plan's candidate run, and return what runs then. ``options`` are those of `Options`.

    Raises RaceLost if what runs is not what the plan was made from (``detail`` says who changed it), Busy if
    another editor holds the lock for too long, PermissionDenied naming what this process lacks, and whatever
    the linkage, the kernel or the driver refuses. After any error the interface runs what it ran before.
    """
    (edited,) = apply_all([plan], **options)
    return edited.running


def apply_all(
    plans: Sequence[Plan],
    *,
    share_maps: bool = False,
    **options: Unpack[Options],
) -> tuple[Edited, ...]:
    """Make the candidates of several plans run, each on its own interface: all of them, or none.

    Everything is built before anything is swapped in; swaps are undone if a later one is refused, even if
    this process is killed. ``share_maps``: a program that is new on several interfaces gets one set of maps.
    One call of `xdpchain.confirm`, for any of the interfaces, confirms all. A plan for the best mode may end
    up in generic mode: the result has the plan that was applied. Options and other errors are those of
    `apply`.
    """
    wanted = list(plans)
    while True:
        keeping = [_KeepMaps(plan.running.interface) for plan in wanted]
        try:
            found = transaction.apply(
                wanted,
                hooks=[(_EndFollowing(), keeps, Journal(), _KeepCounting()) for keeps in keeping],
                share_maps=share_maps,
                **options,
            )
            return tuple(map(Edited, wanted, found))
        except BaseException as error:
            for keeps in keeping:
                keeps.look_again()
            if not isinstance(error, transaction.NativeRefused):
                raise
            wanted = [in_generic(plan, error.error) if plan is error.plan else plan for plan in wanted]


def edit(
    name: str,
    change: Callable[[Running], Chain | Plan],
    *,
    netns: str | None = None,
    made: Plan | None = None,
    tries: int = TRIES,
    **options: Unpack[Options],
) -> Edited:
    """Apply a change that makes sense whatever the interface ``name`` runs ("add this component").

    ``change`` makes the candidate from what runs, or a plan of its own (`make_plan`); it is called again if
    another editor was faster (libxdp does not hold the lock while it attaches, and retries the same way), at
    most ``tries`` times. ``made`` is a plan that already exists, to be tried first. Raises what ``change``,
    `make_plan` and `apply` raise; RaceLost after the last try. ``options`` are those of `Options`.
    """
    plans = () if made is None else (made,)
    (edited,) = edit_all([name], change, netns=netns, made=plans, tries=tries, **options)
    return edited


def edit_all(
    names: Sequence[str],
    change: Callable[[Running], Chain | Plan],
    *,
    netns: str | None = None,
    made: Sequence[Plan] = (),
    share_maps: bool = False,
    tries: int = TRIES,
    **options: Unpack[Options],
) -> tuple[Edited, ...]:
    """The same change on several interfaces: on all of them, or on none (`apply_all`). ``change`` is called
    once for each, and again for all if one lost a race. Options and other errors are those of `edit`.
    """
    if tries < 1:
        raise ValueError(f"tries is {tries}: at least 1 is needed")
    if not made:
        require_capabilities()  # what can't be read looks like somebody else's
    with reuse_sockets():
        while True:
            plans = made or [_planned(look(name, netns), change) for name in names]
            made = ()
            tries -= 1
            try:
                return apply_all(plans, share_maps=share_maps, **options)
            except RaceLost:
                if not tries or any(_on_trial(plan.running) for plan in plans):
                    raise


@contextlib.contextmanager
def one_by_one(warn: Callable[[str], None]) -> Iterator[None]:
    """Within this, what changes of many interfaces have in common is opened and searched once: netlink
    sockets, and the journal. Its entries are synced to disk together; ``warn`` is called at the end if one
    could not be, or there was no room for all.
    """
    with reuse_sockets(), searched_once() as dropped, files.synced_together() as failed:
        yield
    if failed:
        warn(
            "the changes were made, but a power failure now may cost the journal some of them: "
            f"{len(failed)} files could not be synced ({failed[0].strerror})"
        )
    if dropped:
        warn(
            f"the journal has room for {MOST_INTERFACES} interfaces: `undo` and `log` know nothing of this "
            f"change on {some(sorted(unquote(folder.name) for folder in dropped))}"
        )


def _planned(running: Running, change: Callable[[Running], Chain | Plan]) -> Plan:
    wanted = change(running)
    return wanted if isinstance(wanted, Plan) else make_plan(running, wanted)


def _on_trial(running: Running) -> bool:
    """Whether a change was pending. A caller that lost a race to its rollback has to look again: the edit was
    made for a different chain.
    """
    return running.pending is not None and running.pending.state in (
        PendingState.PENDING,
        PendingState.UNGUARDED,
    )


def undo(name: str, netns: str | None = None, **options: Unpack[Options]) -> Running:
    """Swap back to the chain before the last change, and return what runs then. Repeated, it goes one step
    further back. Raises NothingToUndo, NotFound for a component that can't be restored, and what `apply`
    raises.
    """
    require_capabilities()
    running = look(name, netns)
    found = undo_of(running)  # holds the maps that are not lost
    plan = make_plan(running, found.candidate, restores=found.restores, lost=found.lost)
    return apply(plan, **options)


class _EndFollowing:
    """Restores the normal chain before a change that may be rolled back: the rollback must not restore a
    recording chain.
    """

    def before(self, change: ChangeUnderWay) -> Running | None:
        if not change.pending or change.now.following is None:
            return None
        from xdpchain.follow.inside import take_back  # late: needs libpcap, and is rarely wanted

        return take_back(change.now)

    def after(self, change: ChangeUnderWay, after: Running) -> str:
        return ""


class _KeepMaps:
    """Pins the maps of removed slots, where the plan says so, before anything releases them; and releases
    kept maps that a chain uses again.
    """

    def __init__(self, where: Interface) -> None:
        self._where = where
        self._kept = False

    def before(self, change: ChangeUnderWay) -> None:
        forget_kept(overdue())
        if change.plan.keep_maps:
            stay = {slot.key for slot in change.plan.candidate}
            self._kept = True
            leaving = [slot for slot in change.now.chain or () if slot.key not in stay]
            keep_maps(change.now.interface, leaving)

    def after(self, change: ChangeUnderWay, after: Running) -> str:
        forget_kept({ref.id for slot in after.chain or () for ref in slot.component.maps})
        return ""

    def look_again(self) -> None:
        """After a failed change: whether or not it took effect, what runs now needs no keeping."""
        if self._kept:
            with contextlib.suppress(XdpChainError):
                chain = look(self._where.name, self._where.netns).chain
                forget_kept({ref.id for slot in chain or () for ref in slot.component.maps})


class _KeepCounting:
    """Makes counters pinned on the interface follow the change. The chain already runs, so a problem with its
    counters must not make the change fail.
    """

    def before(self, change: ChangeUnderWay) -> None:
        """There is nothing to prepare."""

    def after(self, change: ChangeUnderWay, after: Running) -> str:
        from xdpchain.observe.trace import retrace

        try:
            retrace(after)
        except XdpChainError as error:
            return f"the change was made, but the pinned counters were not updated: {error}"
        return ""
