# SPDX-License-Identifier: Apache-2.0
"""An open map: read page by page, and changed one element at a time.

Reading always ends, whatever programs do to the map meanwhile: it uses BPF_MAP_LOOKUP_BATCH, whose cursor
never goes back, or else goes key by key for at most max_entries steps.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from xdpchain.closing import Closing
from xdpchain.errors import InvalidInput, NotFound, Unsupported, XdpChainError
from xdpchain.objects.btf import Btf
from xdpchain.sys import bpf, netns
from xdpchain.sys.cpus import possible_cpus

from .entries import (
    Cursor,
    EntryChange,
    Page,
    TableEntry,
    room_of,
    shape_of,
)
from .kinds import INDEXED, REFERENCES
from .layout import Layout, Record
from .text import parse, render
from .values import Plain, decode, edited, encode, total

__all__ = ["PAGE", "MapTable"]

PAGE: Final = 256
"""Entries per page."""
BATCH_BYTES: Final = 1 << 20
"""Bytes per batch; at least one element is read."""
LARGEST_BUCKET: Final = 1 << 16
ENOTSUPP: Final = 524
BPF_F_MMAPABLE: Final = 1 << 10


class MapTable(Closing):
    """An open map. Not thread-safe."""

    def __init__(
        self,
        map_id: int,
        name: str | None = None,
        network: str | None = None,
        definitions: Btf | None = None,
    ) -> None:
        """Open the map with this ID. ``name``: its name in the object; ``network``: the network namespace for
        interface names; ``definitions``: BTF of a program that uses it, for maps that have no types.

        Raises NotFound, PermissionDenied.
        """
        self._network = network
        self._interfaces: dict[int, str] | None = None
        try:
            self._fd = bpf.map_by_id(map_id)
            try:
                self.shape = shape_of(self._fd, name, definitions)
            except BaseException:
                self._fd.close()
                raise
        except OSError as error:
            raise bpf.refusal(error, f"map {name or map_id} can't be opened") from error
        self._room = room_of(self.shape)
        self._batches = self.shape.type not in ("devmap", "devmap_hash", "cpumap", "prog_array")

    def close(self) -> None:
        self._fd.close()

    # -- reading --------------------------------------------------------------------------------------------

    def page(self, cursor: Cursor | None = None, limit: int = PAGE) -> Page:
        """About ``limit`` entries, at least one, starting at ``cursor``. Raises Unsupported if the map can't
        be browsed.
        """
        if self.shape.closed:
            raise Unsupported(f"{self.shape.name} can't be browsed", self.shape.closed)
        self._interfaces = None  # they come and go
        try:
            if self.shape.variables:
                return Page(self._variables(bpf.map_lookup(self._fd, bytes(4), self._room)), None)
            raws, following = self._raw_page(cursor, limit)
        except bpf.BpfError as error:
            raise bpf.refusal(error, f"{self.shape.name} can't be read") from error
        return Page(tuple(self._entry(key, value) for key, value in raws), following)

    def entries(self, most: int | None = None) -> Iterator[TableEntry]:
        """All entries, at most ``most``, each key once. Ends even if the map keeps changing."""
        seen: set[bytes] = set()
        cursor = None
        steps = 2 * self.shape.max_entries + PAGE
        while True:
            page = self.page(cursor)
            for entry in page.entries:
                steps -= 1
                if entry.raw_key in seen:
                    continue
                seen.add(entry.raw_key)
                if most is not None and len(seen) > most:
                    return
                yield entry
            cursor = page.next
            if cursor is None or steps <= 0:
                return

    def look(self, keys: tuple[bytes, ...]) -> tuple[TableEntry | None, ...]:
        """The current entries for these raw keys; None where one is gone."""
        try:
            if self.shape.variables:
                entries = self._variables(bpf.map_lookup(self._fd, bytes(4), self._room))
                now = {entry.raw_key: entry for entry in entries}
                return tuple(now.get(key) for key in keys)
            return tuple(self._one(key) for key in keys)
        except bpf.BpfError as error:
            raise bpf.refusal(error, f"{self.shape.name} can't be read") from error

    def count(self, most: int) -> tuple[int, bool]:
        """The number of entries, counting up to ``most``, and whether that is all of them."""
        if self.shape.variables:
            return len(self.page().entries), True
        if self.shape.type in INDEXED and self.shape.type not in REFERENCES:
            return self.shape.max_entries, True
        count = 0
        for _ in self.entries(most + 1):
            count += 1
        return min(count, most), count <= most

    def _raw_page(self, cursor: Cursor | None, limit: int) -> tuple[list[tuple[bytes, bytes]], Cursor | None]:
        if self._batches and (cursor is None or cursor.batch):
            try:
                return self._batch(cursor.place if cursor else None, limit)
            except bpf.BpfError as error:
                if cursor is not None or error.errno not in (errno.EINVAL, ENOTSUPP, errno.EOPNOTSUPP):
                    raise
                self._batches = False
        return self._walk(cursor.place if cursor else None, limit)

    def _batch(self, place: bytes | None, limit: int) -> tuple[list[tuple[bytes, bytes]], Cursor | None]:
        size = self.shape.key_size
        count = max(1, min(limit, BATCH_BYTES // (size + self._room)))
        while True:
            try:
                found, following = bpf.map_lookup_batch(self._fd, place, count, size, self._room)
            except bpf.BpfError as error:
                if error.errno != errno.ENOSPC or count >= LARGEST_BUCKET:
                    raise
                count *= 2
                continue
            if following is None:
                return found, None
            if found:
                return found, Cursor(following, True)
            place = following

    def _walk(self, key: bytes | None, limit: int) -> tuple[list[tuple[bytes, bytes]], Cursor | None]:
        found: list[tuple[bytes, bytes]] = []
        for _ in range(self.shape.max_entries + 1):
            key = bpf.map_next_key(self._fd, key, self.shape.key_size)
            if key is None:
                return found, None
            with contextlib.suppress(FileNotFoundError):
                found.append((key, self._lookup(key)))
            if len(found) >= limit:
                return found, Cursor(key, False)
        return found, None

    def _lookup(self, key: bytes) -> bytes:
        try:
            return bpf.map_lookup(self._fd, key, self._room)
        except bpf.BpfError as error:
            if error.errno == errno.ENOENT:  # an empty entry, or deleted meanwhile
                raise FileNotFoundError from None
            raise

    def _one(self, key: bytes) -> TableEntry | None:
        try:
            return self._entry(key, self._lookup(key))
        except FileNotFoundError:
            return None

    def _entry(self, raw_key: bytes, raw: bytes) -> TableEntry:
        shape = self.shape
        key = decode(shape.key, raw_key)
        label = render(shape.key, key)
        if shape.per_cpu:
            step = len(raw) // max(1, possible_cpus())
            cpus = [decode(shape.value, raw[i : i + shape.value_size]) for i in range(0, len(raw), step)]
            return TableEntry(raw_key, key, label, total(cpus), shape.value, tuple(cpus))
        value = decode(shape.value, raw)
        note = self._refers(value) if shape.type in REFERENCES else ""
        return TableEntry(raw_key, key, label, value, shape.value, note=note)

    def _variables(self, raw: bytes) -> tuple[TableEntry, ...]:
        assert isinstance(self.shape.value, Record)
        whole = decode(self.shape.value, raw)
        assert isinstance(whole, dict)
        return tuple(
            TableEntry(field.name.encode(), field.name, field.name, whole[field.name], field.layout)
            for field in self.shape.value.fields
        )

    # -- names of references --------------------------------------------------------------------------------

    def _refers(self, value: Plain) -> str:
        if not isinstance(value, dict):
            name = _program_name(value) if self.shape.type == "prog_array" else _map_name(value)
            return f"{'program' if self.shape.type == 'prog_array' else 'map'} {value} ({name})"
        runs = value.get("program")
        after = f", then program {runs} ({_program_name(runs)})" if runs else ""
        if "ifindex" in value:
            ifindex = value["ifindex"]
            assert isinstance(ifindex, int)
            return f"{self._names().get(ifindex, 'no such interface')} (ifindex {ifindex}){after}"
        return f"a queue of {value.get('queue')} packets{after}"

    def _names(self) -> dict[int, str]:
        if self._interfaces is None:
            try:
                self._interfaces = dict(netns.run(self._network, socket.if_nameindex))
            except (OSError, XdpChainError):
                self._interfaces = {}
        return self._interfaces

    # -- writing --------------------------------------------------------------------------------------------

    def key_of(self, text: str) -> bytes:
        """Parse a key. Raises InvalidInput, NotFound (no such variable)."""
        if self.shape.variables:
            assert isinstance(self.shape.value, Record)
            if self.shape.value.field(text) is None:
                names = ", ".join(field.name for field in self.shape.value.fields)
                raise NotFound(f"{self.shape.name} has no variable {text!r}", f"it has {names or 'none'}")
            return text.encode()
        try:
            return encode(self.shape.key, parse(self.shape.key, text))
        except InvalidInput as error:
            why = error.why or error.what
            raise InvalidInput(f"invalid key {text[:60]!r}", why, error.todo) from None

    def change(
        self, raw_key: bytes, text: str, cpu: int | None = None, *, shown: str | None = None
    ) -> EntryChange:
        """The change that writing ``text`` to this key would make. Members that ``text`` leaves out, or
        repeats unchanged from ``shown`` (the text before the edit), keep their current values.

        A per-CPU value is set on every CPU, or only on ``cpu``. Raises InvalidInput, Unsupported.
        """
        shape = self.shape
        self._must_be_open()
        if cpu is not None and not (shape.per_cpu and cpu < possible_cpus()):
            why = (
                f"this machine has CPUs 0 to {possible_cpus() - 1}" if shape.per_cpu else "it is not per CPU"
            )
            raise InvalidInput(f"{shape.name} has no value for CPU {cpu}", why)
        try:
            if shape.variables:
                return self._variable_change(raw_key.decode(), text, shown)
            try:
                raw: bytes | None = self._lookup(raw_key)
            except FileNotFoundError:
                raw = None
        except bpf.BpfError as error:
            raise bpf.refusal(error, f"{shape.name} can't be read") from error
        label = render(shape.key, decode(shape.key, raw_key))
        if shape.type in ("devmap", "devmap_hash", "cpumap"):
            return self._reference_change(raw_key, raw, label, text)
        now = self._entry(raw_key, raw) if raw is not None else None
        if shape.per_cpu:
            return self._cpu_change(raw_key, raw, label, text, cpu)
        data = encode(shape.value, _wanted(shape.value, text, shown), raw)
        old = now.text() if now else None
        return EntryChange(label, old, render(shape.value, decode(shape.value, data)), raw_key, data)

    def removal(self, raw_key: bytes) -> EntryChange:
        """The change that removing this key would make. Raises NotFound, Unsupported."""
        self._must_be_open()
        if self.shape.variables or (self.shape.type in INDEXED and not self.shape.type.startswith("devmap")):
            raise Unsupported(f"nothing can be removed from {self.shape.name}", "its elements always exist")
        (entry,) = self.look((raw_key,))
        if entry is None:
            label = render(self.shape.key, decode(self.shape.key, raw_key))
            raise NotFound(f"{self.shape.name} has no {label}")
        return EntryChange(entry.label, entry.text(), None, raw_key, b"")

    def reverse(self, change: EntryChange) -> EntryChange:
        """The change that would undo ``change``; call it first. Raises KernelRefused, PermissionDenied."""
        try:
            if change.offset is not None:
                raw = bpf.map_lookup(self._fd, bytes(4), self._room)
                raw = raw[change.offset : change.offset + len(change.data)]
            else:
                raw = self._lookup(change.raw_key)
        except FileNotFoundError:
            return replace(change, old=change.new, new=None, data=b"")
        except bpf.BpfError as error:
            raise bpf.refusal(error, f"{self.shape.name} can't be read") from error
        return replace(change, old=change.new, new=change.old or "", data=raw)

    def meant_entries(self) -> Iterator[TableEntry]:
        """The entries that were set: for an array, those that are not all zero."""
        for entry in self.entries():
            if self.shape.type != "array" or any(self._lookup(entry.raw_key)):
                yield entry

    def words_of(self, entry: TableEntry) -> tuple[str, str]:
        """Key and value as text that `key_of` and `change` can parse."""
        if isinstance(entry.value, dict) and self.shape.type in REFERENCES:
            target = entry.value.get("ifindex", entry.value.get("queue"))
            name = self._names().get(target) if isinstance(target, int) and "ifindex" in entry.value else None
            return entry.label, name or str(target)
        return entry.label, entry.text()

    def _must_be_open(self) -> None:
        if self.shape.locked or self.shape.closed:
            raise Unsupported(f"{self.shape.name} can't be written", self.shape.locked or self.shape.closed)

    def write(self, change: EntryChange) -> None:
        """Make a change. Raises KernelRefused or PermissionDenied if nothing was written."""
        try:
            if change.new is None:
                bpf.map_delete(self._fd, change.raw_key)
            elif change.offset is None:
                # The kernel looks the ifindex up in the caller's network namespace.
                apart = self._network if self.shape.type in ("devmap", "devmap_hash") else None
                netns.run(apart, lambda: bpf.map_update(self._fd, change.raw_key, change.data))
            elif self.shape.flags & BPF_F_MMAPABLE:
                bpf.map_poke(self._fd, change.offset, change.data)
            else:
                raw = bytearray(bpf.map_lookup(self._fd, bytes(4), self._room))
                raw[change.offset : change.offset + len(change.data)] = change.data
                bpf.map_update(self._fd, bytes(4), bytes(raw))
        except OSError as error:
            full = f"it is full (max_entries {self.shape.max_entries})" if error.errno == errno.E2BIG else ""
            raise bpf.refusal(error, f"{change.label} of {self.shape.name} can't be written", full) from error

    def _variable_change(self, name: str, text: str, shown: str | None) -> EntryChange:
        assert isinstance(self.shape.value, Record)
        field = self.shape.value.field(name)
        if field is None:
            raise NotFound(f"{self.shape.name} has no variable {name!r}")
        start = field.at // 8
        raw = bpf.map_lookup(self._fd, bytes(4), self._room)[start : start + field.layout.size]
        data = encode(field.layout, _wanted(field.layout, text, shown), raw)
        old, new = (render(field.layout, decode(field.layout, encoded)) for encoded in (raw, data))
        return EntryChange(name, old, new, name.encode(), data, start)

    def _cpu_change(
        self, raw_key: bytes, raw: bytes | None, label: str, text: str, cpu: int | None
    ) -> EntryChange:
        value, size, step = self.shape.value, self.shape.value_size, self._room // possible_cpus()
        base = raw if raw is not None else bytes(self._room)
        wanted = parse(value, text)
        data = bytearray(base)
        texts = []
        for i in range(possible_cpus()) if cpu is None else (cpu,):
            old = bytes(base[i * step : i * step + size])
            data[i * step : i * step + size] = new = encode(value, wanted, old)
            texts.append((render(value, decode(value, old)), render(value, decode(value, new))))
        where = f" on CPU {cpu}" if cpu is not None else " on each CPU"
        olds = list(dict.fromkeys(old for old, _ in texts))
        return EntryChange(
            label,
            None if raw is None else " | ".join(olds),
            " | ".join(dict.fromkeys(new for _, new in texts)) + where,
            raw_key,
            bytes(data),
            cpu=cpu,
        )

    def _reference_change(self, raw_key: bytes, raw: bytes | None, label: str, text: str) -> EntryChange:
        now = self._entry(raw_key, raw) if raw is not None else None
        if now is not None and isinstance(now.value, dict) and now.value.get("program"):
            raise Unsupported(
                f"{label} of {self.shape.name} can't be written",
                f"it holds {now.note}, and the reference to that program would be lost",
                "Change it with the tool that put it there",
            )
        wanted = text.strip()
        if self.shape.type == "cpumap":
            target = _queue(wanted)
            new = f"a queue of {target} packets"
        else:
            self._interfaces = None
            by_name = {name: index for index, name in self._names().items()}
            target = by_name.get(wanted, int(wanted) if wanted.isascii() and wanted.isdecimal() else 0)
            if target not in self._names():
                raise NotFound(
                    f"there is no interface {wanted!r}", "existing interfaces: " + ", ".join(sorted(by_name))
                )
            new = f"{self._names()[target]} (ifindex {target})"
        data = struct.pack("=I", target).ljust(self.shape.value_size, b"\0")
        return EntryChange(label, now.note if now else None, new, raw_key, data)


def _wanted(layout: Layout, text: str, shown: str | None) -> Plain:
    wanted = parse(layout, text)
    return wanted if shown is None else edited(parse(layout, shown), wanted)


def _queue(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 1 << 32):
        raise InvalidInput(f"{text!r} is not a queue length", "expected a number of packets")
    return int(text)


def _program_name(prog_id: Plain | None) -> str:
    try:
        with bpf.prog_by_id(int(str(prog_id))) as program:
            return bpf.prog_info(program).name
    except OSError:
        return "gone"


def _map_name(map_id: Plain) -> str:
    try:
        with bpf.map_by_id(int(str(map_id))) as fd:
            return bpf.map_info(fd).name
    except OSError:
        return "gone"
