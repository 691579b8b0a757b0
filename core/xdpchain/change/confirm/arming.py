# SPDX-License-Identifier: Apache-2.0
"""Arm the rollback of a change, between build and swap."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from xdpchain.advice import Do, advise
from xdpchain.change.author import current_author
from xdpchain.change.journal.settling import note_settled
from xdpchain.errors import Busy, InvalidInput, RaceLost, XdpChainError
from xdpchain.linkage.array_pins import pinned_for
from xdpchain.model.chain import Chain
from xdpchain.model.interface import Interface, Mode
from xdpchain.model.pending_change import Decision, PendingChange, PendingState, Pins
from xdpchain.model.running import Running
from xdpchain.observe.pending_pins import DECISION, boot_clock, decided, open_held
from xdpchain.sys import bpf, bpffs, netns
from xdpchain.sys.mount_lifetime import require_lasting

from .carry_out import carry_out, old_chain
from .isolation import require_freedom
from .launch import Guardian
from .moved_interface import place_of
from .pinning import claim, make_decision, remove_pending, write_pending

__all__ = ["LEAST", "MOST", "Arming", "make_way"]

LEAST, MOST = 1.0, 86400.0
"""Range of the confirmation time in seconds."""

WITHOUT_CONFIRM = "make the change without --confirm"

OVERDUE = 5.0
"""Seconds after the deadline when an inactive guardian is considered dead."""


MOOT = {
    PendingState.OVERTAKEN: Decision.CONFIRM,
    PendingState.MAKING: Decision.CALL_OFF,
    PendingState.SETTLING: Decision.CALL_OFF,  # already decided: that decision stands
}
"""The decision on an obsolete pending change that blocks the next one."""


def require_guardian(what: str, instead: str) -> None:
    """Raise Unsupported, BpffsMissing or PermissionDenied if a rollback can't be guaranteed here. ``what``
    would need it; ``instead`` describes an alternative that does not.
    """
    require_freedom(instead)
    require_lasting(bpffs.find(), what, instead)


class Arming:
    """A change on one or more interfaces that is rolled back unless confirmed, with one guardian and one
    decision. Entering starts the guardian, which loads while the chains are built. `arm` each interface
    before the first swap. Then call `made` when all were swapped in, or `keep` without confirmation;
    `call_off` if none was swapped in, `roll_back` if some were.

    ``instead``: advice if no guardian can run. ``whole``: if this process ends before `made` or `keep`, the
    guardian rolls back at once.
    """

    def __init__(
        self, seconds: float, where: Sequence[Interface], *, whole: bool, instead: str = WITHOUT_CONFIRM
    ) -> None:
        if not LEAST <= seconds <= MOST:
            raise InvalidInput(
                f"{seconds:g} s is out of range", f"a change can be confirmed within {LEAST:g} to {MOST:g} s"
            )
        self._seconds = seconds
        self._whole, self._instead = whole, instead
        self._missing = len(where)
        self._together = tuple(map(str, where)) if len(where) > 1 else ()
        self._deadline = 0.0
        self._guardian = Guardian()
        self._held = contextlib.ExitStack()
        self._pending: list[tuple[PendingChange, dict[str, bpf.Fd], Interface]] = []
        self._decision: bpf.Fd | None = None

    def __enter__(self) -> Self:
        # Fail before anything is built if a rollback can't be guaranteed.
        waits = self._instead == WITHOUT_CONFIRM
        require_guardian("a pending change" if waits else "a change that may be rolled back", self._instead)
        self._held.enter_context(self._guardian)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def arm(self, running: Running, new: int | None, chain: Chain) -> None:
        """Pin what an interface's rollback needs, and hand it to the guardian. ``new`` is the ID of the
        program to be swapped in (None: the hook will be empty). Raises KernelRefused, BpffsMissing; then use
        `call_off`.
        """
        where = running.interface
        old = running.hook.prog_id if running.hook else None
        guardian = self._guardian.known()
        decision = self._decision
        if decision is None:
            decision = self._decision = self._held.enter_context(make_decision())
            self._deadline = boot_clock() + self._seconds
        dispatch = running.linkage_facts.libxdp and running.chain is not None
        held = {DECISION: decision}
        if old is not None:
            held |= old_chain(old, where.ifindex, dispatch=dispatch)
            for name, fd in held.items():
                if name != DECISION:
                    self._held.callback(fd.close)
        before = _arrays(running.chain, old)
        after = _arrays(chain, new)
        pending = PendingChange(
            where.name,
            where.ifindex,
            netns.inode(where.netns),
            chain.mode if new is not None else Mode(running.mode or chain.mode),
            old,
            new,
            self._deadline,
            self._seconds,
            current_author(),
            guardian,
            bpf.map_info(decision).id,
            Pins(dispatch, tuple(sorted(before - after))),
            Pins(new is not None and chain.linkage.facts.libxdp, tuple(sorted(after - before))),
            old_mode=running.mode if None not in (old, new) and running.mode is not chain.mode else None,
            together=self._together,
        )
        directory = write_pending(pending, held)
        self._pending.append((pending, held, where))
        self._missing -= 1
        try:
            with netns.opened(where.netns) as namespace:
                self._guardian.entrust(
                    pending, held, directory, namespace, more=self._missing > 0, whole=self._whole
                )
        finally:
            os.close(directory)

    @property
    def decided(self) -> bool:
        """Whether it was decided meanwhile, perhaps by the guardian at its deadline."""
        return self._decision is not None and decided(self._decision) is not None

    def made(self) -> None:
        """Everything is swapped in and waits for confirmation."""
        if self._whole:
            self._guardian.tell_made()

    def keep(self) -> None:
        """Everything is swapped in and final. Raises RaceLost if it was already rolled back."""
        if self._settle(Decision.CALL_OFF) is Decision.ROLL_BACK:
            raise RaceLost(
                f"the change of {', '.join(self._together) or self._pending[0][2]} took too long",
                f"it had to be made within {self._seconds:g} s, so it was rolled back",
                advise(Do.READ_AGAIN),
            )
        for pending, _, _ in self._pending:
            remove_pending(pending)

    def call_off(self) -> None:
        """Nothing to roll back: end the guardian and remove the pins."""
        with contextlib.suppress(OSError):
            self._settle(Decision.CALL_OFF)
        for pending, _, _ in self._pending:
            remove_pending(pending)

    def roll_back(self) -> None:
        """Roll back each interface that was swapped, in reverse order. If the kernel refuses, the guardian
        retries.
        """
        with contextlib.suppress(OSError):
            self._settle(Decision.ROLL_BACK)
        for pending, held, where in reversed(self._pending):
            with contextlib.suppress(OSError, XdpChainError), place_of(where) as place:
                carry_out(pending, Decision.ROLL_BACK, held, place)

    def _settle(self, wanted: Decision) -> Decision:
        return wanted if self._decision is None else claim(self._decision, wanted)


def _arrays(chain: Chain | None, program: int | None) -> set[int]:
    """The IDs of the programs under which a chain's program arrays are pinned (`linkage.array_pins`)."""
    if chain is None or program is None:
        return set()
    return pinned_for(chain) if chain.linkage.facts.by_component else {program}


