# SPDX-License-Identifier: Apache-2.0
"""A chain linked here, independent of its linkage: its pins, and the metadata maps bound to its program."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial

from xdpchain.bytecode.main_function import makes_tail_calls
from xdpchain.model.chain import Chain
from xdpchain.model.counting import Counting
from xdpchain.model.manifest import Manifest
from xdpchain.model.running import Running
from xdpchain.sys import blobs, bpf

from .array_pins import pin_arrays, remove_array_pins
from .counting import OwnCounters, describe, going_on, share_with
from .linkable_slots import Part, object_bytes
from .map_pins import pin_map

__all__ = ["MANIFEST", "BuiltChain", "bind", "bind_metadata"]

MANIFEST = "xdptui_manifest"
OBJECT = "xdptui_object"
UNIT = "xdptui_unit"


class BuiltChain:
    """A linked chain, not attached (see `linkage.Built`)."""

    def __init__(
        self,
        program: bpf.Fd,
        chain: Chain,
        running: Running,
        counters: OwnCounters | None,
        counting: Counting | None,
        parts: Sequence[Part],
        release: contextlib.ExitStack,
        arrays: Sequence[bpf.Fd] = (),
    ) -> None:
        """``running`` is what it will replace; ``arrays`` are the linkage's own program arrays."""
        self.program = program
        self.chain = chain
        self.counting = counting
        self._running = running
        self._counters = counters
        self.parts = parts
        self._arrays = arrays
        self._release = release
        self._undo: list[Callable[[], None]] = []

    def pin(self) -> None:
        calling = (part for part in self.parts if makes_tail_calls(part.unit.instructions))
        held = [*self._arrays, *(fd for part in calling for fd in part.maps.values())]
        infos = {fd: bpf.map_info(fd) for fd in held}
        arrays = {info.id: fd for fd, info in infos.items() if info.type == bpf.MapType.PROG_ARRAY}
        if arrays:
            prog_id = bpf.prog_info(self.program).id
            self._undo.append(lambda: remove_array_pins(prog_id))
            pin_arrays(prog_id, arrays)
        for part in self.parts:
            for name, path in part.pins:
                self._undo.append(pin_map(part.maps[name], path))
        # Last, because binding a map can't be undone: a change that can't be pinned must not leave one
        # behind.
        if self._counters is not None:
            try:
                share_with(self._running, self._counters)
            except bpf.BpfError as error:
                raise bpf.refusal(
                    error, "the running chain's counts can't be linked to the new ones"
                ) from error

    def unpin(self) -> None:
        while self._undo:
            self._undo.pop()()

    def close(self) -> None:
        self._release.close()


def bind_metadata(
    program: bpf.Fd,
    manifest: Manifest,
    parts: Sequence[Part],
    held: contextlib.ExitStack,
    arrays: Sequence[bpf.Fd] = (),
    *,
    counters: OwnCounters | None,
    running: Running,
) -> tuple[Chain, Counting | None]:
    """Bind units, object files, the counters' description and the manifest to the program. Returns the chain
    with the map IDs, and where its counts are.

    If slots are separate programs linked by ``arrays``, everything they use is bound as well: what the
    manifest names must live as long as the manifest.
    """
    objects: dict[str, int] = {}
    slots = []
    try:
        for slot, part in zip(manifest.chain.slots, parts, strict=True):
            component = slot.component
            source = component.object
            if source is not None:
                if source.sha256 not in objects:
                    content = partial(object_bytes, source)
                    objects[source.sha256] = bind(
                        program, source.map_id, OBJECT, content, held, source.sha256
                    )
                source = replace(source, map_id=objects[source.sha256], data=None)
            unit = bind(program, component.unit_map, UNIT, part.unit.encode, held, part.unit)
            if unit != component.unit_map or source != component.object:
                slot = replace(slot, component=replace(component, object=source, unit_map=unit))
            slots.append(slot)
        chain = replace(manifest.chain, slots=tuple(slots))
        for fd in arrays and (*arrays, *(fd for part in parts for fd in part.maps.values())):
            bpf.prog_bind_map(program, fd)
        numbers = tuple(bpf.map_info(fd).id for fd in arrays)
        counting = counts_map = own = None
        if counters is not None:
            own = counters.map_id
            counting, counts_map = describe(program, counters, going_on(chain, running), held)
        whole = replace(manifest, chain=chain, counters_map=own, arrays=numbers, counts_map=counts_map)
        # Last, because readers look for the manifest.
        blobs.keep(bind(program, None, MANIFEST, whole.encode, held), Manifest.decode, whole.stored)
    except bpf.BpfError as error:
        raise bpf.refusal(error, "the chain's own description can't be stored in the kernel") from error
    return chain, counting


def bind(
    program: bpf.Fd,
    map_id: int | None,
    name: str,
    content: Callable[[], bytes],
    held: contextlib.ExitStack,
    key: Hashable = None,
) -> int:
    """Bind the map with this ID, or a new one with ``content``, or with a ``key`` perhaps one that other
    programs have as well (`blobs.shared`); returns its ID.
    """
    if map_id is not None:
        fd = bpf.map_by_id(map_id)
    elif key is not None:
        fd, map_id = blobs.shared(name, key, content)
    else:
        fd = blobs.make(name, content())
        map_id = bpf.map_info(fd).id
    bpf.prog_bind_map(program, held.enter_context(fd))
    return map_id
