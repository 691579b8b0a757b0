# SPDX-License-Identifier: Apache-2.0
"""The programs that packets reach after the one on the hook: through program arrays that it or its slots
tail-call (katran's root, l3afd's), and through devmaps and cpumaps that they redirect to.
"""

from __future__ import annotations

import contextlib
import struct
import sys
from collections.abc import Iterable, Iterator

from xdpchain.frozen import frozen
from xdpchain.model.running import Running
from xdpchain.sys import bpf

__all__ = ["Behind", "maps_of_programs", "programs_behind", "programs_in"]

MOST_ENTRIES = 4096
"""Most entries of a map that are read."""

BY_ENTRY = {"prog_array": 0, "devmap": 4, "devmap_hash": 4, "cpumap": 4}
"""Offset of the program's ID in an element (uapi: struct bpf_devmap_val, struct bpf_cpumap_val)."""


UNCOUNTED = {
    "prog_array": "what it returns counts as the code of the program that calls it",
    "devmap": "watch counts them while it runs; events count what it drops as lost to the device",
    "cpumap": "watch and events count them, each while it runs",
}
"""Why nobody has counted so far what programs in these maps return, and who does."""


@frozen
class Behind:
    """A program in a map: the map's name, ID and type, the index (devmap_hash: the key), and the program.
    ``ifindex``: in a devmap, the device that it runs for.
    """

    map_name: str
    map_id: int
    kind: str
    index: int
    prog_id: int
    name: str
    ifindex: int | None = None

    @property
    def traceable(self) -> bool:
        """Whether tracing can count its verdicts (`trace.RedirectTracer`): packets are redirected to it, and
        not tail-called.
        """
        return self.kind != "prog_array"

    @property
    def uncounted(self) -> str:
        """Why its verdicts have no counts without tracing, and who counts them."""
        return UNCOUNTED[self.kind.removesuffix("_hash")]


def programs_behind(running: Running) -> tuple[Behind, ...]:
    """The programs behind those of an interface now, without any that disappear or can't be read."""
    return programs_in(maps_of_programs(running))


def maps_of_programs(running: Running) -> tuple[int, ...]:
    """The IDs of the maps that may hold programs, among those that what runs on an interface uses."""
    found = []
    for map_id in dict.fromkeys(_maps(running)):
        with contextlib.suppress(bpf.BpfError), bpf.map_by_id(map_id) as fd:
            if _offset(bpf.map_info(fd)) is not None:
                found.append(map_id)
    return tuple(found)


def programs_in(map_ids: Iterable[int]) -> tuple[Behind, ...]:
    """The programs that these maps hold now."""
    programs: list[Behind] = []
    for map_id in map_ids:
        with contextlib.suppress(bpf.BpfError), bpf.map_by_id(map_id) as fd:
            programs += _inside(fd, bpf.map_info(fd))
    return tuple(programs)


def _maps(running: Running) -> Iterator[int]:
    chain = running.chain or running.shown
    if chain is not None and chain.slots:
        yield from (ref.id for slot in chain for ref in slot.component.maps)
        return
    for hook in running.hooks:
        try:
            with bpf.prog_by_id(hook.prog_id) as program:
                yield from bpf.prog_map_ids(program)
        except bpf.BpfError:
            continue


def _offset(info: bpf.MapInfo) -> int | None:
    """Where in an element the program's ID is; None if these elements have none."""
    at = BY_ENTRY.get(bpf.map_type_name(info.type))
    # Before kernel 5.8 devmaps and cpumaps had no programs.
    return at if at is not None and info.value_size >= at + 4 else None


def _inside(fd: bpf.Fd, info: bpf.MapInfo) -> Iterator[Behind]:
    kind, at = bpf.map_type_name(info.type), _offset(info)
    if at is None:
        return
    for count, key in enumerate(bpf.map_keys(fd, info.key_size)):
        if count == MOST_ENTRIES:
            return
        try:
            value = bpf.map_lookup(fd, key, info.value_size)
            (prog_id,) = struct.unpack_from("=I", value, at)
            name = _name(prog_id) if prog_id else ""
        except bpf.BpfError:  # an empty entry, or a program that is gone
            continue
        if prog_id:
            device = struct.unpack_from("=I", value)[0] if kind.startswith("devmap") else None
            yield Behind(info.name, info.id, kind, int.from_bytes(key, sys.byteorder), prog_id, name, device)


def _name(prog_id: int) -> str:
    with bpf.prog_by_id(prog_id) as program:
        return bpf.prog_info(program).name
