# SPDX-License-Identifier: Apache-2.0
"""A component as an EXT program: loaded to replace a dispatcher's function, or taken as it runs.

Everything a later process needs to know about a component we loaded is in frozen maps bound to the component
itself: its slot as a manifest, its object file, and, if it counts for itself (`self_counting`), where its
counts are. The dispatcher can't hold them: it may have no map but its configuration, and every later
dispatcher, libxdp's included, attaches the same component again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from xdpchain.advice import Do, advise
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.errors import LinkRefused, XdpChainError
from xdpchain.model.chain import Chain, Linkage
from xdpchain.model.component import Component, MapRef
from xdpchain.model.counting import Counting
from xdpchain.model.manifest import PLAIN, Author, Manifest
from xdpchain.model.running import Running
from xdpchain.model.slot import Slot
from xdpchain.sys import blobs, bpf
from xdpchain.sys.libbpf import LoadFailed, Object

from .compile import (
    Stub,
    as_loaded,
    explain,
    main_program,
    map_key,
    open_maps,
    rehearse_load,
    shape,
    unit_of,
)
from .counting import OwnCounters, describe, going_on
from .dispatcher.attached import ORIGIN
from .dispatcher.stand_in import load_stand_in
from .linkable_slots import kept_maps, object_bytes, shared_maps
from .linked import OBJECT, UNIT
from .policing import ring_on
from .self_counting import Place, load_counting, uncountable

__all__ = ["Extension", "ExtensionLoader"]

FRAGS = False
"""Multi-buffer support is the dispatcher's flag. The kernel refuses it on an EXT component, and the programs
in the component's program arrays must agree with that.
"""


@dataclass
class Extension:
    """A component: its slot with what the kernel reported, and its program. If it was just loaded, also its
    counters if it counts, or why not if it should; the ``unit`` that its verdict sites are found in; and the
    maps to pin: program arrays by map ID, and (map, path) for those that the object wants pinned by name.
    ``kept`` is the component of a slot that is off: ``program`` is then its stand-in.
    """

    slot: Slot
    program: bpf.Fd
    counters: OwnCounters | None = None
    form: str = ""
    form_reason: str = ""
    unit: LinkableProgram | None = None
    arrays: dict[int, bpf.Fd] = field(default_factory=dict)
    pins: list[tuple[bpf.Fd, str]] = field(default_factory=list)
    kept: bpf.Fd | None = None


class ExtensionLoader:
    """Turns the slots of a chain into extensions that replace what is ``running``; ``held`` closes what they
    hold. ``counting``: newly loaded ones count for themselves.
    """

    def __init__(
        self, held: contextlib.ExitStack, author: Author, running: Running, *, counting: bool
    ) -> None:
        self._held = held
        self._author = author
        self._running = running
        self._counting = counting
        self._siblings: dict[str, dict[str, bpf.Fd]] = {}
        self._maps_of: dict[str, Mapping[str, bpf.Fd]] = {}
        self._objects: dict[str, int] = {}

    def take(self, slot: Slot) -> Extension | None:
        """The slot's component as it already runs, as an EXT program of any dispatcher; None if it
        doesn't.
        """
        component = slot.component
        if component.id is None:
            return None
        try:
            program = bpf.prog_by_id(component.id)
        except bpf.BpfError:
            return None
        self._held.callback(program.close)
        if bpf.prog_info(program).type != bpf.ProgType.EXT:
            return None
        if component.object is not None and component.object.map_id is not None:
            self._objects[component.object.sha256] = component.object.map_id
        if component.instance or component.maps:
            maps = self._maps_of[slot.key] = self._open(component)
            if component.instance:
                self._siblings.setdefault(component.instance, {}).update(maps)
        return Extension(slot, program)

    def load(self, slot: Slot, target: Stub, function: int) -> Extension:
        """Load the slot's component from its object file, with the maps that it names. Raises LinkRefused,
        KernelRefused, InvalidInput.
        """
        component = slot.component
        if component.object is None:
            raise LinkRefused(
                f"{component.name} can't become part of a dispatcher's chain",
                "it is not loaded as type EXT, and its object file is not known",
                "Load it again from its object file",
            )
        siblings = self._siblings.setdefault(component.instance, {}) if component.instance else {}
        kept = kept_maps(component, self._open(component))
        reuse = siblings | kept | shared_maps(component, self._maps_of)
        extension, maps = self._load(slot, object_bytes(component.object), reuse, target, function)
        self._maps_of[slot.key] = maps
        siblings.update(maps)
        return self._furnish(extension)

    def switched_off(self, extension: Extension, target: Stub) -> Extension:
        """The stand-in for a component that is off, with all that belongs to it. Raises KernelRefused."""
        slot = extension.slot
        maps = list(self._open(slot.component).values())
        source = slot.component.object
        if source is not None and source.map_id is not None:
            maps.append(self._held.enter_context(bpf.map_by_id(source.map_id)))
        program = load_stand_in(slot, target.dispatcher, target.function, maps, self._author)
        self._held.callback(program.close)
        extension.kept, extension.program = extension.program, program
        extension.slot = replace(slot, program=bpf.prog_info(program).id)
        return extension

    def _open(self, component: Component) -> dict[str, bpf.Fd]:
        maps = open_maps(component.maps)
        for fd in maps.values():
            self._held.callback(fd.close)
        return maps

    def _load(
        self, slot: Slot, data: bytes, reuse: Mapping[str, bpf.Fd], target: Stub, function: int
    ) -> tuple[Extension, dict[str, bpf.Fd]]:
        component = slot.component
        label = component.object.path if component.object and component.object.path else component.name
        rehearse_load(component, data, reuse, FRAGS, label, target=target)
        with Object(data, component.name) as opened:
            pins = shape(opened, component, reuse, FRAGS, target=target)
            try:
                opened.load()
            except LoadFailed as error:
                raise _refused(error, component, data, reuse, target) from error
            program = main_program(opened, component)
            maps = {
                map_key(bpf_map): bpf.Fd(os.dup(bpf_map.fd)) for bpf_map in opened.maps() if bpf_map.fd >= 0
            }
            for fd in maps.values():
                self._held.callback(fd.close)
            unit = unit_of(opened, program, frags=component.frags)
            used = {name for _, name in unit.references}
            kept = self._held.enter_context(bpf.Fd(os.dup(program.fd)))
        extension = Extension(slot, kept, form=PLAIN)
        if self._counting:
            extension.form_reason = uncountable(component, data, unit)
            if not extension.form_reason:
                self._let_count(extension, unit, maps, Place(target.dispatcher, function))
        if slot.policy is not None and extension.form == PLAIN:
            raise LinkRefused(
                f"{component.name} can't keep to a policy",
                extension.form_reason,
                advise(Do.CHOOSE_LINKAGE, "static"),
            )
        info = bpf.prog_info(extension.program)
        refs = tuple(MapRef(name, bpf.map_info(fd).id) for name, fd in maps.items() if name in used)
        loaded = as_loaded(component, info, refs)
        kinds = {name: bpf.map_info(maps[name]) for name in used}
        extension.slot = replace(slot, component=loaded, row=None, program=None)
        extension.arrays = {i.id: maps[name] for name, i in kinds.items() if i.type == bpf.MapType.PROG_ARRAY}
        extension.pins = [(maps[name], path) for name, path in pins if name in used]
        return extension, maps

    def _let_count(
        self, extension: Extension, unit: LinkableProgram, maps: Mapping[str, bpf.Fd], place: Place
    ) -> None:
        """Replace the plain program by one that counts, if the kernel accepts it."""
        slot, plain = extension.slot, extension.program
        ring = None if slot.policy is None else ring_on(self._ran_before(slot), self._held)
        loaded = load_counting(slot, unit, maps, self._running.counting, ring, place, self._held)
        extension.form_reason = loaded.reason
        if loaded.program is None:
            return
        extension.program = loaded.program
        extension.counters, extension.form = loaded.counters, loaded.form
        # The programs in its arrays are of type EXT, so another linkage must load the object again.
        extension.unit = None if slot.component.callees else unit
        try:
            # libbpf also binds maps that no instruction names, such as those with a program's constants.
            for map_id in set(bpf.prog_map_ids(plain)) - set(bpf.prog_map_ids(extension.program)):
                with bpf.map_by_id(map_id) as fd:
                    bpf.prog_bind_map(extension.program, fd)
        except bpf.BpfError as error:
            raise bpf.refusal(error, f"the maps of {slot.name} can't be kept") from error

    def _ran_before(self, slot: Slot) -> int | None:
        """The id of the component that runs in this slot now."""
        if self._running.linkage is not Linkage.FREPLACE:
            return None
        return next((one.id for one in self._running.chain or () if one.key == slot.key), None)

    def _counted_before(self, slot: Slot) -> Counting | None:
        before = going_on(Chain((slot,)), self._running)
        return None if before is None else before.of_slot((slot.key, False))

    def _furnish(self, extension: Extension) -> Extension:
        """Bind the object file and the manifest to the component, never to the dispatcher."""
        slot = extension.slot
        source = slot.component.object
        assert source is not None
        try:
            map_id = self._objects.get(source.sha256, source.map_id)
            map_id = self._bind(extension.program, map_id, OBJECT, partial(object_bytes, source))
            self._objects[source.sha256] = map_id
            source = replace(source, map_id=map_id, data=None)
            unit = extension.unit
            carried = None if unit is None else self._bind(extension.program, None, UNIT, unit.encode)
            slot = replace(slot, component=replace(slot.component, object=source, unit_map=carried))
            own, counts_map = extension.counters, None
            if own is not None:
                before = self._counted_before(slot)
                _, counts_map = describe(extension.program, own, before, self._held)
            origin = Manifest(
                Chain((slot,), Linkage.FREPLACE, counters=False),
                self._author,
                counters_map=None if own is None else own.map_id,
                counts_map=counts_map,
                form=extension.form,
                form_reason=extension.form_reason,
            )
            self._bind(extension.program, None, ORIGIN, origin.encode)
        except bpf.BpfError as error:
            raise bpf.refusal(error, f"{slot.name}'s description can't be stored in the kernel") from error
        extension.slot = slot
        return extension

    def _bind(self, program: bpf.Fd, map_id: int | None, name: str, content: Callable[[], bytes]) -> int:
        fd = bpf.map_by_id(map_id) if map_id is not None else blobs.make(name, content())
        self._held.callback(fd.close)
        bpf.prog_bind_map(program, fd)
        return map_id if map_id is not None else bpf.map_info(fd).id


def _refused(
    error: LoadFailed, component: Component, data: bytes, reuse: Mapping[str, bpf.Fd], target: Stub
) -> XdpChainError:
    what = f"{component.name} can't replace a function of a dispatcher"
    if "requires BTF" in error.log:
        why = "it has no BTF (build it with `clang -g`)"
        return LinkRefused(what, why, advise(Do.CHOOSE_LINKAGE, "static"), detail=error.log)
    if component.callees and "failed to initialize slot" in error.messages:
        why = "on this kernel a program that replaces a function can't tail-call XDP programs"
        return LinkRefused(what, why, advise(Do.CHOOSE_LINKAGE, "static"), detail=error.messages)
    path = component.object.path if component.object else None
    return explain(error, component, data, reuse, FRAGS, path or component.name, target)
