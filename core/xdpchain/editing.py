# SPDX-License-Identifier: Apache-2.0
"""Change what runs on an interface: `apply` a plan, or `edit` whatever runs.

The transaction itself (`change.transaction`) knows nothing of what goes along with a change. Here it is put
together: a recording chain gives way to the plain one, the journal keeps the change, and counters that were
pinned on the interface follow it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from xdpchain.change import transaction
from xdpchain.change.journal.recording import Journal
from xdpchain.change.journal.undoing import undo_of
from xdpchain.change.plan import Plan, make_plan
from xdpchain.change.transaction import LOCK_TIMEOUT, Change
from xdpchain.errors import RaceLost, XdpChainError
from xdpchain.linkage.kept_maps import forget_kept, keep_maps, overdue
from xdpchain.model.chain import Chain, Interface
from xdpchain.model.pending_change import State
from xdpchain.model.running import Running
from xdpchain.observe.discover import look
from xdpchain.observe.permissions import require_capabilities

__all__ = ["TRIES", "Edited", "apply", "edit", "undo"]

TRIES = 10
"""How often `edit` makes a change anew that lost a race: as often as libxdp does."""


class Edited(NamedTuple):
    """What an edit did: the plan that was applied, and what runs now."""

    plan: Plan
    running: Running


def apply(
    plan: Plan,
    *,
    progress: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    confirm: float | None = None,
    warn: Callable[[str], None] | None = None,
) -> Running:
    """Make the plan's candidate run, and return what runs then.

    ``progress`` is told each step before it begins; when ``cancelled`` answers True before the swap,
    nothing is changed and Cancelled is raised. Raises RaceLost if what runs is not what the plan was made
    from (``detail`` says who changed it), Busy if another editor holds the lock for ``lock_timeout``
    seconds, and whatever the linkage, the kernel or the driver refuses; PermissionDenied names what this
    process lacks. After any error the interface runs what it ran.

    With ``confirm``, the old chain is kept, and comes back after so many seconds, whatever becomes of this
    process, unless `xdpchain.confirm` is called before; the answer's ``armed`` says so. While a change waits
    for that, another one raises Busy. ``warn`` is told what went wrong beside the change (a journal that
    can't be written).
    """
    keeping = _KeepMaps()
    try:
        return transaction.apply(
            plan,
            hooks=(_EndFollowing(), keeping, Journal(), _KeepCounting()),
            progress=progress,
            cancelled=cancelled,
            lock_timeout=lock_timeout,
            confirm=confirm,
            warn=warn,
        )
    except BaseException:
        keeping.look_again(plan.running.interface)
        raise


def edit(
    name: str,
    change: Callable[[Running], Chain | Plan],
    *,
    netns: str | None = None,
    progress: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    tries: int = TRIES,
    confirm: float | None = None,
    warn: Callable[[str], None] | None = None,
) -> Edited:
    """Apply a change that makes sense whatever the interface ``name`` runs ("add this component").

    ``change`` makes the candidate of what runs, or a plan of its own (`make_plan`); it is asked again when
    another editor was faster (libxdp does not hold the lock while it attaches, and retries in the same way),
    at most ``tries`` times. Raises what ``change``, `make_plan` and `apply` raise; RaceLost after the last
    try. The other arguments are those of `apply`.
    """
    if tries < 1:
        raise ValueError(f"tries is {tries}: at least 1 is needed")
    require_capabilities()  # what can't be read looks like somebody else's
    while True:
        running = look(name, netns)
        wanted = change(running)
        plan = wanted if isinstance(wanted, Plan) else make_plan(running, wanted)
        tries -= 1
        try:
            return Edited(
                plan,
                apply(
                    plan,
                    progress=progress,
                    cancelled=cancelled,
                    lock_timeout=lock_timeout,
                    confirm=confirm,
                    warn=warn,
                ),
            )
        except RaceLost:
            if not tries or _on_trial(running):
                raise


def _on_trial(running: Running) -> bool:
    """Whether a change was waiting to be confirmed. Who lost a race to its rollback has to look again: the
    edit was made for another chain.
    """
    return running.armed is not None and running.armed.state in (State.ARMED, State.UNGUARDED)


def undo(
    name: str,
    netns: str | None = None,
    *,
    progress: Callable[[str], None] | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    confirm: float | None = None,
    warn: Callable[[str], None] | None = None,
) -> Running:
    """Swap back to the chain before, and return what runs then. Undone again, it goes one further back.

    Raises NothingToUndo, NotFound for a component that can't be had again, and what `apply` raises.
    """
    require_capabilities()
    running = look(name, netns)
    found = undo_of(running)  # holds the maps that are not lost
    plan = make_plan(running, found.candidate, restores=found.restores)
    return apply(plan, progress=progress, lock_timeout=lock_timeout, confirm=confirm, warn=warn)


class _EndFollowing:
    """Puts the plain chain back before a change that waits to be confirmed: a rollback must not bring back a
    chain that records.
    """

    def before(self, change: Change) -> Running | None:
        if change.confirm is None or change.now.following is None:
            return None
        from xdpchain.follow.inside import take_back  # late: needs libpcap, and is rarely wanted

        return take_back(change.now)

    def after(self, change: Change, after: Running) -> str:
        return ""


class _KeepMaps:
    """Pins the maps of slots that leave, where the plan says so, before anything lets go of them; and keeps
    no longer what a chain has.
    """

    def __init__(self) -> None:
        self._kept = False

    def before(self, change: Change) -> None:
        forget_kept(overdue())
        if change.plan.keep_maps:
            stay = {slot.key for slot in change.plan.candidate}
            self._kept = True
            leaving = [slot for slot in change.now.chain or () if slot.key not in stay]
            keep_maps(change.now.interface, leaving)

    def after(self, change: Change, after: Running) -> str:
        forget_kept({ref.id for slot in after.chain or () for ref in slot.component.maps})
        return ""

    def look_again(self, where: Interface) -> None:
        """After a change that failed: whether it took effect or not, what runs now needs no keeping."""
        if self._kept:
            with contextlib.suppress(XdpChainError):
                chain = look(where.name, where.netns).chain
                forget_kept({ref.id for slot in chain or () for ref in slot.component.maps})


class _KeepCounting:
    """Lets counters that were pinned on the interface follow the change. The chain runs already: its
    counters are no reason to fail.
    """

    def before(self, change: Change) -> None:
        """There is nothing to prepare."""

    def after(self, change: Change, after: Running) -> str:
        from xdpchain.observe.trace import retrace

        try:
            retrace(after)
        except XdpChainError as error:
            return f"the change is done, but the pinned counters did not follow: {error}"
        return ""
