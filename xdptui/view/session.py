# SPDX-License-Identifier: Apache-2.0
"""Everything the program knows at one moment, as one frozen value; each event makes a new one. Pure.

Widgets get parts of it, workers' messages change it, and no other state matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from functools import cached_property

from xdpchain.frozen import frozen
from xdpchain.model.actions import Action
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.pending_change import PendingState as Pending
from xdpchain.model.running import Owner, Running
from xdpchain.model.slot import Slot
from xdptui.view.marks import count, removed
from xdptui.view.rebase import rebase
from xdptui.view.undo_stack import History

__all__ = ["CONFIRM_SECONDS", "BannerState", "Edit", "Order", "Session", "Shown", "running_chain"]


CONFIRM_SECONDS = 60.0
"""How long a change waits for confirmation, if it does."""


class Order(StrEnum):
    """The column by which the interfaces are sorted; INDEX is the kernel's own order."""

    INDEX = "index"
    NAME = "name"
    LINK = "link"
    MODE = "mode"
    OWNER = "owner"
    CHAIN = "chain"
    TRAFFIC = "traffic"
    DRIVER = "driver"


class Shown(StrEnum):
    """Which figure a counter column shows; if there is room for two lines, the second shows its
    counterpart.
    """

    PACKET_RATE = "pkt/s"
    PACKETS = "packets"
    BYTE_RATE = "B/s"
    BYTES = "bytes"

    @property
    def counterpart(self) -> Shown:
        return {
            Shown.PACKET_RATE: Shown.PACKETS,
            Shown.PACKETS: Shown.PACKET_RATE,
            Shown.BYTE_RATE: Shown.BYTES,
            Shown.BYTES: Shown.BYTE_RATE,
        }[self]


class BannerState(Enum):
    """What the banner says about the selected interface."""

    EMPTY = "NO INTERFACE"
    FREE = "FREE"
    FOREIGN = "NOT OURS"
    VIEW = "VIEW ONLY"
    RUNNING = "RUNNING"
    CANDIDATE = "CANDIDATE"
    STALE = "STALE CANDIDATE"
    PENDING = "PENDING"


@dataclass(frozen=True)
class Edit:
    """A candidate being edited: its base, and its versions. ``keep_maps``: keep the maps of removed slots for
    a while.
    """

    base: Running
    history: History[Chain]
    keep_maps: bool = False

    @property
    def candidate(self) -> Chain:
        return self.history.present

    @cached_property
    def changes(self) -> int:
        """The number of slots (and chain-wide settings) that differ; 0 if the candidate equals what runs."""
        return count(self.base.chain, self.candidate)


