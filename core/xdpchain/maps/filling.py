# SPDX-License-Identifier: Apache-2.0
"""Map entries declared for a chain: compared with the maps' contents, exported, and written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Self

from xdpchain.errors import InvalidInput, NotFound, XdpChainError
from xdpchain.model.chain import Chain
from xdpchain.model.component import Component, MapRef
from xdpchain.model.map_entries import MapEntry, by_map
from xdpchain.model.slot import Slot

from .entries import EntryChange
from .kinds import REFERENCES
from .listing import definitions_of
from .table import MapTable

__all__ = ["Filling", "differing", "with_contents"]

Copies = Mapping[str, Mapping[str, int]]

MOST: Final = 10_000
"""Most entries of a map that are saved."""

KEPT_DOWN: Final = ("hash", "lpm_trie", "array", "devmap", "devmap_hash", "cpumap")
"""Map types whose contents may be configuration; LRU and per-CPU maps hold what programs learned."""


def differing(candidate: Chain, netns: str | None = None) -> Chain:
    """The candidate with only the entries that differ from its maps; all of them for maps not created yet.
    Raises NotFound if a slot has no such map, InvalidInput if a key or value has the wrong type.
    """
    if not any(slot.entries for slot in candidate):
        return candidate
    return replace(candidate, slots=tuple(_differing(slot, netns) for slot in candidate))


def _differing(slot: Slot, netns: str | None) -> Slot:
    if not slot.entries:
        return slot
    component = slot.component
    existing = {ref.name: ref.id for ref in component.maps}
    names = existing.keys() | set(() if component.id is not None else component.uses)
    kept: list[MapEntry] = []
    for name, entries in by_map(slot.entries).items():
        if name not in names:
            has = ", ".join(sorted(names)) or "none"
            raise NotFound(f"{slot.name} has no map {name!r}", f"its maps are {has}")
        if name not in existing:
            kept += entries
            continue
        with MapTable(existing[name], name, netns, definitions_of(component)) as table:
            for entry in entries:
                change = _change(table, slot, entry)
                if change.old != change.new:
                    kept.append(replace(entry, old=change.old))
    return replace(slot, entries=tuple(kept))


def _change(table: MapTable, slot: Slot, entry: MapEntry) -> EntryChange:
    try:
        return table.change(table.key_of(entry.key), entry.value)
    except XdpChainError as error:
        error.what = f"{slot.name}, map {entry.map}: {error.what}"
        raise


class Filling(contextlib.ExitStack):
    """Writes map entries; the writes can be undone until this is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._back: list[tuple[MapTable, EntryChange]] = []

    def __enter__(self) -> Self:
        return self

    def write(
        self, chain: Chain, candidate: Chain, netns: str | None = None, *, copies: Copies | None = None
    ) -> None:
        """Write the entries of ``candidate`` to the maps of ``chain``, which was built from it. ``copies``
        are the IDs of a trial's map copies by slot key; maps of references (devices, programs) are not
        copied and are then left alone.

        Raises what `MapTable` raises; nothing remains written then.
        """
        built = {slot.key: slot.component for slot in chain}
        try:
            for slot in candidate:
                for name, entries in by_map(slot.entries).items():
                    component = built[slot.key]
                    if copies is not None:
                        refs = tuple(MapRef(*item) for item in copies[slot.key].items())
                        component = replace(component, maps=refs)
                    table = self.enter_context(_table(component, slot.name, name, netns))
                    if copies is not None and table.shape.type in REFERENCES:
                        continue
                    for entry in entries:
                        change = _change(table, slot, entry)
                        inverse = table.reverse(change)
                        table.write(change)
                        self._back.append((table, inverse))
        except BaseException:
            self.take_back()
            raise

    def take_back(self) -> None:
        """Restore the old contents, as far as the kernel allows. Running programs may have seen the new."""
        while self._back:
            table, change = self._back.pop()
            with contextlib.suppress(XdpChainError):
                table.write(change)


def _table(component: Component, slot: str, name: str, netns: str | None) -> MapTable:
    ref = next((ref for ref in component.maps if ref.name == name), None)
    if ref is None:
        has = ", ".join(ref.name for ref in component.maps) or "none"
        raise NotFound(f"{slot} has no map {name!r}", f"its maps are {has}")
    return MapTable(ref.id, ref.name, netns, definitions_of(component))


def with_contents(chain: Chain, netns: str | None = None) -> tuple[Chain, tuple[str, ...]]:
    """The running chain with its maps' contents as entries, and a description of what was left out. Raises
    InvalidInput if a map has more than `MOST` entries.
    """
    slots, left_out = [], []
    seen: set[int] = set()
    for slot in chain:
        entries: list[MapEntry] = []
        for ref in slot.component.maps:
            if ref.id in seen or ref.name.startswith("."):
                continue
            seen.add(ref.id)
            with MapTable(ref.id, ref.name, netns, definitions_of(slot.component)) as table:
                why = table.shape.locked or table.shape.closed
                if table.shape.type not in KEPT_DOWN or why:
                    left_out.append(f"map {ref.name} of {slot.name}: {why or table.shape.type}")
                    continue
                entries += (MapEntry(ref.name, *words) for words in _contents(table, slot.name))
        slots.append(replace(slot, entries=tuple(entries)))
    return replace(chain, slots=tuple(slots)), tuple(left_out)


def _contents(table: MapTable, slot: str) -> Iterator[Sequence[str]]:
    for count, entry in enumerate(table.meant_entries()):
        if count == MOST:
            raise InvalidInput(
                f"map {table.shape.name} of {slot} can't be saved", f"it has more than {MOST} entries"
            )
        yield table.words_of(entry)
