# SPDX-License-Identifier: Apache-2.0
"""Maps of unloaded slots, kept so that their contents can be restored.

Each is pinned in ``<bpffs>/xdptui/kept``. The pin's name says whose map it was and since when: map ID, second
of the boot, ifindex, and inode of the network namespace. Nothing else is stored: an undo names maps by the
IDs that they had, and finds those that still exist. At most 64 maps are kept, for at most a week; the oldest
go first.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable
from dataclasses import field

from xdpchain.errors import XdpChainError
from xdpchain.frozen import frozen
from xdpchain.model.interface import Interface
from xdpchain.model.slot import Slot
from xdpchain.sys import bpf, bpffs, netns
from xdpchain.sys.boot_clock import boot_clock
from xdpchain.sys.mount_lifetime import require_lasting

__all__ = ["LONGEST", "MOST", "KeptMap", "forget_kept", "keep_maps", "kept_maps", "overdue"]

PLACE = ("xdptui", "kept")
MOST = 64
LONGEST = 7 * 24 * 3600.0
"""Most seconds that a map is kept."""

_NAME = re.compile(r"([1-9][0-9]{0,9})-([0-9]{1,12})-([1-9][0-9]{0,9})-([0-9]{1,20})")


@frozen
class KeptMap:
    """A map of a slot, kept since this second of the boot. The interface is given by its ifindex and the
    inode of its network namespace; ``name`` is the kernel's, "?" if it can't be read.
    """

    map_id: int
    since: int
    ifindex: int
    inode: int
    name: str = field(default="?", compare=False)

    @property
    def pin(self) -> str:
        return f"{self.map_id}-{self.since}-{self.ifindex}-{self.inode}"


def kept_maps() -> tuple[KeptMap, ...]:
    """All maps kept on this machine, newest first; () if they can't be listed."""
    try:
        with bpffs.open_below(*PLACE) as directory:
            names = directory.names()
    except (XdpChainError, OSError):
        return ()
    found = [_kept(match) for name in names if (match := _NAME.fullmatch(name))]
    return tuple(sorted(found, key=lambda kept: (-kept.since, kept.ifindex, kept.inode, kept.map_id)))


def _kept(pin: re.Match[str]) -> KeptMap:
    map_id, since, ifindex, inode = map(int, pin.groups())
    return KeptMap(map_id, since, ifindex, inode, _name(map_id))


def _name(map_id: int) -> str:
    try:
        with bpf.map_by_id(map_id) as fd:
            return bpf.map_info(fd).name
    except bpf.BpfError:
        return "?"


def keep_maps(where: Interface, slots: Iterable[Slot]) -> None:
    """Pin the maps of these slots. Constants are not kept, since the object file has them, nor are program
    arrays, which hold no state.

    Raises Unsupported (no bpffs that lasts), Untrusted, KernelRefused, NotFound.
    """
    require_lasting(bpffs.find(), "maps", "leave out --keep-maps")
    now, inode = int(boot_clock()), netns.inode(where.netns)
    ids = {ref.id for slot in slots for ref in slot.component.maps if not ref.name.startswith(".rodata")}
    try:
        with bpffs.open_below(*PLACE, make=True) as directory:
            for map_id in sorted(ids):
                with bpf.map_by_id(map_id) as fd:
                    if bpf.map_info(fd).type == bpf.MapType.PROG_ARRAY:
                        continue
                    with contextlib.suppress(FileExistsError):
                        directory.pin(KeptMap(map_id, now, where.ifindex, inode).pin, fd)
    except OSError as error:
        raise bpf.refusal(error, f"the maps can't be kept in {bpffs.find().joinpath(*PLACE)}") from error


def overdue() -> tuple[KeptMap, ...]:
    """Maps kept for too long, or beyond the limit."""
    found, now = kept_maps(), boot_clock()
    return tuple(kept for i, kept in enumerate(found) if i >= MOST or now - kept.since > LONGEST)


def forget_kept(gone: Collection[KeptMap] | Collection[int]) -> None:
    """Stop keeping these maps, or those with these map IDs because a chain uses them again."""
    names = [kept.pin for kept in kept_maps() if kept in gone or kept.map_id in gone] if gone else ()
    # What can't be removed now becomes overdue later, and is tried again.
    with contextlib.suppress(XdpChainError, FileNotFoundError, PermissionError):
        if names:
            with bpffs.open_below(*PLACE) as directory:
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        directory.unlink(name)
