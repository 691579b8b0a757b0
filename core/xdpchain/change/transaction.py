# SPDX-License-Identifier: Apache-2.0
"""Apply a plan: lock, look again, build, swap, clean up.

The swap is the only kernel operation that affects packets, and it names the program that it expects to
replace. Everything before it is undone by closing descriptors and removing pins. A process killed before the
swap leaves the old chain (and perhaps pins, which the next change removes); killed after it, the new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from xdpchain.advice import Do, advise
from xdpchain.errors import (
    Cancelled,
    InvalidInput,
    KernelRefused,
    NotFound,
    NotOurs,
    RaceLost,
    XdpChainError,
)
from xdpchain.linkage import Built
from xdpchain.linkage.linkers import LINKERS
from xdpchain.linkage.tailcall import RowUpdate
from xdpchain.linkage.tailcall import in_place as row_update
from xdpchain.maps.filling import Filling
from xdpchain.model.chain import Chain
from xdpchain.model.interface import Mode
from xdpchain.model.running import Running
from xdpchain.objects.components import with_shared_maps
from xdpchain.observe.discover import look_again
from xdpchain.observe.hook import author_of
from xdpchain.observe.permissions import require_capabilities
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.netlink import MtuTooLarge, Netlink, NoNativeXdp

from .author import current_author
from .confirm.arming import WITHOUT_CONFIRM, Arming, make_way
from .confirm.pinning import forget_settled
from .plan import Plan
from .stale import sweep
from .swap import swap, took_effect
from .under_way import ChangeHook, ChangeUnderWay

__all__ = ["LOCK_TIMEOUT", "NativeRefused", "apply"]

LOCK_TIMEOUT = 10.0
"""Seconds to wait for another editor to finish."""

SWAPPING = 60.0
"""Seconds after which an unfinished change without confirmation is rolled back."""

ANOTHER_NETNS = "its name, path or process now refers to another network namespace"
TURNED = "its actions or routes have since been changed in its program arrays"


class NativeRefused(Exception):
    """The kernel or driver refused native mode, and the plan allows generic. Nothing was changed."""

    def __init__(self, plan: Plan, error: XdpChainError) -> None:
        super().__init__(str(error))
        self.plan, self.error = plan, error


def apply(
    plans: Sequence[Plan],
    *,
    hooks: Sequence[Sequence[ChangeHook]],
    share_maps: bool = False,
    progress: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    lock_timeout: float = LOCK_TIMEOUT,
    confirm: float | None = None,
    warn: Callable[[str], None] | None = None,
) -> tuple[Running, ...]:
    """Make the candidates of all plans run, or none, and return what runs then
    (`xdpchain.editing.apply_all`). ``hooks`` are those of each plan. Raises NativeRefused, among others.
    """
    parts = [_Part(plan, each) for plan, each in zip(plans, hooks, strict=True) if not plan.empty]
    if not parts:
        return tuple(plan.running for plan in plans)
    swapped = [part for part in parts if not part.plan.only_fills]
    if confirm is not None and len(swapped) < len(parts):
        raise InvalidInput(
            "a change of map entries alone can't be pending",
            "a rollback restores programs, not map contents",
            "Make this change without --confirm",
        )
    require_capabilities()
    tell = progress or (lambda step: None)
    # All or none, even if this process is killed: its guardian then rolls back.
    whole = len(swapped) > 1 or any(part.plan.moves_mode for part in parts)
    with bpffs.lock(lock_timeout), contextlib.ExitStack() as held:
        tell("compare with the running chain")
        for part in parts:
            part.netlink = held.enter_context(Netlink(part.interface.netns))
            part.prepare(confirm, pending=whole or confirm is not None)
        arming = None
        if whole or confirm is not None:
            tell("start the guardian of the rollback")
            where = [part.interface for part in swapped]
            seconds, instead = (
                (confirm, WITHOUT_CONFIRM) if confirm is not None else (SWAPPING, _apart(swapped))
            )
            arming = held.enter_context(Arming(seconds, where, whole=whole, instead=instead))
        try:
            for part in parts:
                held.callback(part.close)
                with part.named(len(parts)):
                    others = [other.built.chain for other in parts if other.built is not None]
                    part.build(tell, others, share_maps=share_maps, in_place=arming is None)
            if cancelled is not None and cancelled():
                raise Cancelled("the change was cancelled", "nothing was changed")
            _swap(parts, arming, tell)
        except NotFound:
            for part in parts:
                # If the interface or chain disappeared, raise that instead.
                _unchanged(part.plan, part.netlink)
            raise
        if arming is not None and confirm is None:
            arming.keep()
        elif arming is not None:
            arming.made()
        done = {id(part.plan): part.finish(tell, retire=confirm is None) for part in parts}
    for _, troubles in done.values():
        for trouble in filter(None, troubles):
            if warn is not None:
                warn(trouble)
    return tuple(done[id(plan)][0] if id(plan) in done else plan.running for plan in plans)


def _apart(parts: Sequence[_Part]) -> str:
    """An alternative to a change that needs a guardian."""
    if len(parts) > 1:
        return "change one interface at a time"
    return "unload the chain and load it in the other mode"


def _swap(parts: Sequence[_Part], arming: Arming | None, tell: Callable[[str], None]) -> None:
    """Pin what outlives this process, arm the rollback, and swap everything in, or nothing."""
    try:
        for part in parts:
            with part.named(len(parts)):
                part.make_ready(tell)
        if arming is not None:
            tell("arm the rollback")
            for part in parts:
                if part.plan.only_fills:
                    continue
                arming.arm(part.now, part.new, part.built.chain if part.built else part.plan.candidate)
        for part in parts:
            if len(parts) > 1 and arming is not None and arming.decided:
                raise RaceLost("the change was rolled back before it completed", todo=advise(Do.READ_AGAIN))
            with part.named(len(parts)):
                part.swap(tell)
    except BaseException:
        ran = [part for part in parts if part.took_effect()]
        if len(ran) == len(parts):  # interrupted after the last one
            raise
        if arming is not None:
            # Where the mode changes, the hook may be empty.
            if ran or any(part.plan.moves_mode for part in parts):
                arming.roll_back()
            else:
                arming.call_off()
        for part in parts:
            part.take_back()
        raise


class _Part:
    """One interface's part of a change; ``netlink`` is opened under the lock."""

    netlink: Netlink

    def __init__(self, plan: Plan, hooks: Sequence[ChangeHook]) -> None:
        self.plan = plan
        self.interface = plan.running.interface
        self.now = plan.running
        self.built: Built | None = None
        self._hooks = hooks
        self._update: RowUpdate | None = None
        self._filling = Filling()
        self._change = ChangeUnderWay(plan, plan.running, None, False)

    def prepare(self, confirm: float | None, *, pending: bool) -> None:
        """Look again, and call the hooks. Raises RaceLost, NotOurs, Busy."""
        self.now = _unchanged(self.plan, self.netlink)
        make_way(self.now)
        for hook in self._hooks:
            self.now = hook.before(ChangeUnderWay(self.plan, self.now, confirm, pending)) or self.now
        self._change = ChangeUnderWay(self.plan, self.now, confirm, pending)
        sweep(self.interface.ifindex, self.now.hook.prog_id if self.now.hook else None)

    def build(
        self, tell: Callable[[str], None], others: Sequence[Chain], *, share_maps: bool, in_place: bool
    ) -> None:
        """Build the candidate without attaching it; ``others`` were built for other interfaces."""
        candidate = self.plan.candidate
        self._update = row_update(self.now, candidate) if in_place else None
        if self._stays or not candidate.slots:
            return
        candidate = with_shared_maps(candidate, others, every=share_maps)
        tell(f"load and link {len(candidate)} slot{'s' * (len(candidate) != 1)} ({candidate.linkage})")
        self.built = LINKERS[candidate.linkage]().build(candidate, self.now, current_author())

    @property
    def new(self) -> int | None:
        """The program ID to swap in; None: the hook will be empty."""
        return None if self.built is None else bpf.prog_info(self.built.program).id

    @property
    def _mode(self) -> Mode:
        return (self.built.chain if self.built else self.now.chain or self.plan.candidate).mode

    @property
    def _stays(self) -> bool:
        """Whether the program on the hook stays and only its maps change."""
        return self._update is not None or self.plan.only_fills

    def make_ready(self, tell: Callable[[str], None]) -> None:
        """Fill maps, and pin what outlives this process."""
        chain = self.built.chain if self.built else self.now.chain
        if chain is not None and any(slot.entries for slot in self.plan.candidate):
            tell("set map entries")
            self._filling.write(chain, self.plan.candidate, self.interface.netns)
        if self.built is not None:
            self.built.pin()

    def take_back(self) -> None:
        """Undo `make_ready`, unless the new program runs."""
        if not self.took_effect():
            if self.built is not None:
                self.built.unpin()
            self._filling.take_back()

    def close(self) -> None:
        self._filling.close()
        if self.built is not None:
            self.built.close()

    def swap(self, tell: Callable[[str], None]) -> None:
        """The only step that affects packets."""
        if self._update is not None:
            name = self.plan.candidate.slots[self._update.slot].name
            tell(f"set one entry of the program array of {name} (slot {self._update.slot})")
            self._update.apply()
        if self._stays:
            return
        tell("swap it in" if self.built else "detach")
        try:
            swap(self.now, self.built.program if self.built else None, self._mode, self.netlink)
        except (NoNativeXdp, MtuTooLarge, KernelRefused) as error:
            if self.plan.best and self._mode is Mode.NATIVE:
                raise NativeRefused(self.plan, error) from error
            raise

    def took_effect(self) -> bool:
        """Whether it was swapped in after all: an interrupt may come between the swap and its return."""
        return not self._stays and took_effect(self.interface, self._mode, self.new)

    def finish(self, tell: Callable[[str], None], *, retire: bool) -> tuple[Running, list[str]]:
        """Release what ran, unless it may come back; returns what runs now, and messages about what went
        wrong.
        """
        forget_settled(self.now.device.netns_inode, self.interface.ifindex)
        if self.now.chain is not None and retire and not self._stays:
            tell("release the old chain")
            LINKERS[self.now.chain.linkage]().retire(self.now)
        after = look_again(self.now, self.netlink)
        return after, [hook.after(self._change, after) for hook in self._hooks]

    @contextlib.contextmanager
    def named(self, parts: int) -> Iterator[None]:
        """Name the interface in an error if there are several."""
        try:
            yield
        except XdpChainError as error:
            if parts > 1 and str(self.interface) not in error.what:
                error.what = f"{self.interface}: {error.what}"
            raise


def _unchanged(plan: Plan, netlink: Netlink) -> Running:
    """What runs now, if it is what the plan was made from. Raises RaceLost, NotOurs."""
    interface = plan.running.interface
    now = look_again(plan.running, netlink)
    if now.identity != plan.running.identity:
        why = author_of(now) if now.identity[:2] != plan.running.identity[:2] else TURNED
        if now.device.netns_inode != plan.running.device.netns_inode:
            why = ANOTHER_NETNS
        elif plan.running.pending is not None and now.settled is not None:
            why = f"{now.settled.outcome.text} meanwhile; {why}"
        raise RaceLost(
            f"{interface} no longer runs what this change was based on",
            why,
            advise(Do.LOOK_AT_LOG, on=interface) | advise(Do.READ_AGAIN),
            detail=f"expected program ids {plan.running.identity[1]}, found {now.identity[1]}",
        )
    if not now.editable and plan.adopts is None:  # its pins were removed meanwhile
        raise NotOurs(f"{interface} can no longer be changed", now.note, now.todo)
    return now
