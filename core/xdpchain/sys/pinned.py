# SPDX-License-Identifier: Apache-2.0
"""Where BPF objects are pinned: a walk over the BPF filesystems of this mount namespace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from . import bpf, bpffs

__all__ = ["Pins", "find_pins"]

LIMIT = 4096
"""Pins that are opened at most: 20 ms."""


@dataclass(frozen=True, slots=True)
class Pins:
    """Paths by prog id, link id and map id. ``complete`` is false where there were more pins than are looked
    at, or directories that may not be read.
    """

    programs: dict[int, tuple[str, ...]] = field(default_factory=dict)
    links: dict[int, tuple[str, ...]] = field(default_factory=dict)
    maps: dict[int, tuple[str, ...]] = field(default_factory=dict)
    complete: bool = True


KINDS = (("prog_id", "programs"), ("link_id", "links"), ("map_id", "maps"))
"""The line of fdinfo that says what an object is; a link's has its program's id too."""


def find_pins() -> Pins:
    """Open every pin, and ask what it is. Changes nothing."""
    found: dict[str, dict[int, tuple[str, ...]]] = {kind: {} for _, kind in KINDS}
    complete = True
    for count, path in enumerate(_paths()):
        if path is None or count >= LIMIT:
            complete = False
            if path is not None:
                break
            continue
        what = _identify(path)
        if what is not None:
            kind, number = what
            found[kind][number] = (*found[kind].get(number, ()), path)
    return Pins(found["programs"], found["links"], found["maps"], complete)


def _paths() -> Iterator[str | None]:
    """Every file, None for a directory that may not be read. The same filesystem is walked once."""
    unreadable: list[OSError] = []
    seen: set[int] = set()
    for mount in bpffs.mounts():
        try:
            device = os.stat(mount).st_dev
        except OSError:  # under another mount
            continue
        if device in seen:
            continue
        seen.add(device)
        for directory, _, names in os.walk(mount, onerror=unreadable.append):
            for name in names:
                yield f"{directory}/{name}"
            while unreadable:
                unreadable.pop()
                yield None


def _identify(path: str) -> tuple[str, int] | None:
    try:
        with bpf.obj_get(path) as fd, open(f"/proc/self/fdinfo/{fd.fileno()}") as info:
            lines = dict(line.split(":", 1) for line in info if ":" in line)
    except OSError:  # gone, or no BPF object
        return None
    for key, kind in (KINDS[1], KINDS[0], KINDS[2]):
        if key in lines:
            return kind, int(lines[key])
    return None
