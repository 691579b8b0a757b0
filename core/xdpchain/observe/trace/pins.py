# SPDX-License-Identifier: Apache-2.0
"""Counters that stay: the fexit links and their counters map, pinned until somebody takes them away.

Everything lies in ``<bpffs>/xdptui-trace/<ifindex>-<inode of the network namespace>``: the map ``counters``,
and a link ``row<row>-prog<prog id>`` for each program that is counted. ``<bpffs>/xdp`` belongs to libxdp's
protocol, and nothing is put there. Pinning happens under the lock that editors of chains take.

A pinned link keeps the program that it counts, and its maps, also after it left the chain. `trace_on`
removes what its interface has no use for any more, `sweep_traces` what runs nowhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xdpchain.errors import Unsupported, XdpChainError
from xdpchain.linkage.counting import ROWS, clear_rows, counter_layout, make_counters
from xdpchain.model.running import Running
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.all_netns import xdp_programs
from xdpchain.sys.libbpf import possible_cpus
from xdpchain.sys.mount_lifetime import require_lasting

from .fexit import count_targets
from .targets import VERDICT, Place, place_of, targets

__all__ = ["Pinned", "is_traced", "open_pinned", "retrace", "sweep_traces", "trace_off", "trace_on"]

SUBDIRECTORY = "xdptui-trace"
COUNTERS = "counters"
_DIRECTORY = re.compile(r"(?:0|[1-9][0-9]*)-[1-9][0-9]*")
_LINK = re.compile(r"row([0-9]|1[0-9]|20)-prog([1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Pinned:
    """Pinned counters, opened: the map with its id, and by prog id the row and the link."""

    map_id: int
    counters: bpf.Fd
    links: Mapping[int, tuple[int, bpf.Fd]]

    def close(self) -> None:
        self.counters.close()
        for _, link in self.links.values():
            link.close()


def open_pinned(ifindex: int, inode: int) -> Pinned | None:
    """The pinned counters of an interface; None if there are none, or none that we can read."""
    try:
        directory = _directory(ifindex, inode)
        counters = bpf.obj_get(str(directory / COUNTERS))
    except (OSError, XdpChainError):
        return None
    info = bpf.map_info(counters)
    if (info.value_size, info.max_entries) != (counter_layout()[0], possible_cpus()):
        counters.close()
        return None
    links = {}
    for number, (row, path) in _links(directory).items():
        with contextlib.suppress(bpf.BpfError):  # unpinned meanwhile
            links[number] = row, bpf.obj_get(str(path))
    return Pinned(info.id, counters, links)


def is_traced(running: Running) -> bool:
    """Whether counters of this interface are pinned."""
    place = place_of(running)
    pinned = open_pinned(running.interface.ifindex, place.netns)
    if pinned is None:
        return False
    pinned.close()
    return bool(pinned.links)


def trace_on(running: Running) -> tuple[int, ...]:
    """Count what runs on an interface from now on, also when this process is gone; returns the prog ids.

    What is counted already goes on. Killed in between, it leaves less than asked for, which the next call
    completes. Raises Unsupported where there is nothing to trace or no BPF filesystem, and what
    `xdpchain.observe.trace.trace` raises; what it pinned is unpinned then.
    """
    if not targets(running):
        why = "it counts by itself, or was told not to" if running.hooks else "no XDP program runs there"
        raise Unsupported(f"{running.interface} can't be traced", why)
    require_lasting(bpffs.find(), "counters", "look with `xdptui watch`, which counts while it runs")
    with bpffs.lock():
        return _pin(running)


def retrace(running: Running) -> tuple[int, ...]:
    """After a change of a chain whose counters are pinned: pin those of what is new, too, and unpin those of
    what left; () where no counters are pinned. Take the lock first. Raises what `trace_on` does.
    """
    return _pin(running) if is_traced(running) else ()


def trace_off(running: Running) -> bool:
    """Take the pinned counters away; whether there were any. A reader that is open keeps its own.

    Raises BpffsMissing, PermissionDenied, Busy.
    """
    place = place_of(running)
    with bpffs.lock():
        directory = _directory(running.interface.ifindex, place.netns)
        there = directory.is_dir()
        _remove(directory)
    return there


def sweep_traces(*, dry_run: bool = False) -> tuple[str, ...]:
    """Remove pinned counters of programs that run on no interface any more; returns the pins' paths.

    A program that may run where we can't look is left alone. Raises PermissionDenied, Busy.
    """
    try:
        parent = bpffs.find() / SUBDIRECTORY
    except bpffs.BpffsMissing:
        return ()
    removed: list[str] = []
    with bpffs.lock():
        names = sorted(os.listdir(parent)) if parent.is_dir() else []
        directories = [parent / name for name in names if _DIRECTORY.fullmatch(name)]
        running = _alive() if directories else None
        for directory in directories:
            links = _links(directory)
            stale = [
                path for number, (_, path) in links.items() if running is not None and number not in running
            ]
            removed += map(str, stale)
            if dry_run:
                continue
            for path in stale:
                path.unlink(missing_ok=True)
            if len(stale) == len(links):
                _remove(directory)
    return tuple(removed)


def _pin(running: Running) -> tuple[int, ...]:
    place = place_of(running)
    directory = _directory(running.interface.ifindex, place.netns)
    wanted = {target.prog_id: target.key for target in targets(running)}
    if not wanted:
        _remove(directory)
        return ()
    with contextlib.ExitStack() as undo:
        pinned = _complete(directory, wanted, place, undo)
        undo.pop_all()
    return pinned


def _complete(
    directory: Path, wanted: dict[int, str], place: Place, undo: contextlib.ExitStack
) -> tuple[int, ...]:
    pinned = _links(directory)
    for number, (_, path) in list(pinned.items()):
        if number not in wanted:
            path.unlink(missing_ok=True)
            del pinned[number]
    existing = open_pinned(*_numbers(directory))
    if existing is not None:
        existing.close()
    else:
        _remove(directory)
        pinned = {}
    try:
        directory.parent.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        if existing is None:
            undo.callback(_remove, directory)
            with make_counters() as fresh:
                bpf.obj_pin(fresh, str(directory / COUNTERS))
        with bpf.obj_get(str(directory / COUNTERS)) as counters:
            _attach_missing(directory, counters, {n: k for n, k in wanted.items() if n not in pinned},
                            {row for row, _ in pinned.values()}, place, undo)  # fmt: skip
    except OSError as error:
        raise bpf.refusal(error, f"counters can't be pinned in {directory}") from error
    return tuple(sorted(_links(directory)))


def _attach_missing(
    directory: Path,
    counters: bpf.Fd,
    missing: dict[int, str],
    taken: set[int],
    place: Place,
    undo: contextlib.ExitStack,
) -> None:
    free = iter(sorted(set(range(1, ROWS)) - taken))
    rows = {number: 0 if key == VERDICT else next(free) for number, key in missing.items()}
    clear_rows(counters, [row for row in rows.values() if row])
    links = count_targets(rows, counters, place)
    try:
        for number, link in links.items():
            path = directory / f"row{rows[number]}-prog{number}"
            bpf.obj_pin(link, str(path))
            undo.callback(path.unlink, missing_ok=True)
    finally:
        for link in links.values():
            link.close()


def _alive() -> frozenset[int] | None:
    """The programs that run, or may run: those on hooks and what is attached to them; None: can't be told."""
    seen = xdp_programs()
    if not seen.complete:
        return None
    attached = set()
    for number in bpf.ids(bpf.Command.LINK_GET_NEXT_ID):
        try:
            with bpf.link_by_id(number) as fd:
                info = bpf.link_info(fd)
        except bpf.BpfError:
            continue  # it went away meanwhile
        # Before kernel 5.13 (441e8c66b23e) a link does not say what it is attached to.
        if info.type == bpf.LINK_TRACING and (info.target in seen.programs or not info.target):
            attached.add(info.prog_id)
    return seen.programs | attached


def _directory(ifindex: int, inode: int) -> Path:
    return bpffs.find() / SUBDIRECTORY / f"{ifindex}-{inode}"


def _numbers(directory: Path) -> tuple[int, int]:
    ifindex, _, inode = directory.name.partition("-")
    return int(ifindex), int(inode)


def _links(directory: Path) -> dict[int, tuple[int, Path]]:
    """Row and path of the pinned links, by prog id."""
    try:
        names = os.listdir(directory)
    except OSError:
        return {}
    found = ((_LINK.fullmatch(name), directory / name) for name in sorted(names))
    return {int(match[2]): (int(match[1]), path) for match, path in found if match}


def _remove(directory: Path) -> None:
    """Remove a directory with our pins; nothing else that lies in it, nor then itself."""
    for _, path in _links(directory).values():
        path.unlink(missing_ok=True)
    (directory / COUNTERS).unlink(missing_ok=True)
    try:
        directory.rmdir()
        directory.parent.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise bpf.refusal(error, f"{directory} can't be removed") from error
