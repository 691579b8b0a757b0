# SPDX-License-Identifier: Apache-2.0
"""A component, and what it consists of: its object file, its maps, the values set for its globals. Pure."""

from __future__ import annotations

from dataclasses import field
from typing import NamedTuple

from xdpchain.frozen import frozen

from .runconfig import DEFAULT, RunConfig

__all__ = ["MOST_ENTRIES", "Component", "GlobalValue", "MapRef", "ObjectRef", "SharedMap"]

MOST_ENTRIES = (1 << 32) - 1
"""Limit of max_entries; memory sets a lower one."""


class SharedMap(NamedTuple):
    """The map ``name`` of an object is the map ``theirs`` of the slot with the key ``slot``."""

    name: str
    slot: str
    theirs: str


@frozen
class MapRef:
    """A map that a loaded component uses: its name in the object file, and its kernel ID."""

    name: str
    id: int


@frozen
class GlobalValue:
    """A value set for a global variable before the load: ``data`` at ``offset`` bytes into ``section``;
    ``text`` is its readable form.
    """

    name: str
    section: str
    offset: int
    data: bytes = field(repr=False)
    text: str = ""


@frozen
class ObjectRef:
    """The object file of a component: its bytes, or the ID of the frozen map that holds them."""

    sha256: str
    size: int
    path: str | None = None
    map_id: int | None = None
    data: bytes | None = field(default=None, repr=False, compare=False)


@frozen
class Component:
    """One XDP program of one object file.

    ``object`` is None for a component that another tool loaded: it can be re-attached, not reloaded.
    Components of the same ``instance`` were loaded together and share their maps. ``id`` and the fields after
    it come from the kernel and are unknown (None, empty) before the load; ``instructions`` are then those of
    the object file, without called functions. ``callees``: programs of the same object reached through
    statically initialized program arrays; ``uses``: maps of the object that it and they refer to;
    ``pin_root``: directory for maps that the object pins by name (None: the BPF filesystem's root).
    ``unit_map``: the map with its linkable form (`LinkableProgram`). If the component is not loaded, ``maps``
    are existing maps to reuse. ``globals``: values set for its global variables (`maps.globals`);
    ``map_entries``: max_entries by map name that override the object's; ``shares``: maps of other slots that
    it uses in place of its own. ``bound``: it reads RX metadata (hash, timestamp, VLAN tag), so the program
    on the hook must be bound to its device.
    """

    name: str
    object: ObjectRef | None = None
    section: str = ""
    declared: RunConfig = DEFAULT
    frags: bool = False
    licence: str = "GPL"
    callees: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    pin_root: str | None = None
    instance: str = ""
    id: int | None = None
    tag: str | None = None
    loaded_at: int | None = None
    instructions: int | None = None
    maps: tuple[MapRef, ...] = ()
    unit_map: int | None = None
    globals: tuple[GlobalValue, ...] = ()
    map_entries: tuple[tuple[str, int], ...] = ()
    shares: tuple[SharedMap, ...] = ()
    bound: bool = False
