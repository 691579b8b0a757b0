# SPDX-License-Identifier: Apache-2.0
"""Pins that nobody uses any more: who they belong to, and their removal.

A pinned link holds the dispatcher that it is attached to, so a dispatcher outlives its interface, a
`ip link set … xdp off`, and an editor that was killed. Stale is what runs on no interface of any network
namespace: libxdp looks at the caller's only, and with one BPF filesystem for several namespaces it takes
live pins for stale ones.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xdpchain.errors import KernelRefused, NotOurs
from xdpchain.linkage.arrays import components_in, release_arrays, remove_array_pins, stale_array_pins
from xdpchain.linkage.dispatcher.recognise import recognise
from xdpchain.linkage.kept_maps import forget_kept, overdue
from xdpchain.observe.pending_pins import ARMED, armed_programs, discard, unguarded
from xdpchain.sys import all_netns, bpf, bpffs
from xdpchain.sys.trusted_directory import Untrusted

__all__ = ["StalePins", "clean", "stale_pins", "sweep"]

GRACE = 10.0
"""Seconds that a dispatcher of another tool may take from its load to the hook: libxdp does not hold the lock
while it attaches, so its pins are there before it runs.
"""


@dataclass(frozen=True, slots=True)
class StalePins:
    """A directory of pins, the program that it was made for, and why it is stale.

    ``certain`` is false where that can't be proved from here; then `clean` leaves it alone unless it is told
    otherwise. ``removed`` is what `clean` did.
    """

    path: Path
    program: int
    why: str
    certain: bool = True
    removed: bool = False


def stale_pins(ifindex: int | None = None) -> tuple[StalePins, ...]:
    """What is stale now; of one ifindex, or of all. Take the lock first, if it is to stay true.

    Raises BpffsMissing, PermissionDenied.
    """
    look = cache(all_netns.xdp_programs)
    found = [judged for candidate in _candidates(ifindex) if (judged := _judge(candidate, look))]
    if ifindex is None:
        found += _armed(look)
        why = "the program whose arrays it holds is gone"
        found += [StalePins(path, int(path.name), why) for path in stale_array_pins()]
    return tuple(found)


def clean(
    *, dry_run: bool = False, ifindex: int | None = None, force: bool = False, lock_timeout: float = 10.0
) -> tuple[StalePins, ...]:
    """Remove stale pins, and say which; those that are not certain only with ``force``.

    Raises Busy, BpffsMissing, PermissionDenied.
    """
    with bpffs.lock(lock_timeout):
        found = stale_pins(ifindex)
        if not dry_run:
            forget_kept(overdue())
            found = tuple(_remove(pins) if pins.certain or force else pins for pins in found)
    return found if ifindex is not None else (*found, *_counters(dry_run))


def _counters(dry_run: bool) -> tuple[StalePins, ...]:
    """Pinned counters of programs that run nowhere any more."""
    from xdpchain.observe.trace import sweep_traces

    why = "the program it counts no longer runs anywhere"
    paths = map(Path, sweep_traces(dry_run=dry_run))
    return tuple(
        StalePins(path, int(path.name.rpartition("prog")[2] or 0), why, removed=not dry_run)
        for path in paths
        if "prog" in path.name
    )


def sweep(ifindex: int, running: int | None) -> None:
    """Remove what earlier changes of this interface left behind. ``running`` is the prog id on its hook.

    Part of every change, so it costs nothing where there is nothing suspicious. Take the lock first.
    """
    for path in stale_array_pins():
        remove_array_pins(int(path.name))
    with contextlib.suppress(bpffs.BpffsMissing):
        if any(candidate.prog_id != running for candidate in _candidates(ifindex)):
            for stale in stale_pins(ifindex):
                if stale.certain:
                    _remove(stale)


def _candidates(ifindex: int | None) -> list[bpffs.DispatchDir]:
    return [folder for folder in bpffs.dispatch_dirs() if ifindex in (None, folder.ifindex)]


def _judge(directory: bpffs.DispatchDir, look: Callable[[], all_netns.Sighting]) -> StalePins | None:
    number = directory.prog_id
    if number in armed_programs():  # it may be gone back to
        return None
    try:
        with bpf.prog_by_id(number) as program:
            info = bpf.prog_info(program)
            found = recognise(program, info, bpf.prog_map_ids(program))
    except bpf.BpfError as error:
        if error.errno == errno.ENOENT:
            return StalePins(directory.path, number, f"dispatcher {number} no longer exists")
        return StalePins(directory.path, number, f"dispatcher {number} can't be read", certain=False)
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - info.load_time / 1e9
    if age < GRACE and not (found and found.ours):
        return None
    seen = look()
    if number in seen.programs:
        return None
    why = f"dispatcher {number} runs on no interface"
    if not seen.complete:
        why += " that is visible from here, but not all network namespaces are"
    return StalePins(directory.path, number, why, seen.complete)


def _armed(look: Callable[[], all_netns.Sighting]) -> list[StalePins]:
    """PendingChange changes that nobody guards, of programs that run nowhere: their interface is gone."""
    found = []
    for path, armed in unguarded():
        if armed.new is not None and armed.new not in look().programs:
            why = f"its guardian was killed, and program {armed.new} runs on no interface"
            found.append(StalePins(path, armed.old or armed.new, why, look().complete))
    return found


def _remove(stale: StalePins) -> StalePins:
    name = stale.path.name
    if stale.path.parent.name == ARMED:
        discard(stale.path)
        return StalePins(stale.path, stale.program, stale.why, stale.certain, removed=True)
    if name.isdigit():
        remove_array_pins(int(name))
        return StalePins(stale.path, stale.program, stale.why, stale.certain, removed=True)
    ifindex, number = map(int, name.removeprefix("dispatch-").split("-"))
    directory = bpffs.DispatchDir(stale.path, ifindex, number)
    components = components_in([directory])
    try:
        bpffs.remove_dispatch_dir(directory)
        release_arrays(components)
    except (NotOurs, KernelRefused, Untrusted) as error:
        return StalePins(stale.path, stale.program, f"{stale.why}; {error.why}", certain=False)
    return StalePins(stale.path, stale.program, stale.why, stale.certain, removed=True)
