# SPDX-License-Identifier: Apache-2.0
"""Change entries in a spec's text: everything else stays as it was written, comments included. Pure.

The text is cut into blocks, one per ``[[interface]]`` and ``[[interface.slot]]``, with the comments directly
above. Unchanged blocks stay, others change key by key. The result is parsed again and returned only if it is
what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from xdpchain.advice import Do, advise
from xdpchain.errors import InvalidInput
from xdpchain.model.interface import WantedMode

from .bounds import check_bounds
from .keys import INTERFACE_KEYS, SLOT_KEYS, SLOTS, Key
from .places import places_of
from .reading import parse
from .values import InterfaceSpec, SlotSpec
from .writing import interface_table, item_of, slot_table, values_of

__all__ = ["updated"]

Notes = Mapping[int, str]
"""Comments on slots, by index."""


@dataclass
class _Entry:
    """An entry as written: the header with its keys, and each slot."""

    head: str
    slots: list[str]

    @property
    def text(self) -> str:
        return self.head + "".join(self.slots)


def updated(text: str, entries: Sequence[tuple[InterfaceSpec, Notes]], source: str = "the spec") -> str:
    """The text, in which each of these interfaces (one name per entry) gets this entry.

    Raises InvalidInput if it is no spec, or is written in a way that can't be changed piece by piece.
    """
    before = parse(text, source)
    cut = _cut(text, [len(interface.slots) for interface in before.interfaces])
    if cut is None:
        raise _unlike(source)
    preamble, blocks = cut
    wanted = list(before.interfaces)
    for entry, notes in entries:
        (name,) = entry.names
        at = next(
            (i for i, written in enumerate(wanted) if name in written.names and written.netns == entry.netns),
            None,
        )
        if at is not None and len(wanted[at].names) == 1:
            entry = _as_written(wanted[at], entry)
            _change(blocks[at], wanted[at], entry, notes)
            wanted[at] = entry
            continue
        if at is not None:
            if replace(wanted[at], names=entry.names) == _as_written(wanted[at], entry):
                continue
            fewer = replace(wanted[at], names=tuple(other for other in wanted[at].names if other != name))
            blocks[at].head = _retuned(blocks[at].head, wanted[at], fewer, INTERFACE_KEYS, ("interface", 0))
            wanted[at] = fewer
        blocks.append(_new(entry, notes))
        wanted.append(entry)
    made = "".join(
        [preamble, *(_spaced(block.text, first=not i and not preamble) for i, block in enumerate(blocks))]
    )
    try:
        whole = parse(made, source).interfaces == tuple(wanted)
    except InvalidInput:
        whole = False
    if not whole:
        raise _unlike(source)
    return made


def _unlike(source: str) -> InvalidInput:
    return InvalidInput(
        f"{source} can't be updated",
        "only [[interface]] and [[interface.slot]] tables can be updated in place",
        advise(Do.OVERWRITE),
    )


def _cut(text: str, slots: Sequence[int]) -> tuple[str, list[_Entry]] | None:
    """The text before the first entry, and the entries; None if they are not written as tables."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)  # splitlines() splits at more characters than TOML does
    paths: list[tuple[str | int, ...]] = []
    for i, count in enumerate(slots):
        paths += [("interface", i), *(("interface", i, SLOTS, j) for j in range(count))]
    starts: list[int] = []
    for place in places_of(text, paths):
        if place is None or not lines[place[0] - 1].lstrip().startswith("[["):
            return None
        starts.append(_with_comments(lines, place[0] - 1))
    if starts != sorted(set(starts)):
        return None
    if not starts:
        return text, []
    pieces = ["".join(lines[start:end]) for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]
    entries: list[_Entry] = []
    for piece, path in zip(pieces, paths, strict=True):
        if len(path) == 2:
            entries.append(_Entry(piece, []))
        else:
            entries[-1].slots.append(piece)
    return "".join(lines[: starts[0]]), entries


def _with_comments(lines: Sequence[str], line: int) -> int:
    """Where the comments directly above a line begin."""
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
    return line


