# SPDX-License-Identifier: Apache-2.0
"""Find and remove stale pins.

A pinned link holds the dispatcher that it is attached to, so a dispatcher outlives its interface, an `ip link
set … xdp off`, and a killed editor. Pins are stale if their program runs on no interface in any network
namespace. (libxdp only checks the caller's namespace: if several share a BPF filesystem, it mistakes live
pins for stale ones.)
"""

from __future__ import annotations

import contextlib
import errno
import random
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from xdpchain.errors import KernelRefused, NotOurs
from xdpchain.frozen import frozen
from xdpchain.linkage.array_pins import components_in, release_arrays, remove_array_pins, stale_array_pins
from xdpchain.linkage.dispatcher.recognise import recognise
from xdpchain.linkage.kept_maps import forget_kept, overdue
from xdpchain.observe.pending_pins import PENDING, pending_programs, remains, unguarded
from xdpchain.sys import all_netns, bpf, bpffs
from xdpchain.sys.trusted_directory import Untrusted

from .confirm.pinning import discard

__all__ = ["StalePins", "clean", "stale_pins", "sweep"]

FEW = 4
"""How many of others' pins a change examines."""

GRACE = 10.0
"""Seconds allowed between the load and attachment of another tool's dispatcher: libxdp does not hold the lock
while it attaches, so its pins exist before it runs.
"""


@frozen
class StalePins:
    """A directory of pins, the program that it was created for, and why it is stale.

    ``certain`` is false if that can't be proved from here; `clean` then removes it only with ``force``.
    ``removed``: `clean` has removed it.
    """

    path: Path
    program: int
    why: str
    certain: bool = True
    removed: bool = False


def stale_pins(ifindex: int | None = None) -> tuple[StalePins, ...]:
    """The stale pins of one ifindex or all. Take the lock first if the answer must stay valid.

    Raises BpffsMissing, PermissionDenied.
    """
    look = cache(all_netns.xdp_programs)
    candidates = bpffs.dispatch_dirs(ifindex)
    needed = pending_programs() if candidates else ()  # by a rollback
    stale = [
        judged
        for candidate in candidates
        if candidate.prog_id not in needed and (judged := _judge(candidate, look))
    ]
    if ifindex is None:
        stale += _pending(look)
        why = "the program whose arrays it holds is gone"
        stale += [StalePins(path, int(path.name), why) for path in stale_array_pins()]
    return tuple(stale)


def clean(
    *, dry_run: bool = False, ifindex: int | None = None, force: bool = False, lock_timeout: float = 10.0
) -> tuple[StalePins, ...]:
    """Remove and return stale pins; those that are not certain only with ``force``.

    Raises Busy, BpffsMissing, PermissionDenied.
    """
    with bpffs.lock(lock_timeout):
        stale = stale_pins(ifindex)
        if not dry_run:
            forget_kept(overdue())
            stale = tuple(_remove(pins) if pins.certain or force else pins for pins in stale)
    return stale if ifindex is not None else (*stale, *_counters(dry_run))


def _counters(dry_run: bool) -> tuple[StalePins, ...]:
    """Pinned counters of programs that no longer run anywhere."""
    from xdpchain.observe.trace import sweep_traces

    why = "the program it counts no longer runs anywhere"
    paths = map(Path, sweep_traces(dry_run=dry_run))
    return tuple(
        StalePins(path, int(path.name.rpartition("prog")[2] or 0), why, removed=not dry_run)
        for path in paths
        if "prog" in path.name
    )


def sweep(ifindex: int, running: int | None) -> None:
    """Remove what earlier changes left behind. ``running`` is the program ID on the interface's hook.

    Every change calls this, so what it costs must not grow with the number of chains: of many program arrays,
    it examines some, at random; and where many other namespaces have dispatchers for the same ifindex, it
    looks for stale ones as much more rarely as that takes longer. Take the lock first.
    """
    for path in stale_array_pins(FEW):
        remove_array_pins(int(path.name))
    with contextlib.suppress(bpffs.BpffsMissing):
        suspects = [there for there in bpffs.dispatch_dirs(ifindex) if there.prog_id != running]
        if suspects and random.random() * len(suspects) < FEW:
            for stale in stale_pins(ifindex):
                if stale.certain:
                    _remove(stale)


def _judge(directory: bpffs.DispatchDir, look: Callable[[], all_netns.Sighting]) -> StalePins | None:
    prog_id = directory.prog_id
    try:
        with bpf.prog_by_id(prog_id) as program:
            info = bpf.prog_info(program)
            recognised = recognise(program, info, bpf.prog_map_ids(program))
    except bpf.BpfError as error:
        if error.errno == errno.ENOENT:
            return StalePins(directory.path, prog_id, f"dispatcher {prog_id} no longer exists")
        return StalePins(directory.path, prog_id, f"dispatcher {prog_id} can't be read", certain=False)
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - info.load_time / 1e9
    if age < GRACE and not (recognised and recognised.ours):
        return None
    seen = look()
    if prog_id in seen.programs:
        return None
    why = f"dispatcher {prog_id} runs on no interface"
    if not seen.complete:
        why += " that is visible from here, but not all network namespaces are"
    return StalePins(directory.path, prog_id, why, seen.complete)


def _pending(look: Callable[[], all_netns.Sighting]) -> list[StalePins]:
    """Pending changes without a guardian whose program no longer runs: the interface is gone. And what is
    left of others.
    """
    why = "a process was killed while it armed a change or removed a settled one"
    stale = [StalePins(path, 0, why) for path in remains()]
    for path, pending in unguarded():
        if pending.new is not None and pending.new not in look().programs:
            why = f"its guardian was killed, and program {pending.new} runs on no interface"
            stale.append(StalePins(path, pending.old or pending.new, why, look().complete))
    return stale


def _remove(stale: StalePins) -> StalePins:
    name = stale.path.name
    if stale.path.parent.name == PENDING:
        discard(stale.path)
        return StalePins(stale.path, stale.program, stale.why, stale.certain, removed=True)
    if name.isdigit():
        remove_array_pins(int(name))
        return StalePins(stale.path, stale.program, stale.why, stale.certain, removed=True)
    ifindex, prog_id = map(int, name.removeprefix("dispatch-").split("-"))
    directory = bpffs.DispatchDir(stale.path, ifindex, prog_id)
    components = components_in([directory])
    try:
        bpffs.remove_dispatch_dir(directory)
        release_arrays(components)
    except (NotOurs, KernelRefused, Untrusted) as error:
        return StalePins(stale.path, stale.program, f"{stale.why}; {error.why}", certain=False)
    return StalePins(stale.path, stale.program, stale.why, stale.certain, removed=True)
