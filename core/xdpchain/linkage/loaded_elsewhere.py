# SPDX-License-Identifier: Apache-2.0
"""Components that this process loaded for another interface.

What libbpf and the verifier make of an object is the same on each interface, only the maps are not. So an
object that is put on many interfaces is opened, relocated and verified on its own once; for each other one
its maps are created as libbpf created them. The kernel verifies the linked chain in any case.

Programs' IDs and load times tell apart what was loaded on an interface, so none gets the same load twice.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import lru_cache

from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.frozen import frozen
from xdpchain.model.component import Component, MapRef
from xdpchain.sys import bpf

from .compile import Compiled

__all__ = ["PLAIN", "NewMap", "keep_load", "load_alike", "new_map"]

Place = tuple[int, int]
"""An interface: the inode of its network namespace, and its ifindex."""

MOST_PLACES = 1024
"""Most interfaces that get the same load: where they come and go, it would otherwise remember each."""
MOST_CONTENT = 1 << 16
"""Most bytes of a data section that are kept."""

BPF_F_RDONLY_PROG = 1 << 7
DEVICES = {bpf.MapType.DEVMAP, bpf.MapType.DEVMAP_HASH}
PLAIN = DEVICES | {
    bpf.MapType.HASH,
    bpf.MapType.ARRAY,
    bpf.MapType.PERF_EVENT_ARRAY,
    bpf.MapType.PERCPU_HASH,
    bpf.MapType.PERCPU_ARRAY,
    bpf.MapType.LRU_HASH,
    bpf.MapType.LRU_PERCPU_HASH,
    bpf.MapType.LPM_TRIE,
    bpf.MapType.CPUMAP,
    bpf.MapType.XSKMAP,
    bpf.MapType.QUEUE,
    bpf.MapType.STACK,
    bpf.MapType.RINGBUF,
}
"""Types that `bpf.MapInfo` describes completely, and that are empty when a program is loaded."""
BPF_F_NUMA_NODE = 1 << 2


@frozen
class NewMap:
    """A map as libbpf created it; ``content`` is a data section's, empty if it is zero."""

    info: bpf.MapInfo
    content: bytes
    frozen: bool

    def create(self, types: bpf.Fd) -> bpf.Fd:
        """One more; ``types`` is the BTF of its object."""
        info = self.info
        # The kernel sets this flag of device maps itself, and refuses it from others (0cdbb4b09a06).
        flags = info.flags & ~BPF_F_RDONLY_PROG if info.type in DEVICES else info.flags
        fd = bpf.map_create(
            info.type, info.key_size, info.value_size, info.max_entries, name=info.name, flags=flags,
            btf_fd=types.fileno() if info.btf_id else 0, btf_types=(info.btf_key_type, info.btf_value_type),
        )  # fmt: skip
        if self.content:
            bpf.map_update(fd, bytes(4), self.content)
        if self.frozen:
            bpf.map_freeze(fd)
        return fd


@frozen
class _Load:
    """A component as it was loaded, the maps of its object, and the interfaces that have this load."""

    component: Component
    unit: LinkableProgram
    maps: Mapping[str, NewMap]
    on: set[Place]


@lru_cache(maxsize=16)
def _loads(data: bytes, name: str, frags: bool, uses: tuple[str, ...], settings: Hashable) -> list[_Load]:
    """The latest load of an object and its settings, if any."""
    return []


def _loads_of(component: Component, data: bytes, frags: bool) -> list[_Load]:
    return _loads(data, component.name, frags, component.uses, (component.globals, component.map_entries))


def load_alike(component: Component, data: bytes, frags: bool, place: Place) -> Compiled | None:
    """The component with new maps, as if it had been loaded for this interface; None if it must be."""
    load = next(iter(_loads_of(component, data, frags)), None)
    if load is None or place in load.on or len(load.on) == MOST_PLACES:
        return None
    made = Compiled(component, load.unit)
    try:
        with bpf.btf_load(load.unit.btf) as types:
            for name, new in load.maps.items():
                made.maps[name] = new.create(types)
        refs = tuple(MapRef(ref.name, bpf.map_info(made.maps[ref.name]).id) for ref in load.component.maps)
    except bpf.BpfError:  # loading it says why
        made.close()
        return None
    load.on.add(place)
    known = load.component
    made.component = replace(
        component, id=known.id, tag=known.tag, loaded_at=known.loaded_at, instructions=known.instructions,
        maps=refs, unit_map=None,
    )  # fmt: skip
    return made


def keep_load(component: Component, data: bytes, frags: bool, place: Place, made: Compiled) -> None:
    """Keep what was made of a component for this interface for the next ones, if its maps are new and of
    types that can be made anew.
    """
    if not made.fresh or not made.unit.btf:
        return
    try:
        maps = {name: new_map(name, fd) for name, fd in made.maps.items()}
    except OSError:
        return
    known = {name: new for name, new in maps.items() if new is not None}
    if len(known) == len(maps):
        _loads_of(component, data, frags)[:] = [_Load(made.component, made.unit, known, {place})]


def new_map(name: str, fd: bpf.Fd) -> NewMap | None:
    """How to create this map, which nothing wrote to yet, once more; ``name`` is that in its object. None:
    it can't be known.
    """
    info = bpf.map_info(fd)
    if info.type not in PLAIN or info.flags & BPF_F_NUMA_NODE:
        return None
    content = b""
    if name.startswith("."):  # a data section
        if info.value_size > MOST_CONTENT:
            return None
        content = bpf.map_lookup(fd, bytes(4), info.value_size)
    frozen = bool(info.flags & BPF_F_RDONLY_PROG) and bpf.map_frozen(fd)
    return NewMap(info, content if any(content) else b"", frozen)
