# SPDX-License-Identifier: Apache-2.0
"""Spec -> TOML. Pure. Default values are omitted, except where a reader should see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import tomlkit
from tomlkit.items import AoT, Item, Table

from .keys import INTERFACE_KEYS, SLOT_KEYS, SLOTS, Key
from .values import FORMAT, InterfaceSpec, SlotSpec, Spec

__all__ = ["HEADER", "dump", "interface_table", "item_of", "slot_table", "values_of"]

HEADER = "What these interfaces run. `xdptui plan` compares, `xdptui apply` makes it so (docs/spec.md)."

ALWAYS = ("mode",)
"""Keys written even at their defaults: which mode runs should never be left to a guess."""


LONG = 6
"""Most list elements on one line."""


def dump(spec: Spec, notes: Mapping[int, Mapping[int, str]] | None = None) -> str:
    """The whole spec as TOML, which `reading.parse` reads as the same values. ``notes`` are comments on
    slots, by the index of the interface's entry and of the slot.
    """
    document = tomlkit.document()
    document.add(tomlkit.comment(HEADER))
    document.add("format", tomlkit.item(FORMAT))
    if spec.interfaces:
        entries = tomlkit.aot()
        for i, entry in enumerate(spec.interfaces):
            entries.append(interface_table(entry, (notes or {}).get(i, {})))
        document.add(tomlkit.nl())
        document.add("interface", entries)
    return document.as_string()


def interface_table(spec: InterfaceSpec, notes: Mapping[int, str]) -> Table:
    """An entry, with its slots."""
    table = _table(values_of(spec, INTERFACE_KEYS))
    if not spec.slots:
        table.add(SLOTS, tomlkit.array())
        return table
    slots: AoT = tomlkit.aot()
    for i, slot_spec in enumerate(spec.slots):
        slots.append(slot_table(slot_spec, notes.get(i, "")))
    table.add(tomlkit.nl())
    table.add(SLOTS, slots)
    return table


def slot_table(spec: SlotSpec, note: str = "") -> Table:
    """A slot; ``note`` becomes a comment."""
    table = tomlkit.table()
    for line in note.splitlines():
        table.add(tomlkit.comment(line))
    for name, value in values_of(spec, SLOT_KEYS).items():
        table.add(name, item_of(value))
    return table


def values_of(spec: InterfaceSpec | SlotSpec, keys: Mapping[str, Key]) -> dict[str, Any]:
    """The TOML value of each key to be written, in the order of the format."""
    defaults = {field.name: field.default for field in fields(spec)}
    found = {}
    for name, key in keys.items():
        value = getattr(spec, key.attribute)
        if value != defaults[key.attribute] or (name in ALWAYS and value is not None):
            found[name] = key.write(value)
    return found


def _table(values: Mapping[str, Any]) -> Table:
    table = tomlkit.table()
    for name, value in values.items():
        table.add(name, item_of(value))
    return table


def item_of(value: Any) -> Item:
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        tables = tomlkit.aot()
        for item in value:
            tables.append(_table(item))
        return tables
    if isinstance(value, list) and len(value) > LONG:
        lines = tomlkit.array().multiline(True)
        lines.extend(value)
        return lines
    if isinstance(value, dict):
        inline = tomlkit.inline_table()
        for name, item in value.items():
            inline.add(name, tomlkit.item(item))
        return inline
    made: Item = tomlkit.item(value)
    return made