@frozen
class Session:
    """The selected interface is identified by its ifindex, the selected slot by its place in the chain shown.

    ``linkage`` is the linkage of new chains, and ``linkage_why`` the reason as text; ``freplace_missing`` is
    why freplace linkage is not available here (empty: it is). ``own`` are the interfaces that carry the
    operator's own connection. ``waits`` is the operator's choice for this session whether changes, of any
    interface, must be confirmed (None: none yet); ``own_waits`` is False once that was turned off on an own
    interface; ``unconfirmable`` is why no change can be pending here (empty: it can).
    ``confirm_seconds`` is the setting: how long every change waits (0: only on ``own``).
    ``discarded`` are the candidates that `redone` brings back, by ifindex. ``marked`` are the interfaces that
    a load applies to besides the selected one.
    """

    runnings: tuple[Running, ...] = ()
    surveyed: bool = False
    edits: Mapping[int, Edit] = field(default_factory=dict)
    discarded: Mapping[int, Edit] = field(default_factory=dict)
    selected: int | None = None
    slot: int = 0
    action: Action = Action.PASS
    needle: str = ""
    order: Order = Order.INDEX
    reverse: bool = False
    shown: Shown = Shown.PACKET_RATE
    frozen: bool = False
    missing: tuple[str, ...] = ()
    replaying: bool = False
    linkage: Linkage = Linkage.STATIC
    linkage_why: str = ""
    freplace_missing: str = ""
    traffic: Mapping[int, float] = field(default_factory=dict)
    own: frozenset[int] = frozenset()
    waits: bool | None = None
    own_waits: bool = True
    unconfirmable: str = ""
    confirm_seconds: float = 0
    marked: frozenset[int] = frozenset()

    # Queries

    @property
    def running(self) -> Running | None:
        """The selected interface as it is now."""
        return next((r for r in self.runnings if r.interface.ifindex == self.selected), None)

    @property
    def together(self) -> tuple[Running, ...]:
        """The marked interfaces and the selected one; empty if no other is marked."""
        wanted = self.marked | {self.selected}
        found = tuple(r for r in self.runnings if r.interface.ifindex in wanted)
        return found if len(found) > 1 else ()

    @property
    def edit(self) -> Edit | None:
        return self.edits.get(self.selected) if self.selected is not None else None

    @property
    def chain(self) -> Chain:
        """The candidate if there is one, else the running chain, else an empty chain to start from."""
        if self.edit is not None:
            return self.edit.candidate
        return running_chain(self.running) or Chain(linkage=self.linkage)

    @property
    def base(self) -> Chain | None:
        """The chain that the candidate is compared with."""
        if self.edit is not None:
            return self.edit.base.chain
        return self.running.chain if self.running else None

    @property
    def removed(self) -> tuple[Slot, ...]:
        """Slots that run but are not in the candidate."""
        return removed(self.base, self.chain) if self.edit else ()

    @property
    def keeps_maps(self) -> bool:
        """Whether the candidate removes slots whose maps are to be kept for a while."""
        return bool(self.removed) and self.edit is not None and self.edit.keep_maps

    @property
    def current(self) -> Slot | None:
        """The slot under the cursor."""
        chain = self.chain
        return chain.slots[self.slot] if 0 <= self.slot < len(chain) else None

    @property
    def slot_key(self) -> str | None:
        """The key of the slot under the cursor."""
        return self.current.key if self.current else None

    @property
    def changes(self) -> int:
        return self.edit.changes if self.edit else 0

    @property
    def stale(self) -> bool:
        """Whether another editor changed the chain under the candidate."""
        edit, running = self.edit, self.running
        return edit is not None and running is not None and running.identity != edit.base.identity

    @property
    def confirm(self) -> float | None:
        """Seconds within which a change of the selected interface must be confirmed; None: it need not be."""
        return self.confirm_on(self.selected)

    def confirm_on(self, *ifindexes: int | None, usual: bool = False) -> float | None:
        """Seconds within which a change of these interfaces must be confirmed; None: it need not be.
        ``usual``: it must be, unless the operator turned that off.
        """
        own = self.own_waits and any(ifindex in self.own for ifindex in ifindexes)
        set_so = self.confirm_seconds > 0 or usual if self.waits is None else self.waits
        return self.patience if own or set_so else None

    @property
    def patience(self) -> float:
        """Seconds within which a pending change must be confirmed."""
        return self.confirm_seconds or CONFIRM_SECONDS

    @property
    def read_only(self) -> bool:
        return bool(self.missing) or self.replaying

    @property
    def read_only_why(self) -> str:
        """Why nothing can be edited; empty if it can."""
        if self.replaying:
            return "this is a recording"
        return f"{', '.join(self.missing)} is missing" if self.missing else ""

    @property
    def state(self) -> BannerState:
        running = self.running
        if running is None:
            return BannerState.EMPTY
        if self.changes:
            return BannerState.STALE if self.stale else BannerState.CANDIDATE
        if not running.editable:
            return BannerState.FOREIGN if running.owner is Owner.FOREIGN else BannerState.VIEW
        return BannerState.RUNNING if running.hooks else BannerState.FREE

    @property
    def unsaved(self) -> tuple[Running, ...]:
        """Interfaces with a candidate that differs from what runs."""
        return tuple(
            r for r in self.runnings if (e := self.edits.get(r.interface.ifindex)) is not None and e.changes
        )

    @property
    def waiting(self) -> tuple[Running, ...]:
        """Interfaces with a pending change."""
        if self.replaying:
            return ()
        return tuple(
            r for r in self.runnings if r.pending is not None and r.pending.state is not Pending.SETTLING
        )

    @property
    def visible(self) -> tuple[Running, ...]:
        """The interfaces that pass the filter, sorted."""
        words = self.needle.lower().split()
        found = [r for r in self.runnings if all(word in _haystack(r) for word in words)]
        return tuple(sorted(found, key=self._sort_key(), reverse=self.reverse))

    def _sort_key(self) -> Callable[[Running], tuple[float | str, ...]]:
        if self.order is Order.NAME:
            return lambda r: (r.interface.name,)
        if self.order is Order.LINK:
            return lambda r: (not r.device.up, r.interface.name)
        if self.order is Order.MODE:
            return lambda r: (str(r.mode or "~"), r.interface.name)
        if self.order is Order.OWNER:
            return lambda r: (str(r.owner or "~"), r.interface.name)
        if self.order is Order.CHAIN:
            return lambda r: (-len(running_chain(r) or ()), not r.hooks, r.interface.name)
        if self.order is Order.DRIVER:
            return lambda r: (r.device.driver or "~", r.interface.name)
        if self.order is Order.TRAFFIC:
            return lambda r: (-self.traffic.get(r.interface.ifindex, 0.0), float(r.interface.ifindex))
        return lambda r: (float(r.interface.ifindex),)

    # Events

    def surveyed_as(self, runnings: Iterable[Running]) -> Session:
        """With the interfaces as they are now. The candidates of interfaces that are gone go too."""
        fresh = tuple(runnings)
        here = {r.interface.ifindex for r in fresh}
        by_index = {r.interface.ifindex: r for r in fresh}
        edits = {
            i: e
            for i, e in self.edits.items()
            if i in here and (e.changes or by_index[i].identity == e.base.identity)
        }
        discarded = {i: e for i, e in self.discarded.items() if i in here}
        session = replace(self, runnings=fresh, surveyed=True, edits=edits, discarded=discarded)
        if session.selected not in here:
            first = next((r for r in session.visible if r.hooks), next(iter(session.visible), None))
            session = replace(session, selected=first.interface.ifindex if first else None, slot=0)
        return session._clamped()

    def select(self, ifindex: int | None) -> Session:
        if ifindex == self.selected:
            return self
        return replace(self, selected=ifindex, slot=0)

    def mark(self) -> Session:
        """Mark or unmark the selected interface."""
        return self if self.selected is None else replace(self, marked=self.marked ^ {self.selected})

    def at_slot(self, slot: int) -> Session:
        return replace(self, slot=slot)._clamped()

    def edited(self, chain: Chain, slot: int | None = None) -> Session:
        """The candidate becomes ``chain``, with the cursor at ``slot``. Needs a selected interface."""
        running = self.running
        if running is None:
            return self
        edit = self.edit or Edit(running, History(self.chain))
        session = self._with_edit(replace(edit, history=edit.history.push(chain)))
        session = replace(session, discarded=_without(self.discarded, self.selected))
        return session.at_slot(self.slot if slot is None else slot)

    def keeping_maps(self, keep: bool) -> Session:
        """Choose whether to keep the maps of slots that the candidate removes."""
        return self if self.edit is None else self._with_edit(replace(self.edit, keep_maps=keep))

    def undone(self) -> Session:
        if self.edit is None:
            return self
        return self._with_edit(replace(self.edit, history=self.edit.history.undo()))._clamped()

    @property
    def may_redo(self) -> bool:
        """Whether there is an undone edit, or a discarded candidate."""
        return bool(self.edit.history.future) if self.edit is not None else self.selected in self.discarded

    def redone(self) -> Session:
        """Redo the last undone edit; without a candidate, bring back the discarded one."""
        if self.edit is None:
            if self.selected is None or self.selected not in self.discarded:
                return self
            back = self._with_edit(self.discarded[self.selected])
            return replace(back, discarded=_without(self.discarded, self.selected))._clamped()
        return self._with_edit(replace(self.edit, history=self.edit.history.redo()))._clamped()

    def dropped(self) -> Session:
        """Without the candidate of the selected interface; `redone` brings it back."""
        if self.edit is None or self.selected is None:
            return self
        kept = {**self.discarded, self.selected: self.edit} if self.changes else self.discarded
        return replace(self, edits=_without(self.edits, self.selected), discarded=kept)._clamped()

    def rebased(self) -> tuple[Session, tuple[str, ...]]:
        """Redo the candidate's edits on what runs now; also returns, as text, those that could not
        be redone.
        """
        edit, running = self.edit, self.running
        if edit is None or running is None or not running.editable:
            return self, ()
        now = running.chain or replace(edit.candidate, slots=())
        was = edit.base.chain or replace(edit.candidate, slots=())
        chain, lost = rebase(was, edit.candidate, now)
        return self._with_edit(replace(edit, base=running, history=History(now).push(chain)))._clamped(), lost

    def applied(self, running: Running) -> Session:
        """With what runs after an apply; its candidate is done."""
        index = running.interface.ifindex
        runnings = tuple(running if r.interface.ifindex == index else r for r in self.runnings)
        edits = {i: e for i, e in self.edits.items() if i != index}
        return replace(self, runnings=runnings, edits=edits)._clamped()

    def _with_edit(self, edit: Edit) -> Session:
        assert self.selected is not None
        return replace(self, edits={**self.edits, self.selected: edit})

    def _clamped(self) -> Session:
        slot = max(0, min(self.slot, len(self.chain) - 1))
        return self if slot == self.slot else replace(self, slot=slot)


def _without(edits: Mapping[int, Edit], ifindex: int | None) -> dict[int, Edit]:
    return {i: edit for i, edit in edits.items() if i != ifindex}


def running_chain(running: Running | None) -> Chain | None:
    """The running chain, even one that can only be looked at."""
    return None if running is None else running.chain or running.shown


def _haystack(running: Running) -> str:
    parts = (
        running.interface.name,
        running.owner or "free",
        running.mode or "",
        running.device.driver or "",
        running.device.operstate,
        running.linkage or "",
        *(hook.name for hook in running.hooks),
        *(slot.name for slot in running_chain(running) or ()),
    )
    return " ".join(str(part) for part in parts).lower()
