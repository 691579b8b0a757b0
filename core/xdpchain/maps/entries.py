# SPDX-License-Identifier: Apache-2.0
"""A map's shape, and its entries as shown and edited."""

from __future__ import annotations

from dataclasses import field
from functools import lru_cache
from typing import Final

from xdpchain.frozen import frozen
from xdpchain.objects.btf import Btf, BtfError
from xdpchain.sys import bpf
from xdpchain.sys.cpus import possible_cpus

from .kinds import INDEXED, NOT_BROWSABLE, NOT_WRITABLE, PER_CPU, reference_layout
from .layout import Layout, Number, Opaque, Record, declared_types, layout_of
from .text import render
from .values import Plain

__all__ = [
    "Cursor",
    "EntryChange",
    "Page",
    "Shape",
    "TableEntry",
    "btf_of",
    "cpu_text",
    "matches",
    "room_of",
    "shape_of",
]

BPF_F_WRONLY: Final = 1 << 4
BPF_F_RDONLY: Final = 1 << 3


@frozen
class Shape:
    """The shape of a map; sizes in bytes. ``closed``: why it can't be browsed; ``locked``: why user space
    can't write to it; empty if it can. ``variables``: it is a data section of named variables.
    """

    name: str
    id: int
    type: str
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    frozen: bool
    key: Layout
    value: Layout
    variables: bool = False
    closed: str = ""
    locked: str = ""

    @property
    def per_cpu(self) -> bool:
        return self.type in PER_CPU


@frozen
class TableEntry:
    """An element, or a variable of a data section.

    ``label`` is the key as text. For a per-CPU map ``value`` is the sum of ``cpus`` (indexed by CPU), None
    if they can't be added. ``note`` names the target of a reference.
    """

    raw_key: bytes
    key: Plain
    label: str
    value: Plain | None
    layout: Layout
    cpus: tuple[Plain, ...] = ()
    note: str = ""

    def text(self, limit: int = 4000) -> str:
        """The value on one line."""
        if self.note:
            return self.note
        if self.value is None:
            return cpu_text(self, limit)
        return render(self.layout, self.value, limit)


def cpu_text(entry: TableEntry, limit: int = 4000) -> str:
    """The values by CPU, on one line."""
    texts = (f"cpu {cpu}: {render(entry.layout, value, limit)}" for cpu, value in enumerate(entry.cpus))
    return "  ".join(texts)[:limit]


@frozen
class Cursor:
    """Where the next page starts."""

    place: bytes
    batch: bool


@frozen
class Page:
    """Some entries; ``next`` is None after the last."""

    entries: tuple[TableEntry, ...]
    next: Cursor | None


@frozen
class EntryChange:
    """A write that was checked but not made: the old value as text (None: not in the map yet), the new
    value (None: removal), and its bytes. ``offset`` is a variable's offset in its section.
    """

    label: str
    old: str | None
    new: str | None
    raw_key: bytes = field(repr=False)
    data: bytes = field(repr=False)
    offset: int | None = None
    cpu: int | None = None


def matches(entry: TableEntry, needle: str) -> bool:
    """Whether all words of ``needle`` occur in the displayed key or value."""
    words = needle.lower().split()
    if not words:
        return True
    shown = f"{entry.label} {entry.text()}".lower()
    return all(word in shown for word in words)


def shape_of(fd: bpf.Fd, name: str | None, definitions: Btf | None) -> Shape:
    """The shape of an open map. Raises BpfError."""
    info = bpf.map_info(fd)
    kind = bpf.map_type_name(info.type)
    btf = btf_of(info.btf_id) if info.btf_id else None
    key_type, value_type = info.btf_key_type, info.btf_value_type
    if not (key_type or value_type):
        btf = definitions
        key_type, value_type = declared_types(definitions, name or info.name)
    reference = reference_layout(kind, info.value_size)
    value = reference or layout_of(btf, value_type, info.value_size)
    key = layout_of(btf, key_type, info.key_size, lpm=kind == "lpm_trie")
    if isinstance(key, Opaque) and kind in INDEXED:
        key = Number(4, 32)
    variables = kind == "array" and info.max_entries == 1 and isinstance(value, Record) and not key_type
    frozen = bpf.map_frozen(fd)
    closed = NOT_BROWSABLE.get(kind, "")
    if info.flags & BPF_F_WRONLY:
        closed = closed or "it was created write-only for user space"
    locked = NOT_WRITABLE.get(kind, "") or closed
    if frozen:
        locked = "it is frozen: only the kernel can change it until it is loaded again"
    elif info.flags & BPF_F_RDONLY:
        locked = "it was created read-only for user space"
    return Shape(
        name or info.name, info.id, kind, info.key_size, info.value_size, info.max_entries, info.flags,
        frozen, key, value, variables, closed, locked,
    )  # fmt: skip


def room_of(shape: Shape) -> int:
    """Bytes of a value as user space gets it (the kernel's bpf_map_value_size)."""
    if shape.per_cpu:
        return (shape.value_size + 7 & ~7) * possible_cpus()
    return 4 if shape.type in ("prog_array", "array_of_maps", "hash_of_maps") else shape.value_size


@lru_cache(maxsize=64)
def btf_of(btf_id: int) -> Btf | None:
    """The BTF with this ID, cached: IDs are not reused, and types never change."""
    try:
        btf = Btf.parse(bpf.btf_raw(btf_id))
        btf.check()
    except (OSError, BtfError):
        return None
    return btf
