# SPDX-License-Identifier: Apache-2.0
"""The journal's files, in /var/lib/xdptui or the folder in XDPTUI_STATE.

``interfaces/<namespace>/<interface>/<number>.json`` is an entry, ``objects/<sha256>`` an object file. Files
appear atomically, by a link or rename. Limits: 100 entries per interface, 256 interfaces, 64 MiB of object
files; the least recently used are removed first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from urllib.parse import quote, unquote

from xdpchain import files
from xdpchain.errors import InvalidInput, NotFound
from xdpchain.sys import netns

from .entries import MOST_BYTES, Heading, JournalEntry

__all__ = [
    "MOST_ENTRIES",
    "STATE",
    "all_headings",
    "append",
    "boot_id",
    "drop_interfaces",
    "entries",
    "has_object",
    "headings",
    "interface_folder",
    "keep_object",
    "object_data",
]

STATE = "XDPTUI_STATE"
DEFAULT = "/var/lib/xdptui"
NAMED = "netns-"
FILE_MODE, FOLDER_MODE = 0o600, 0o700
_ENTRY = re.compile(r"[0-9]{1,15}\.json")

MOST_ENTRIES, MOST_INTERFACES, MOST_OBJECT_BYTES = 100, 256, 64 << 20
TICK = 50_000_000
"""Nanoseconds in which two changes may get the same timestamp: the kernel's file times are coarse."""


