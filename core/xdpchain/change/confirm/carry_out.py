# SPDX-License-Identifier: Apache-2.0
"""Carry out what was decided of an armed change: go back to the old chain, or let go of it.

Each step may be done twice and by anybody: by whoever decided, by the guardian, and by the next command that
finds a decision which was not carried out. The swap names the program that it replaces, so none of them can
undo what somebody else did meanwhile.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

from xdpchain.change.swap import exchange
from xdpchain.errors import KernelRefused, NotFound, NotOurs, RaceLost, XdpChainError
from xdpchain.linkage.arrays import remove_array_pins
from xdpchain.model.pending_change import ConfirmOutcome, Decision, Outcome, PendingChange, Pins
from xdpchain.observe.pending_pins import OLD, remove_armed, write_settled
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.netlink import HookBusy, ModeConflict
from xdpchain.sys.trusted_directory import Untrusted

from .whereabouts import Whereabouts

__all__ = ["carry_out", "old_chain", "pins_missing"]


def old_chain(program: int, ifindex: int, *, dispatch: bool) -> dict[str, bpf.Fd]:
    """Descriptors of all that keeps a running chain alive: its program, and a dispatcher's links and
    components. The caller closes them. Raises KernelRefused and its kin.
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
    armed: PendingChange, decision: Decision, held: Mapping[str, bpf.Fd], place: Whereabouts, why: str = ""
) -> ConfirmOutcome | None:
    """Carry out ``decision`` where the interface is now; ``held`` keeps the old chain alive until this
    returns. ``why`` it goes back is told with the outcome. Take the lock first.

    Returns what became of it; None if there was nothing to do, for it had not taken effect. Raises what the
    kernel refuses; then nothing was changed, and it may be tried again.
    """
    if decision is Decision.ROLL_BACK:
        settled = _roll_back(armed, held, place, why)
    else:
        settled = _let_go(armed, decision, place)
    if settled is not None:
        write_settled(place.inode, place.ifindex, settled)
    remove_armed(armed)
    return settled


def _roll_back(
    armed: PendingChange, held: Mapping[str, bpf.Fd], place: Whereabouts, why: str
) -> ConfirmOutcome | None:
    try:
        found = place.on_hook(armed)
    except NotFound:
        return _gone(armed)
    gap = armed.in_gap(found)
    if found == armed.old and not gap:  # it never took effect, or somebody was here before
        _remove_pins(armed, armed.new, armed.new_pins)
        return None
    if found != armed.new and not gap:
        return _overtaken(armed, found)
    if armed.old is not None:
        if OLD not in held:
            raise NotFound(
                f"the chain that ran on {armed.ifname} before is gone", "nothing holds its program any more"
            )
        _restore_pins(armed, held, place.ifindex)
    try:
        with contextlib.ExitStack() as stack:
            new = None
            if armed.new is not None and not gap:
                new = stack.enter_context(bpf.prog_by_id(armed.new))
            old = held[OLD] if armed.old is not None else None
            exchange(place.netlink, place.ifindex, (new, armed.mode), (old, armed.old_mode or armed.mode))
    except (RaceLost, HookBusy, ModeConflict):
        return _overtaken(armed, place.on_hook(armed))
    except NotFound:
        return _gone(armed)
    except bpf.BpfError as error:
        raise bpf.refusal(error, f"the program on {armed.ifname} can't be identified") from error
    now = place.on_hook(armed)
    if now != armed.old:
        return _overtaken(armed, now)
    _remove_pins(armed, armed.new, armed.new_pins)
    if place.ifindex != armed.ifindex:  # its pins have another name there
        _remove_pins(armed, armed.old, Pins(armed.old_pins.dispatch))
    return _settled(armed, Outcome.ROLLED_BACK, now, why)


def _let_go(armed: PendingChange, decision: Decision, place: Whereabouts) -> ConfirmOutcome | None:
    try:
        found = place.on_hook(armed)
    except NotFound:
        return _gone(armed)
    if found == armed.old and found != armed.new:
        # Called off, or another tool went back by itself.
        _remove_pins(armed, armed.new, armed.new_pins)
        return None
    if found != armed.new:
        return _overtaken(armed, found)
    _remove_pins(armed, armed.old, armed.old_pins)
    return None if decision is Decision.CALL_OFF else _settled(armed, Outcome.CONFIRMED, found)


def _overtaken(armed: PendingChange, found: int | None) -> ConfirmOutcome:
    # What overtook us may use the old chain's components, and so their arrays, but not its dispatcher.
    _remove_pins(armed, armed.old, Pins(armed.old_pins.dispatch))
    return _settled(armed, Outcome.OVERTAKEN, found)


def _gone(armed: PendingChange) -> ConfirmOutcome:
    # Nothing runs any more of either, so nothing of either is needed.
    _remove_pins(armed, armed.old, armed.old_pins)
    _remove_pins(armed, armed.new, armed.new_pins)
    return _settled(armed, Outcome.GONE, None)


def _settled(armed: PendingChange, outcome: Outcome, runs: int | None, why: str = "") -> ConfirmOutcome:
    return ConfirmOutcome(outcome, time.time(), runs, armed.old, armed.new, armed.author, why, armed.decision)


def _restore_pins(armed: PendingChange, held: Mapping[str, bpf.Fd], ifindex: int) -> None:
    """Pin a dispatcher's links again where another tool cleared them away, or where the interface has got
    another ifindex.
    """
    if not armed.old_pins.dispatch or armed.old is None:
        return
    # If that fails: better the old chain without its pins than the new one. The guardian holds its links.
    with contextlib.suppress(OSError, XdpChainError):
        place = bpffs.dispatch_dir(ifindex, armed.old)
        with bpffs.open_dispatch_dir(place, make=True) as directory:
            there = directory.names()
            for name, fd in held.items():
                if name.startswith("prog") and name not in there:
                    directory.pin(name, fd)


def pins_missing(armed: PendingChange, ifindex: int) -> bool:
    """Whether the chain to go back to is a dispatcher whose components nothing holds but the caller."""
    if not armed.old_pins.dispatch or armed.old is None:
        return False
    try:
        with bpffs.open_dispatch_dir(bpffs.dispatch_dir(ifindex, armed.old)):
            return False
    except (OSError, XdpChainError):
        return True


def _remove_pins(armed: PendingChange, program: int | None, pins: Pins) -> None:
    # What can't be removed is left to the next change, or to `clean`.
    with contextlib.suppress(NotOurs, KernelRefused, Untrusted, bpffs.BpffsMissing):
        if pins.dispatch and program is not None:
            bpffs.remove_dispatch_dir(bpffs.dispatch_dir(armed.ifindex, program))
    with contextlib.suppress(OSError):
        for map_id in pins.arrays:
            remove_array_pins(map_id)