def _as_written(old: InterfaceSpec, new: InterfaceSpec) -> InterfaceSpec:
    """The new entry with the old one's paths for identical object files; with the old map entries, unless
    there are new ones to write; and with the old mode, if the new entry has none or the old is ``best``,
    which both modes fulfil.
    """
    paths = {slot.sha256: slot.object for slot in old.slots if slot.sha256 and slot.object}
    slots, left = [], list(old.slots)
    for slot in new.slots:
        slot = replace(slot, object=paths.get(slot.sha256, slot.object)) if slot.sha256 else slot
        found = _counterpart(slot, left)
        was = None if found is None else left.pop(found)
        slots.append(replace(slot, entries=was.entries) if was and not slot.entries else slot)
    kept = new.mode is None or old.mode is WantedMode.BEST
    shares = old.share_maps or new.share_maps  # a single interface does not show it
    return replace(new, slots=tuple(slots), mode=old.mode if kept else new.mode, share_maps=shares)


def _change(block: _Entry, old: InterfaceSpec, new: InterfaceSpec, notes: Notes) -> None:
    block.head = _retuned(block.head, old, new, INTERFACE_KEYS, ("interface", 0))
    if bool(old.slots) != bool(new.slots):
        block.head = _with_no_slots(block.head, add=not new.slots)
    left = list(zip(old.slots, block.slots, strict=True))
    slots = []
    for i, slot in enumerate(new.slots):
        found = _counterpart(slot, [slot_spec for slot_spec, _ in left])
        if found is None:
            slots.append(_slot_text(slot, notes.get(i, "")))
        else:
            was, text = left.pop(found)
            slots.append(_retuned(text, was, slot, SLOT_KEYS, ("interface", SLOTS, 0)))
    block.slots = slots


def _slot_text(slot: SlotSpec, note: str) -> str:
    """A slot of an entry, with its tables' headers."""
    slots, entries, table = tomlkit.aot(), tomlkit.aot(), tomlkit.table()
    slots.append(slot_table(slot, note))
    table.add(SLOTS, slots)
    entries.append(table)
    document = tomlkit.document()
    document.add("interface", entries)
    text = document.as_string()
    return text[text.index("[[interface.slot]]") :]


def _counterpart(slot: SlotSpec, there: Sequence[SlotSpec]) -> int | None:
    """Which of the written slots is this one: an equal one, else one with the same program and object."""
    for same in (
        lambda other: other == slot,
        lambda other: (other.sha256, other.program) == (slot.sha256, slot.program),
        lambda other: other.program == slot.program,
        lambda other: not other.program and other.object == slot.object,
    ):
        for i, slot_spec in enumerate(there):
            if same(slot_spec):
                return i
    return None


def _retuned(
    text: str,
    old: InterfaceSpec | SlotSpec,
    new: InterfaceSpec | SlotSpec,
    keys: Mapping[str, Key],
    path: Sequence[str | int],
) -> str:
    """The block with the differing keys changed."""
    before, after = values_of(old, keys), values_of(new, keys)
    if before == after:
        return text
    document, table = _opened(text, path)
    for name in keys:
        if name in after and after[name] != before.get(name):
            table[name] = item_of(after[name])
        elif name in table and name not in after:
            del table[name]
    return document.as_string()


def _with_no_slots(text: str, *, add: bool) -> str:
    document, table = _opened(text, ("interface", 0))
    if add:
        table[SLOTS] = tomlkit.array()
    else:
        table.pop(SLOTS, None)
    return document.as_string()


def _opened(text: str, path: Sequence[str | int]) -> tuple[tomlkit.TOMLDocument, MutableMapping[str, Any]]:
    check_bounds(text, "the spec")
    try:
        document = tomlkit.parse(text)
        table: Any = document
        for step in path:
            table = table[step]
    except (TOMLKitError, ValueError, KeyError, IndexError, RecursionError) as error:
        raise InvalidInput("the spec can't be updated", str(error), "Save to another file") from None
    return document, table


def _new(entry: InterfaceSpec, notes: Notes) -> _Entry:
    document = tomlkit.document()
    entries = tomlkit.aot()
    entries.append(interface_table(entry, notes))
    document.add("interface", entries)
    return _Entry("\n" + document.as_string(), [])


def _spaced(text: str, *, first: bool) -> str:
    """Ends with a newline; at the very beginning, starts without a blank line."""
    whole = text if text.endswith("\n") else text + "\n"
    return whole.lstrip("\n") if first else whole