@cache
def boot_id() -> str:
    """The kernel's random ID of this boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def interface_folder(ifname: str, inode: int) -> Path:
    """The folder of an interface's entries, by its name and that of the namespace with this inode, since an
    ifindex does not survive a reboot. Neither does an unnamed namespace.
    """
    name = netns.name_of(inode)
    if name is not None:
        place = NAMED + name
    else:
        place = "host" if _is_host(inode) else f"inode-{inode}"
    return _root().joinpath("interfaces", quote(place, safe=""), quote(ifname, safe=""))


def all_headings(most: int) -> Iterator[tuple[str, Iterable[Heading]]]:
    """The folders of all interfaces with what `headings` says of them, the last changed first."""
    found = []
    with contextlib.suppress(OSError):
        for place in os.scandir(_root() / "interfaces"):
            if place.is_dir(follow_symlinks=False):
                found += [(entry.stat().st_mtime_ns, entry.path) for entry in os.scandir(place.path)]
    settled = time.time_ns() - TICK
    for changed, folder in sorted(found, reverse=True):
        yield folder, _headings(folder, changed, most, settled)


def entries(folder: Path, newest: int = MOST_ENTRIES) -> tuple[JournalEntry, ...]:
    """The newest readable entries of an interface, oldest first."""
    found = []
    for entry_number in _numbers(folder)[-newest:]:
        with contextlib.suppress(OSError, InvalidInput):
            found.append(
                JournalEntry.decode(files.read(folder / f"{entry_number}.json", MOST_BYTES), entry_number)
            )
    return tuple(found)


def headings(folder: Path, most: int) -> Iterable[Heading]:
    """The headings of the newest entries, newest first. Cached per unchanged folder, since every edit
    searches all folders for its interface.
    """
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:
        return ()
    return _headings(str(folder), changed, most, time.time_ns() - TICK)


def _headings(folder: str, changed: int, most: int, settled: int) -> Iterable[Heading]:
    # Later than that, another entry may have come in the same tick.
    return _newest(folder, changed, most) if changed < settled else _read(Path(folder), most)


@lru_cache(maxsize=2 * MOST_INTERFACES)
def _newest(folder: str, changed: int, most: int) -> tuple[Heading, ...]:
    return tuple(_read(Path(folder), most))


def _read(folder: Path, most: int) -> Iterator[Heading]:
    for entry_number in reversed(_numbers(folder)[-most:]):
        path = folder / f"{entry_number}.json"
        try:
            file = _identity(path)
            heading = _HEADINGS.get(file) or _remember(file, Heading.decode(files.read(path, MOST_BYTES)))
        except (OSError, InvalidInput):
            continue
        yield heading


def _identity(path: Path) -> tuple[object, ...]:
    """What tells a file from all others, and changes with its contents. Raises OSError."""
    found = path.stat()
    return path, found.st_ino, found.st_mtime_ns, found.st_size


def _remember(file: tuple[object, ...], heading: Heading) -> Heading:
    if len(_HEADINGS) >= 4 * MOST_INTERFACES:
        _HEADINGS.clear()
    _HEADINGS[file] = heading
    return heading


_HEADINGS: dict[tuple[object, ...], Heading] = {}


def append(folder: Path, entry: JournalEntry) -> bool:
    """Store an entry as the interface's newest. Returns whether it is the first (`drop_interfaces`). Raises
    OSError; then nothing was stored.
    """
    data, entry_numbers = entry.encode(), _numbers(folder)
    entry_number = max(entry_numbers, default=0)
    while True:
        entry_number += 1
        path = folder / f"{entry_number}.json"
        try:
            files.put(str(path), data, mode=FILE_MODE, folder_mode=FOLDER_MODE)
            break
        except FileExistsError:  # an editor with a different BPF filesystem, and so a different lock
            continue
    with contextlib.suppress(OSError):
        _remember(_identity(path), Heading.of(entry))
        for old in [*entry_numbers, entry_number][:-MOST_ENTRIES]:
            (folder / f"{old}.json").unlink(missing_ok=True)
    return not entry_numbers


def has_object(sha256: str) -> bool:
    """Whether this object file is stored; if so, mark it as used now."""
    try:
        os.utime(_object(sha256))
    except (OSError, ValueError):
        return False
    return True


def keep_object(sha256: str, data: bytes) -> None:
    """Store an object file. Raises OSError; then nothing was stored."""
    path = _object(sha256)
    files.replace(str(path), data, mode=FILE_MODE, folder_mode=FOLDER_MODE)
    with contextlib.suppress(OSError):
        _drop_objects(path.parent)


def object_data(sha256: str) -> bytes:
    """The bytes of an object file, checked against their hash. Raises NotFound."""
    try:
        data = files.read(_object(sha256), MOST_OBJECT_BYTES)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise NotFound(f"the object file {sha256[:12]} is not in the journal", why) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        why = "the file there has a different hash"
        raise NotFound(f"the object file {sha256[:12]} is not in the journal", why)
    return data


def _root() -> Path:
    return Path(os.environ.get(STATE) or DEFAULT)


def _object(sha256: str) -> Path:
    if len(sha256) != 64 or not sha256.isalnum():
        raise ValueError(f"{sha256!r} is not a hash")
    return _root().joinpath("objects", sha256)


def _is_host(inode: int) -> bool:
    try:
        return os.stat("/proc/1/ns/net").st_ino == inode
    except OSError:
        return False


def _numbers(folder: Path) -> list[int]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(int(name[:-5]) for name in names if _ENTRY.fullmatch(name))


def drop_interfaces() -> set[Path]:
    """Remove and return the histories that are beyond the limit, if possible: those of named namespaces that
    are gone, then those that were changed first.
    """

    def worth(folder: os.DirEntry[str]) -> tuple[bool, float]:
        place = os.path.basename(os.path.dirname(folder.path))
        gone = place.startswith(NAMED) and not (netns.RUN_DIR / unquote(place)[len(NAMED) :]).exists()
        return not gone, folder.stat().st_mtime

    dropped: set[Path] = set()
    with contextlib.suppress(OSError):
        places = os.scandir(_root() / "interfaces")
        folders = [folder for place in places for folder in os.scandir(place.path)]
        if len(folders) <= MOST_INTERFACES:
            return dropped
        for folder in sorted(folders, key=worth)[:-MOST_INTERFACES]:
            shutil.rmtree(folder.path, ignore_errors=True)
            dropped.add(Path(folder.path))
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(folder.path))
    return dropped


def _drop_objects(folder: Path) -> None:
    files = [(path.stat(), path) for path in folder.iterdir()]
    total = sum(stat.st_size for stat, _ in files)
    for stat, path in sorted(files, key=lambda stat_and_path: stat_and_path[0].st_mtime):
        if total <= MOST_OBJECT_BYTES:
            break
        path.unlink(missing_ok=True)
        total -= stat.st_size
