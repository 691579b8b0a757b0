# SPDX-License-Identifier: Apache-2.0
"""Match history folders to interfaces. Folders have the interface's name, which survives a reboot; if an
interface is renamed or moves to another namespace, its history follows.

Within a boot, an interface is identified by its ifindex and its namespace's cookie, and a chain by its
program IDs, which are not reused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from xdpchain.errors import XdpChainError
from xdpchain.model.running import Running
from xdpchain.sys.netlink import Netlink

from .entries import Heading
from .store import all_headings, boot_id, headings, interface_folder

__all__ = ["bring_along", "device_of", "folder_of"]

Device = tuple[int, int]

NEWEST = 3
"""Newest entries that are checked: the newest one with a device may be followed by a confirmation."""


def folder_of(running: Running) -> Path | None:
    """The folder with this interface's history, even from under another name; None if the folder of its name
    belongs to another interface.
    """
    return _found(_folder(running), running, device_of(running))


def _found(own: Path, running: Running, device: Device | None) -> Path | None:
    boot, program, mine = boot_id(), running.identity[1][:1], str(own)
    if _about(headings(own, NEWEST), boot, program, device):
        return own
    for folder, known in all_headings(NEWEST):
        if folder != mine and _about(known, boot, program, device):
            return Path(folder)
    return None if _name_of_another(own, running, device) is not None else own


def bring_along(running: Running, device: Device | None) -> Path:
    """The folder to write to, under the interface's current name; ``device`` is from `device_of`. Another
    interface's history under that name is moved aside. Raises OSError.
    """
    own = _folder(running)
    found = _found(own, running, device)
    if found is None:  # the name belonged to another interface, which has had no change since it was renamed
        other = own.with_name(quote(_name_of_another(own, running, device) or "", safe=""))
        if not other.exists():
            os.rename(own, other)
    elif found != own:
        own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if own.exists():
            aside = own.with_name(f".moving-{os.getpid()}")
            os.rename(own, aside)
            os.rename(found, own)
            os.rename(aside, found)
        else:
            os.rename(found, own)
    return own


def device_of(running: Running) -> Device | None:
    """The interface in the form of an entry's ``device``."""
    cookie = running.device.netns_cookie
    return None if cookie is None else (cookie, running.interface.ifindex)


def _folder(running: Running) -> Path:
    where = running.interface
    return interface_folder(where.name, running.device.netns_inode)


def _about(known: Iterable[Heading], boot: str, program: tuple[int, ...], device: Device | None) -> bool:
    """Whether one of these entries is about the interface, or what runs there."""
    for heading in known:  # called for every folder at every change, hence no generators
        if heading.boot == boot:
            if device is not None and heading.device == device:
                return True
            if program and program[0] in heading.programs:
                return True
    return False


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
