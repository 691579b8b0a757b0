# SPDX-License-Identifier: Apache-2.0
"""The object files that specs name: read and compared by hash, or written from the chain that carries
them.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from xdpchain import files
from xdpchain.errors import InvalidInput, KernelRefused, NotFound
from xdpchain.linkage.linkable_slots import object_bytes
from xdpchain.maps.globals import globals_of, with_globals
from xdpchain.model.chain import Chain
from xdpchain.model.component import Component, ObjectRef
from xdpchain.objects.components import component_of, with_map_entries
from xdpchain.objects.object_path import find_object
from xdpchain.objects.objfile import ObjectFile

from .files import write_file
from .values import SlotSpec

MOST_BYTES = 64 << 20
"""Most bytes of an object file."""

__all__ = ["Objects", "check_file", "write_objects"]


class Objects:
    """Reads object files, each once. Relative paths are relative to ``folder``, the spec's."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._read: dict[str, ObjectFile] = {}

    def components(self, slots: Sequence[SlotSpec]) -> tuple[Component | None, ...]:
        """What a spec's slots should run, not loaded; None for a slot that names no object file.

        Raises NotFound (no such file, program or variable), InvalidInput (the file's hash is not the spec's,
        or it is not an object file; a value does not fit; two values for a variable that slots share).
        """
        together = _shared_globals(slots)
        return tuple(self._component(slot, together.get(slot.instance or "", {})) for slot in slots)

    def _component(self, slot: SlotSpec, shared: Mapping[str, str]) -> Component | None:
        if slot.object is None:
            return None
        source = self._source(slot, slot.object)
        made = component_of(
            source,
            name=slot.program or None,
            section=slot.section or None,
            instance=secrets.token_hex(4),
            pin_root=slot.pin_path,
        )
        given = dict(slot.globals)
        if shared:
            # The first to be loaded creates everybody's maps, also those it does not use itself, so all set
            # the same values for what their object has.
            known = {variable.name for variable in globals_of(source)}
            given |= {name: text for name, text in shared.items() if name in known}
        texts = [f"{name}={text}" for name, text in sorted(given.items())]
        made = with_globals(made, source, texts, shared=bool(shared))
        return with_map_entries(made, source, slot.map_entries)

    def _source(self, slot: SlotSpec, written: str) -> ObjectFile:
        path = os.path.join(self._folder, os.path.expanduser(written))
        if written not in self._read:
            try:
                path = find_object(os.path.expanduser(written), self._folder)
                self._read[written] = ObjectFile.open(path)
            except NotFound as error:
                if slot.sha256 is None:
                    raise
                why = f"the spec requires SHA-256 {slot.sha256}, but there is no such file"
                raise NotFound(f"the object file {path} is missing", why, _PUT_BACK) from error
            except InvalidInput:
                if slot.sha256 is not None:
                    check_file(path, slot.sha256)  # if it is another file altogether, say so
                raise
        source = self._read[written]
        if slot.sha256 not in (None, source.sha256):
            raise _changed(source.path or path, str(slot.sha256), source.sha256)
        return source


def _shared_globals(slots: Sequence[SlotSpec]) -> dict[str, dict[str, str]]:
    """The values for variables in each instance."""
    found: dict[str, dict[str, str]] = {}
    for slot in slots:
        if slot.instance is None:
            continue
        values = found.setdefault(slot.instance, {})
        for name, text in slot.globals:
            if values.setdefault(name, text) != text:
                raise InvalidInput(
                    f"{name} has two values in instance {slot.instance!r}: {values[name]} and {text}",
                    "its slots share their maps, and therefore their variables",
                    "Give them one value, or put the slots in two instances",
                )
    return found


_PUT_BACK = "Restore that file; or change sha256 in the spec if the new one should run"


def _changed(path: str, wanted: str, has: str) -> InvalidInput:
    why = f"the spec requires SHA-256 {wanted}, the file has {has}"
    return InvalidInput(f"the object file {path} has changed", why, _PUT_BACK)


def check_file(path: str | None, sha256: str | None) -> None:
    """Check that the file at this path has this hash. Raises NotFound, InvalidInput, which name both
    hashes.
    """
    if path is None:
        raise NotFound("the path of an object file is not known", f"its SHA-256 is {sha256}")
    try:
        has = hashlib.sha256(files.read(path, MOST_BYTES)).hexdigest()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise NotFound(f"the object file {path} can't be read", f"{why}; its SHA-256 was {sha256}") from None
    if sha256 is not None and has != sha256:
        raise InvalidInput(
            f"the object file {path} has changed since it was loaded",
            f"SHA-256 {sha256} runs, the file has {has}",
        )


def write_objects(chains: Iterable[Chain], folder: str) -> dict[str, str]:
    """Write the object files that running chains carry; returns their absolute paths, by hash.

    An existing file with the same content is left alone, one with other content is never replaced: the new
    file gets part of its hash in its name. Raises NotFound (the chain is gone), InvalidInput (the directory
    can't be written).
    """
    written: dict[str, str] = {}
    for source in _distinct(chains):
        data = object_bytes(source)
        if hashlib.sha256(data).hexdigest() != source.sha256:
            raise KernelRefused(
                f"the object file {source.path} in the kernel has changed", "its hash differs"
            )
        stem = re.sub(r"[^\w.+-]", "_", Path(source.path).stem if source.path else "object")
        for name in (f"{stem}.o", f"{stem}-{source.sha256[:12]}.o"):
            path = os.path.abspath(os.path.join(folder, name))
            if not os.path.exists(path) or _has(path, data):
                break
        if not _has(path, data):
            write_file(path, data)
        written[source.sha256] = path
    return written


def _distinct(chains: Iterable[Chain]) -> list[ObjectRef]:
    found: dict[str, ObjectRef] = {}
    for chain in chains:
        for slot in chain:
            if slot.component.object is not None:
                found.setdefault(slot.component.object.sha256, slot.component.object)
    return list(found.values())


def _has(path: str, data: bytes) -> bool:
    try:
        return files.read(path, len(data)) == data
    except OSError:
        return False