def make_way(running: Running) -> None:
    """Resolve a pending change before the next one. Take the lock first.

    Raises Busy while it waits for confirmation. A change that was overtaken, or left by a process killed
    before the swap, is discarded; one that is overdue because its guardian was killed is rolled back here,
    which raises RaceLost.
    """
    pending = running.pending
    if pending is None:
        return
    late = boot_clock() - pending.deadline
    overdue = late > (0 if pending.state is PendingState.UNGUARDED else OVERDUE)
    moot = MOOT.get(pending.state)
    if moot is None and not overdue:
        left = f"it rolls back in {pending.seconds_left(boot_clock()):.0f} s"
        if pending.state is PendingState.UNGUARDED:
            left = "its guardian was killed, so it will not roll back by itself"
        raise Busy(
            f"{running.interface} runs a pending change",
            f"made by {pending.author}; {left}",
            advise(Do.CONFIRM, on=running.interface) | advise(Do.ROLL_BACK, on=running.interface),
        )
    with open_held(pending) as held, place_of(running.interface) as place:
        if not held:
            return
        decision = claim(held[DECISION], moot or Decision.ROLL_BACK)
        settled = carry_out(pending, decision, held, place, pending.unconfirmed)
    if settled is not None:
        note_settled(pending, settled)
    if moot is None:
        raise RaceLost(
            f"{running.interface} ran a change that was not confirmed in time",
            f"made by {pending.author}; its guardian was killed, so it was rolled back only now",
            "Check the chain as it is now, then make the change again",
        )
