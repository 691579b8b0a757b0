# SPDX-License-Identifier: Apache-2.0
"""Match history folders to interfaces. Folders have the interface's name, which survives a reboot; if an
interface is renamed or moves to another namespace, its history follows.

Within a boot, an interface is identified by its ifindex and its namespace's cookie, and a chain by its
program IDs, which are not reused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import quote

from xdpchain.errors import XdpChainError
from xdpchain.model.running import Running
from xdpchain.sys.netlink import Netlink

from .entries import Heading, JournalEntry
from .store import all_headings, append, boot_id, drop_interfaces, headings, interface_folder

__all__ = ["add", "device_of", "folder_of", "searched_once"]

Device = tuple[int, int]

NEWEST = 3
"""Newest entries that are checked: the newest one with a device may be followed by a confirmation."""


def folder_of(running: Running) -> Path | None:
    """The folder with this interface's history, even from under another name; None if the folder of its name
    belongs to another interface.
    """
    return _found(_folder(running), running, device_of(running))


def _found(own: Path, running: Running, device: Device | None) -> Path | None:
    wanted = _marks(device, running.identity[1][:1])
    if any(not wanted.isdisjoint(_marks_of(heading)) for heading in headings(own, NEWEST)):
        return own
    elsewhere = (_KEPT.get() or _Index()).find(wanted)
    if elsewhere is not None:
        return elsewhere
    return None if _name_of_another(own, running, device) is not None else own


Mark = Device | int
"""What identifies an interface within this boot: its device, and a prog ID that ran there."""


class _Index:
    """The folders of all interfaces, by what identifies these; of several the one changed last. Read when it
    is needed first.
    """

    def __init__(self) -> None:
        self._folders: dict[Mark, tuple[int, str]] | None = None
        self._added = 0
        self.grown = False
        self.changed: set[Path] = set()

    def find(self, wanted: Iterable[Mark]) -> Path | None:
        if self._folders is None:
            self._folders = {}
            for place, (folder, known) in enumerate(all_headings(NEWEST)):
                for mark in set[Mark]().union(*map(_marks_of, known)):
                    self._folders.setdefault(mark, (place, folder))
        found = min((self._folders[mark] for mark in wanted if mark in self._folders), default=None)
        return Path(found[1]) if found is not None and os.path.isdir(found[1]) else None

    def note(self, folder: Path, heading: Heading, *, first: bool) -> None:
        self._added += 1
        self.grown |= first
        self.changed.add(folder)
        if self._folders is not None:
            self._folders.update(dict.fromkeys(_marks_of(heading), (-self._added, str(folder))))

    def forget(self) -> None:
        self._folders = None


_KEPT: ContextVar[_Index | None] = ContextVar("index", default=None)


@contextmanager
def searched_once() -> Iterator[set[Path]]:
    """Within this, all folders are searched once, not for each interface that is changed, and the limit on
    their number is enforced at the end. What other processes record meanwhile is found under the interface's
    name, but not under a name that it had for a moment. Gives a set: at the end, the changed folders
    that the limit has cost.
    """
    index = _Index()
    dropped: set[Path] = set()
    token = _KEPT.set(index)
    try:
        yield dropped
    finally:
        _KEPT.reset(token)
        if index.grown:
            dropped.update(index.changed & drop_interfaces())


def add(running: Running, device: Device | None, entry: JournalEntry) -> None:
    """Append an entry to the interface's history; ``device`` is from `device_of`. Raises OSError; then
    nothing was stored.
    """
    index, own = _KEPT.get(), _folder(running)
    if _bring_along(own, running, device) and index is not None:
        index.forget()
    first = append(own, entry)
    if index is not None:
        index.note(own, Heading.of(entry), first=first)
    elif first:
        drop_interfaces()


def _bring_along(own: Path, running: Running, device: Device | None) -> bool:
    """Make the folder of the interface's current name the one with its history. Another interface's history
    under that name is moved aside. Returns whether anything was renamed.
    """
    found = _found(own, running, device)
    if found == own:
        return False
    if found is None:  # the name belonged to another interface, which has had no change since it was renamed
        other = own.with_name(quote(_name_of_another(own, running, device) or "", safe=""))
        if not other.exists():
            os.rename(own, other)
        return True
    own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if own.exists():
        aside = own.with_name(f".moving-{os.getpid()}")
        os.rename(own, aside)
        os.rename(found, own)
        os.rename(aside, found)
    else:
        os.rename(found, own)
    return True


def device_of(running: Running) -> Device | None:
    """The interface in the form of an entry's ``device``."""
    cookie = running.device.netns_cookie
    return None if cookie is None else (cookie, running.interface.ifindex)


def _folder(running: Running) -> Path:
    where = running.interface
    return interface_folder(where.name, running.device.netns_inode)


def _marks(device: Device | None, programs: Iterable[int | None]) -> set[Mark]:
    return {mark for mark in (device, *programs) if mark is not None}


def _marks_of(heading: Heading) -> set[Mark]:
    return _marks(heading.device, heading.programs) if heading.boot == boot_id() else set()


def _name_of_another(folder: Path, running: Running, device: Device | None) -> str | None:
    """The current name of the interface that owns this history, if it is not ours."""
    boot = boot_id()
    devices = (heading.device for heading in headings(folder, NEWEST) if heading.boot == boot)
    last = next((device for device in devices if device is not None), None)
    if last is None or device is None or last == device or last[0] != device[0]:
        return None
    try:
        with Netlink(running.interface.netns) as netlink:
            name = netlink.link(last[1]).name
    except XdpChainError:  # it is gone: a new interface continues the history of its name
        return None
    return name if name != running.interface.name else None
