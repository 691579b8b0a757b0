# SPDX-License-Identifier: Apache-2.0
"""All BPF objects that exist because of us: held by our descriptors, our pins and our interfaces.

The kernel's lists cover the whole machine, on which others work too. But a program, map, or link lives only
while a descriptor, a pin, a hook or another object holds it. So what is reachable from ours is exactly what
we would leak.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from xdpchain.linkage.counting import COUNTERS, COUNTS
from xdpchain.observe.discover import look
from xdpchain.sys import bpf
from xdpchain.testing.playground import Playground

__all__ = ["Holdings", "descriptors", "holdings", "pin_paths", "resident_bytes"]

NO_PINS = ("xdp", "xdptui", "maps.debug", "progs.debug")  # the lock, our directory, the kernel's own


@dataclass
class Holdings:
    """Ids of what is held, paths of pins, and the number of this process's descriptors."""

    programs: set[int] = field(default_factory=set)
    maps: set[int] = field(default_factory=set)
    links: set[int] = field(default_factory=set)
    pins: tuple[str, ...] = ()
    descriptors: int = 0
    counters: set[int] = field(default_factory=set)

    @property
    def counts(self) -> dict[str, int]:
        """How many of each. Counter maps are counted separately: a chain keeps some of programs that ran
        before."""
        return {
            "programs": len(self.programs),
            "maps": len(self.maps - self.counters),
            "links": len(self.links),
            "pins": len(self.pins),
            "descriptors": self.descriptors,
        }


def holdings(playground: Playground, bpffs: Path, others: Iterable[int] = ()) -> Holdings:
    """What is held now by this process, by other processes, by pins under ``bpffs``, and by the playground's
    interfaces.
    """
    found = Holdings(pins=pin_paths(bpffs), descriptors=descriptors())
    for process in ("self", *others):
        for number in os.listdir(f"/proc/{process}/fd"):
            _take_descriptor(found, process, int(number))
    for path in found.pins:
        try:
            with bpf.obj_get(str(bpffs / path)) as fd:
                _take_descriptor(found, "self", fd.fileno())
        except OSError:
            continue  # a directory
    for link in playground.links:
        for hook in look(link.ifname, playground.netns).hooks:
            _take_program(found, hook.prog_id)
    return found


def pin_paths(bpffs: Path) -> tuple[str, ...]:
    """All pins, and the directories of chains."""
    paths = (str(path.relative_to(bpffs)) for path in bpffs.rglob("*"))
    return tuple(sorted(path for path in paths if path not in NO_PINS))


def descriptors() -> int:
    """Open descriptors of this process, without the one that lists them."""
    return len(os.listdir("/proc/self/fd")) - 1


def resident_bytes() -> int:
    """Physical memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _take_descriptor(found: Holdings, process: int | str, number: int) -> None:
    try:
        text = Path(f"/proc/{process}/fdinfo/{number}").read_text()
    except OSError:
        return  # closed meanwhile
    facts = dict(re.findall(r"^(\w+):\s+(\d+)", text, re.MULTILINE))
    if "link_id" in facts:
        found.links.add(int(facts["link_id"]))
    if "prog_id" in facts:
        _take_program(found, int(facts["prog_id"]))
    if "map_id" in facts:
        _take_map(found, int(facts["map_id"]))


def _take_program(found: Holdings, prog_id: int) -> None:
    if prog_id in found.programs:
        return
    try:
        with bpf.prog_by_id(prog_id) as program:
            maps = bpf.prog_map_ids(program)
    except bpf.BpfError:
        return
    found.programs.add(prog_id)
    for each in maps:
        _take_map(found, each)


def _take_map(found: Holdings, map_id: int) -> None:
    if map_id in found.maps:
        return
    try:
        with bpf.map_by_id(map_id) as fd:
            info = bpf.map_info(fd)
            inner = []
            if info.type in (bpf.MapType.PROG_ARRAY, bpf.MapType.ARRAY_OF_MAPS, bpf.MapType.HASH_OF_MAPS):
                inner = [_value(fd, key) for key in bpf.map_keys(fd, info.key_size)]
    except bpf.BpfError:
        return
    found.maps.add(map_id)
    if info.name in (COUNTERS, COUNTS):
        found.counters.add(map_id)
    take = _take_program if info.type == bpf.MapType.PROG_ARRAY else _take_map
    for each in filter(None, inner):
        take(found, each)


def _value(fd: bpf.Fd, key: bytes) -> int:
    try:
        return int.from_bytes(bpf.map_lookup(fd, key, 4), "little")
    except bpf.BpfError:  # an empty row
        return 0
