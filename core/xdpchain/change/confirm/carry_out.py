# SPDX-License-Identifier: Apache-2.0
"""Carry out the decision on a pending change: restore the old chain, or release it.

All steps are idempotent and may be done by the process that decided, the guardian, or the next command that
finds an unfinished decision. The swap names the program that it replaces, so none of them can undo a newer
change.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

from xdpchain.change.swap import exchange
from xdpchain.errors import KernelRefused, NotFound, NotOurs, RaceLost, XdpChainError
from xdpchain.linkage.array_pins import remove_array_pins
from xdpchain.model.pending_change import ConfirmOutcome, Decision, Outcome, PendingChange, Pins
from xdpchain.observe.pending_pins import OLD
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.netlink import HookBusy, ModeConflict
from xdpchain.sys.trusted_directory import Untrusted

from .moved_interface import Whereabouts
from .pinning import remove_pending, write_settled

__all__ = ["carry_out", "old_chain", "pins_missing"]


def old_chain(program: int, ifindex: int, *, dispatch: bool) -> dict[str, bpf.Fd]:
    """Descriptors that keep a running chain alive: its program, and a dispatcher's links and components. The
    caller closes them. Raises KernelRefused, PermissionDenied, NotFound.
    """
    with contextlib.ExitStack() as undo:
        held: dict[str, bpf.Fd] = {}
        try:
            held[OLD] = undo.enter_context(bpf.prog_by_id(program))
            if dispatch:
                with bpffs.open_dispatch_dir(bpffs.dispatch_dir(ifindex, program)) as directory:
                    for name in directory.names():
                        held[name] = undo.enter_context(directory.get(name))
        except OSError as error:
            raise bpf.refusal(error, "the running chain can't be kept for a rollback") from error
        undo.pop_all()
    return held


def carry_out(
    pending: PendingChange, decision: Decision, held: Mapping[str, bpf.Fd], place: Whereabouts, why: str = ""
) -> ConfirmOutcome | None:
    """Carry out ``decision`` at ``place``; ``held`` keeps the old chain alive until this returns. ``why`` is
    the reason of a rollback, stored with the outcome. Take the lock first.

    Returns the outcome; None if there was nothing to do because the change had not taken effect. On errors
    nothing was changed, and it can be tried again.
    """
    if decision is Decision.ROLL_BACK:
        settled = _roll_back(pending, held, place, why)
    else:
        settled = _let_go(pending, decision, place)
    if settled is not None:
        write_settled(place.inode, place.ifindex, settled)
    remove_pending(pending)
    return settled


def _roll_back(
    pending: PendingChange, held: Mapping[str, bpf.Fd], place: Whereabouts, why: str
) -> ConfirmOutcome | None:
    try:
        hook = place.on_hook(pending)
    except NotFound:
        return _gone(pending)
    gap = pending.in_gap(hook)
    if hook == pending.old and not gap:  # it never took effect, or was already rolled back
        _remove_pins(pending, pending.new, pending.new_pins)
        return None
    if hook != pending.new and not gap:
        return _overtaken(pending, hook)
    if pending.old is not None:
        if OLD not in held:
            raise NotFound(
                f"the chain that ran on {pending.ifname} before is gone", "nothing holds its program any more"
            )
        _restore_pins(pending, held, place.ifindex)
    try:
        with contextlib.ExitStack() as stack:
            new = None
            if pending.new is not None and not gap:
                new = stack.enter_context(bpf.prog_by_id(pending.new))
            old = held[OLD] if pending.old is not None else None
            exchange(
                place.netlink, place.ifindex, (new, pending.mode), (old, pending.old_mode or pending.mode)
            )
    except (RaceLost, HookBusy, ModeConflict):
        return _overtaken(pending, place.on_hook(pending))
    except NotFound:
        return _gone(pending)
    except bpf.BpfError as error:
        raise bpf.refusal(error, f"the program on {pending.ifname} can't be identified") from error
    now = place.on_hook(pending)
    if now != pending.old:
        return _overtaken(pending, now)
    _remove_pins(pending, pending.new, pending.new_pins)
    if place.ifindex != pending.ifindex:  # its pins have a different name there
        _remove_pins(pending, pending.old, Pins(pending.old_pins.dispatch))
    return _settled(pending, Outcome.ROLLED_BACK, now, why)


def _let_go(pending: PendingChange, decision: Decision, place: Whereabouts) -> ConfirmOutcome | None:
    try:
        hook = place.on_hook(pending)
    except NotFound:
        return _gone(pending)
    if hook == pending.old and hook != pending.new:
        # Called off, or restored by another tool.
        _remove_pins(pending, pending.new, pending.new_pins)
        return None
    if hook != pending.new:
        return _overtaken(pending, hook)
    _remove_pins(pending, pending.old, pending.old_pins)
    return None if decision is Decision.CALL_OFF else _settled(pending, Outcome.CONFIRMED, hook)


def _overtaken(pending: PendingChange, hook: int | None) -> ConfirmOutcome:
    # The newer chain may use the old chain's components, and so their arrays, but not its dispatcher.
    _remove_pins(pending, pending.old, Pins(pending.old_pins.dispatch))
    return _settled(pending, Outcome.OVERTAKEN, hook)


def _gone(pending: PendingChange) -> ConfirmOutcome:
    # Neither chain runs any more, so the pins of both can go.
    _remove_pins(pending, pending.old, pending.old_pins)
    _remove_pins(pending, pending.new, pending.new_pins)
    return _settled(pending, Outcome.GONE, None)


def _settled(pending: PendingChange, outcome: Outcome, runs: int | None, why: str = "") -> ConfirmOutcome:
    return ConfirmOutcome(
        outcome, time.time(), runs, pending.old, pending.new, pending.author, why, pending.decision
    )


def _restore_pins(pending: PendingChange, held: Mapping[str, bpf.Fd], ifindex: int) -> None:
    """Pin a dispatcher's links again if another tool removed them or the interface's ifindex changed."""
    if not pending.old_pins.dispatch or pending.old is None:
        return
    # If this fails, the old chain without pins is better than the new one. The guardian holds its links.
    with contextlib.suppress(OSError, XdpChainError):
        place = bpffs.dispatch_dir(ifindex, pending.old)
        with bpffs.open_dispatch_dir(place, make=True) as directory:
            there = directory.names()
            for name, fd in held.items():
                if name.startswith("prog") and name not in there:
                    directory.pin(name, fd)


def pins_missing(pending: PendingChange, ifindex: int) -> bool:
    """Whether the old chain is a dispatcher whose components only the caller holds."""
    if not pending.old_pins.dispatch or pending.old is None:
        return False
    try:
        with bpffs.open_dispatch_dir(bpffs.dispatch_dir(ifindex, pending.old)):
            return False
    except (OSError, XdpChainError):
        return True


def _remove_pins(pending: PendingChange, program: int | None, pins: Pins) -> None:
    # Leftovers are removed by the next change or `clean`.
    with contextlib.suppress(NotOurs, KernelRefused, Untrusted, bpffs.BpffsMissing):
        if pins.dispatch and program is not None:
            bpffs.remove_dispatch_dir(bpffs.dispatch_dir(pending.ifindex, program))
    with contextlib.suppress(OSError):
        for map_id in pins.arrays:
            remove_array_pins(map_id)
