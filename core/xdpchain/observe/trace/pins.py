# SPDX-License-Identifier: Apache-2.0
"""Persistent counters: the fexit links and their counters map, pinned until removed.

Everything is in ``<bpffs>/xdptui-trace/<ifindex>-<inode of the network namespace>``: the map ``counters``,
and a link ``row<row>-prog<prog id>`` for each counted program. Nothing is put in ``<bpffs>/xdp``, which
belongs to libxdp's protocol. Pinning happens under the lock of chain editors.

A pinned link keeps the counted program and its maps alive, even after it left the chain. `trace_on` removes
what its interface no longer uses, `sweep_traces` what runs nowhere.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Mapping

from xdpchain.advice import Do, advise
from xdpchain.errors import Unsupported, XdpChainError
from xdpchain.frozen import frozen
from xdpchain.linkage.counting import ROWS, clear_rows, counter_layout, make_counters
from xdpchain.model.running import Running
from xdpchain.sys import bpf, bpffs
from xdpchain.sys.all_netns import xdp_programs
from xdpchain.sys.cpus import possible_cpus
from xdpchain.sys.mount_lifetime import require_lasting
from xdpchain.sys.trusted_directory import TrustedDirectory

from .fexit import count_targets
from .targets import VERDICT, Place, place_of, targets

__all__ = ["Pinned", "is_traced", "open_pinned", "retrace", "sweep_traces", "trace_off", "trace_on"]

SUBDIRECTORY = "xdptui-trace"
COUNTERS = "counters"
_DIRECTORY = re.compile(r"(?:0|[1-9][0-9]*)-[1-9][0-9]*")
_LINK = re.compile(r"row([0-9]|1[0-9]|20)-prog([1-9][0-9]*)")


@frozen
class Pinned:
    """Opened pinned counters: the map with its ID, and by program ID the row and link."""

    map_id: int
    counters: bpf.Fd
    links: Mapping[int, tuple[int, bpf.Fd]]

    def close(self) -> None:
        self.counters.close()
        for _, link in self.links.values():
            link.close()


def open_pinned(ifindex: int, inode: int) -> Pinned | None:
    """The pinned counters of an interface; None if there are none that can be read."""
    try:
        with bpffs.open_below(SUBDIRECTORY, _name(ifindex, inode)) as directory:
            return _opened(directory)
    except (OSError, XdpChainError):
        return None


def _opened(directory: TrustedDirectory) -> Pinned | None:
    """Open pinned counters; None if the map is not pinned or not ours. Raises BpfError, Untrusted."""
    if not directory.holds_file(COUNTERS):  # a BpfError is no FileNotFoundError, whatever its errno
        return None
    counters = directory.get(COUNTERS)
    info = bpf.map_info(counters)
    shape = (info.type, info.value_size, info.max_entries)
    if shape != (bpf.MapType.ARRAY, counter_layout()[0], possible_cpus()):
        counters.close()
        return None
    links = {}
    for prog_id, (row, pin) in _links(directory).items():
        with contextlib.suppress(bpf.BpfError):  # unpinned meanwhile
            links[prog_id] = row, directory.get(pin)
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
    """Count what runs on an interface from now on, even after this process ends. Returns the program IDs.

    Existing counts continue. If killed in between, the next call completes the rest. Raises Unsupported if
    there is nothing to trace or no BPF filesystem, and what `xdpchain.observe.trace.trace` raises; then its
    pins are removed again.
    """
    if not targets(running):
        what = f"{running.interface} can't be traced"
        if not running.hooks:
            raise Unsupported(what, "no XDP program runs there")
        if running.chain is not None and running.counters_map is None:
            todo = advise(Do.SWITCH_COUNTERS_ON, on=running.interface)
            raise Unsupported(what, "its chain has its own counters, which are off", todo)
        raise Unsupported(what, "it has its own counters")
    require_lasting(bpffs.find(), "counters", "use `xdptui watch`, which counts while it runs")
    with bpffs.lock():
        return _pin(running)


def retrace(running: Running) -> tuple[int, ...]:
    """Update pinned counters after a change: pin those of new programs, unpin those of removed ones; () if no
    counters are pinned. Take the lock first. Raises what `trace_on` raises.
    """
    return _pin(running) if is_traced(running) else ()


def trace_off(running: Running) -> bool:
    """Remove the pinned counters. Returns whether there were any. Open readers keep theirs.

    Raises BpffsMissing, PermissionDenied, Busy.
    """
    place = place_of(running)
    name = _name(running.interface.ifindex, place.netns)
    with bpffs.lock(), _parent() as parent:
        there = parent is not None and _remove(parent, name)
        _remove_if_empty()
    return there


def sweep_traces(*, dry_run: bool = False) -> tuple[str, ...]:
    """Remove pinned counters of programs that no longer run on any interface. Returns the pins' paths.

    Programs that may run in a hidden namespace are left alone. Raises PermissionDenied, Busy.
    """
    try:
        bpffs.find()
    except bpffs.BpffsMissing:
        return ()
    removed: list[str] = []
    with bpffs.lock(), _parent() as parent:
        if parent is None:
            return ()
        names = [name for name in parent.names() if _DIRECTORY.fullmatch(name)]
        running = _alive() if names else None
        for name in names:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), parent.child(name) as directory:
                links = _links(directory)
                stale = [
                    pin
                    for prog_id, (_, pin) in links.items()
                    if running is not None and prog_id not in running
                ]
                removed += [str(directory.path / pin) for pin in stale]
                if dry_run:
                    continue
                for pin in stale:
                    directory.unlink(pin)
                if len(stale) == len(links):
                    _remove(parent, name)
        _remove_if_empty()
    return tuple(removed)


def _pin(running: Running) -> tuple[int, ...]:
    place = place_of(running)
    name = _name(running.interface.ifindex, place.netns)
    wanted = {target.prog_id: target.key for target in targets(running)}
    if not wanted:
        _remove_whole(name)
        return ()
    try:
        with bpffs.open_below(SUBDIRECTORY, make=True) as parent, contextlib.ExitStack() as undo:
            pinned = _complete(parent, name, wanted, place, undo)
            undo.pop_all()
    except OSError as error:
        where = bpffs.find() / SUBDIRECTORY / name
        raise bpf.refusal(error, f"counters can't be pinned in {where}") from error
    return pinned


def _complete(
    parent: TrustedDirectory, name: str, wanted: dict[int, str], place: Place, undo: contextlib.ExitStack
) -> tuple[int, ...]:
    existing = None
    with contextlib.suppress(FileNotFoundError), parent.child(name) as old:
        for prog_id, (_, pin) in _links(old).items():
            if prog_id not in wanted:
                old.unlink(pin)
        existing = _opened(old)
    if existing is None:
        _remove(parent, name)
    else:
        existing.close()
    with parent.make_child(name) as directory:
        if existing is None:
            undo.callback(_remove_whole, name)
            with make_counters() as fresh:
                directory.pin(COUNTERS, fresh)
        pinned = _links(directory)
        with directory.get(COUNTERS) as counters:
            _attach_missing(directory, counters, {n: k for n, k in wanted.items() if n not in pinned},
                            {row for row, _ in pinned.values()}, place, undo)  # fmt: skip
        return tuple(sorted(_links(directory)))


def _attach_missing(
    directory: TrustedDirectory,
    counters: bpf.Fd,
    missing: dict[int, str],
    taken: set[int],
    place: Place,
    undo: contextlib.ExitStack,
) -> None:
    free = iter(sorted(set(range(1, ROWS)) - taken))
    rows = {prog_id: 0 if key == VERDICT else next(free) for prog_id, key in missing.items()}
    clear_rows(counters, [row for row in rows.values() if row])
    links = count_targets(rows, counters, place)
    try:
        for prog_id, link in links.items():
            pin = f"row{rows[prog_id]}-prog{prog_id}"
            directory.pin(pin, link)
            undo.callback(_unpin, directory.path.name, pin)
    finally:
        for link in links.values():
            link.close()


def _alive() -> frozenset[int] | None:
    """The programs that run or may run: those on hooks and their attachments; None if unknown."""
    seen = xdp_programs()
    if not seen.complete:
        return None
    attached = set()
    for _, info in bpf.each_link():
        # Before kernel 5.13 (441e8c66b23e) a link does not say what it is attached to.
        if info.type == bpf.LINK_TRACING and (info.target in seen.programs or not info.target):
            attached.add(info.prog_id)
    return seen.programs | attached


def _name(ifindex: int, inode: int) -> str:
    return f"{ifindex}-{inode}"


@contextlib.contextmanager
def _parent() -> Iterator[TrustedDirectory | None]:
    """The directory of all pinned counters; None if there are none."""
    with contextlib.ExitStack() as held:
        try:
            parent = held.enter_context(bpffs.open_below(SUBDIRECTORY))
        except FileNotFoundError:
            parent = None
        yield parent


def _links(directory: TrustedDirectory) -> dict[int, tuple[int, str]]:
    """Row and name of the pinned links, by program ID."""
    found = (_LINK.fullmatch(name) for name in directory.names())
    return {int(match[2]): (int(match[1]), match[0]) for match in found if match}


def _unpin(name: str, pin: str) -> None:
    with contextlib.suppress(FileNotFoundError), bpffs.open_below(SUBDIRECTORY, name) as directory:
        directory.unlink(pin)


def _remove_whole(name: str) -> None:
    with _parent() as parent:
        if parent is not None:
            _remove(parent, name)
    _remove_if_empty()


def _remove_if_empty() -> None:
    with contextlib.suppress(OSError), bpffs.open_below() as root:
        root.rmdir(SUBDIRECTORY)


def _remove(parent: TrustedDirectory, name: str) -> bool:
    """Remove a directory with our pins, unless it contains anything else. Returns whether it existed."""
    try:
        with parent.child(name) as directory:
            for _, pin in _links(directory).values():
                directory.unlink(pin)
            directory.unlink(COUNTERS)
        parent.rmdir(name)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise bpf.refusal(error, f"{parent.path / name} can't be removed") from error
    return True
