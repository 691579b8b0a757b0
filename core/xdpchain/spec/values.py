# SPDX-License-Identifier: Apache-2.0
"""A spec as frozen values. Pure."""

from __future__ import annotations

from xdpchain.frozen import frozen
from xdpchain.model.actions import Action, ActionSet
from xdpchain.model.chain import Linkage
from xdpchain.model.interface import WantedMode
from xdpchain.model.labels import Labels
from xdpchain.model.map_entries import MapEntry
from xdpchain.model.policy import Policy

__all__ = ["FORMAT", "InterfaceSpec", "SlotSpec", "Spec", "is_glob"]

FORMAT = 1


@frozen
class SlotSpec:
    """One slot as a spec wants it; what is empty or None is left to the object file or to what runs.

    ``object`` is the object file's path as written, ``sha256`` the hash that it must have. A slot without an
    object names a component that another tool loaded, by its ``tag``: it can be kept, but not loaded. Slots
    of the same ``instance`` are loaded together and share their maps. ``pin_path`` is the directory for maps
    that the object wants pinned by name. ``routes`` lead from a return code (None: any other) to a slot, by
    its ``given_name`` (the key ``name``), or by its program if that is unique. ``globals`` are values for
    global variables, by name, as text; ``map_entries`` the maps' numbers of entries, by name; ``use_maps``
    the maps of other slots that it uses in place of its own: its name, the slot (as in routes), the name
    there. ``shadow``, ``off``, ``labels``, ``policy`` and ``entries`` are as in `chain.Slot`.
    """

    object: str | None = None
    sha256: str | None = None
    program: str = ""
    section: str = ""
    priority: int | None = None
    actions: ActionSet | None = None
    routes: tuple[tuple[Action | None, str], ...] = ()
    shadow: bool = False
    off: bool = False
    labels: Labels = ()
    policy: Policy | None = None
    given_name: str | None = None
    globals: tuple[tuple[str, str], ...] = ()
    map_entries: tuple[tuple[str, int], ...] = ()
    use_maps: tuple[tuple[str, str, str], ...] = ()
    pin_path: str | None = None
    instance: str | None = None
    tag: str | None = None
    entries: tuple[MapEntry, ...] = ()

    @property
    def name(self) -> str:
        """What routes and `use_maps` call this slot; empty if they can't."""
        return self.given_name or self.program


@frozen
class InterfaceSpec:
    """What each of these interfaces should run; ``names`` may be globs. ``netns`` None: that of the process
    that applies it. ``linkage`` None: the running chain's, or the machine's default. ``mode`` None: native,
    but a chain that runs in another mode is not moved. ``share_maps``: a newly loaded program gets the maps
    of the same program on another of the interfaces.
    """

    names: tuple[str, ...]
    slots: tuple[SlotSpec, ...] = ()
    netns: str | None = None
    linkage: Linkage | None = None
    mode: WantedMode | None = None
    counters: bool = True
    dispatcher_version: int | None = None
    share_maps: bool = False


@frozen
class Spec:
    """A whole file."""

    interfaces: tuple[InterfaceSpec, ...] = ()


def is_glob(name: str) -> bool:
    """Whether this stands for any number of interfaces."""
    return any(sign in name for sign in "*?[")
