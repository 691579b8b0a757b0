# SPDX-License-Identifier: Apache-2.0
"""Record a change: object files are read while the old chain runs, and written after the change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from xdpchain.change.author import current_author
from xdpchain.change.moment import Moment
from xdpchain.change.under_way import ChangeUnderWay
from xdpchain.errors import XdpChainError
from xdpchain.linkage.linkable_slots import object_bytes
from xdpchain.model.chain import Chain
from xdpchain.model.component import ObjectRef
from xdpchain.model.running import Running

from .entries import EntryKind, JournalEntry
from .folders import add, device_of
from .store import boot_id, has_object, keep_object

__all__ = ["Journal", "moment_of", "record"]


def moment_of(running: Running) -> Moment:
    """The running state in the journal's form."""
    programs = running.identity[1]
    return Moment(programs[0] if programs else None, boot_id(), running.chain)


class Journal:
    """Records a change in the journal (a `under_way.ChangeHook`). Never fails the change."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    def before(self, change: ChangeUnderWay) -> None:
        """Read the object files: the maps that hold them disappear with the old chain."""
        with contextlib.suppress(OSError, XdpChainError):
            self._objects = _objects((change.now.chain, change.plan.candidate))

    def after(self, change: ChangeUnderWay, after: Running) -> str:
        """Append the change and its object files. Returns an error message, empty on success."""
        changes = tuple(f"{c.symbol} {c.name} {c.text}".replace("  ", " ") for c in change.plan.changes)
        return record(change.now, after, changes, change.confirm, change.plan.restores, self._objects)


def record(
    before: Running,
    after: Running,
    changes: tuple[str, ...],
    confirm: float | None = None,
    restores: Moment | None = None,
    objects: Mapping[str, bytes] = {},
) -> str:
    """Append a change, and object files by hash. Returns an error message, empty on success. ``restores`` is
    the state that an undo returned to.
    """
    try:
        for sha256, data in objects.items():
            keep_object(sha256, data)
        device = device_of(after)
        entry = JournalEntry(
            EntryKind.CHANGE if restores is None else EntryKind.UNDO,
            current_author(),
            moment_of(before),
            moment_of(after),
            changes,
            confirm,
            restores,
            device=device,
        )
        add(before, device, entry)
    except (OSError, XdpChainError) as error:
        why = getattr(error, "strerror", None) or str(error)
        return (
            f"the change was made, but could not be recorded in the journal ({why}): `undo` may not "
            f"know about it"
        )
    return ""


def _objects(chains: Iterable[Chain | None]) -> dict[str, bytes]:
    """The chains' object files that are not in the journal yet, by hash."""
    wanted: dict[str, ObjectRef] = {}
    for chain in chains:
        for slot in chain or ():
            if slot.component.object is not None:
                wanted.setdefault(slot.component.object.sha256, slot.component.object)
    objects = {}
    for sha256, source in wanted.items():
        if not has_object(sha256):
            with contextlib.suppress(XdpChainError):
                objects[sha256] = object_bytes(source)
    return objects
