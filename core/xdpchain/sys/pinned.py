# SPDX-License-Identifier: Apache-2.0
"""Find where BPF objects are pinned, in all BPF filesystems of this mount namespace."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Generator
from dataclasses import field

from xdpchain.frozen import frozen

from . import bpf, bpffs

__all__ = ["Pins", "find_pins"]

LIMIT = 4096
"""Most pins and directories that are examined (20 ms)."""

DEPTH = 16
"""Deepest level of directories that is searched."""


@frozen
class Pins:
    """Paths by program ID, link ID and map ID. ``complete`` is false if there were more than `LIMIT` pins, or
    directories that can't be read.
    """

    programs: dict[int, tuple[str, ...]] = field(default_factory=dict)
    links: dict[int, tuple[str, ...]] = field(default_factory=dict)
    maps: dict[int, tuple[str, ...]] = field(default_factory=dict)
    complete: bool = True


_OF_CHAIN = re.compile(r"/xdp/dispatch-.*|/xdptui/(?:[0-9]+|armed|settled)")
"""Paths within a filesystem."""

KINDS = (("prog_id", "programs"), ("link_id", "links"), ("map_id", "maps"))
"""The fdinfo line that identifies each kind of object; a link's fdinfo has a prog_id too."""


def find_pins(*, of_chains: bool = True) -> Pins:
    """Open and identify every pin. Changes nothing. Without ``of_chains`` not what we and libxdp pin for each
    chain: the only maps among that are program arrays.
    """
    found: dict[str, dict[int, tuple[str, ...]]] = {kind: {} for _, kind in KINDS}
    complete = True
    with contextlib.closing(_paths(of_chains)) as paths:
        for count, pin in enumerate(paths):
            if pin is None:
                complete = False
            if count >= LIMIT:
                complete = False
                break
            what = pin and _identify(pin[1])
            if pin and what:
                path = pin[0]
                kind, object_id = what
                found[kind][object_id] = (*found[kind].get(object_id, ()), path)
    return Pins(found["programs"], found["links"], found["maps"], complete)


def _paths(of_chains: bool) -> Generator[tuple[str, int] | None, None, None]:
    """The path of every file and directory with a descriptor, which is closed after use; None for a directory
    that can't be read or is too deep. Each filesystem is walked once; links are not followed.
    """
    seen: set[int] = set()
    for mount in bpffs.mounts():
        try:
            device = os.stat(mount).st_dev
        except OSError:  # under another mount
            continue
        if device not in seen:
            seen.add(device)
            yield from _walk(os.fspath(mount), None, "" if of_chains else "/", 0)


def _walk(
    path: str, parent: int | None, within: str, depth: int
) -> Generator[tuple[str, int] | None, None, None]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        if parent is None:
            directory = os.open(path, flags)
        else:
            directory = os.open(os.path.basename(path), flags | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:  # gone
        return
    except OSError:
        yield None
        return
    try:
        for name in os.listdir(directory):
            if not (within and _OF_CHAIN.fullmatch(f"{within}{name}")):
                yield from _entry(f"{path}/{name}", name, directory, within, depth)
    finally:
        os.close(directory)


def _entry(
    path: str, name: str, directory: int, within: str, depth: int
) -> Generator[tuple[str, int] | None, None, None]:
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:  # gone
        return
    try:
        yield path, fd
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            return
        if depth < DEPTH:
            yield from _walk(path, directory, within and f"{within}{name}/", depth + 1)
        else:
            yield None
    finally:
        os.close(fd)


def _identify(pin: int) -> tuple[str, int] | None:
    try:
        if not stat.S_ISREG(os.fstat(pin).st_mode):
            return None
        with bpf.obj_get(f"/proc/self/fd/{pin}") as fd, open(f"/proc/self/fdinfo/{fd.fileno()}") as info:
            lines = dict(line.split(":", 1) for line in info if ":" in line)
    except OSError:  # gone, or not a BPF object
        return None
    for key, kind in (KINDS[1], KINDS[0], KINDS[2]):
        if key in lines:
            return kind, int(lines[key])
    return None
