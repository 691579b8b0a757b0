# SPDX-License-Identifier: Apache-2.0
"""Convert between the bytes of a key or value and plain Python values, by layout. Pure.

Encoding applies only the differences to the existing bytes: padding and other union members are preserved.
So ``encode(layout, decode(layout, raw), raw) == raw`` for any bytes.
"""

from __future__ import annotations

import ipaddress
import struct
import sys
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from xdpchain.errors import InvalidInput

from .layout import Field, Form, Layout, Number, Opaque, Prefix, Record, Sequence, Text

__all__ = ["Plain", "decode", "edited", "encode", "total"]

Plain = int | float | str | list["Plain"] | dict[str, "Plain"]
"""Numbers (including bool), text (char arrays, enumerators, addresses, opaque bytes in hexadecimal), lists
and dicts.
"""

_FLOATS: Final = {4: "f", 8: "d"}


def decode(layout: Layout, raw: bytes) -> Plain:
    """Decode the value at the start of ``raw``."""
    match layout:
        case Number():
            return _number(layout, raw[: layout.size])
        case Text():
            return _text(raw[: layout.size])
        case Sequence():
            step = layout.element.size
            return [decode(layout.element, raw[i * step : (i + 1) * step]) for i in range(layout.count)]
        case Record():
            return {field.name: _field(field, raw[: layout.size]) for field in layout.fields}
        case Prefix():
            length = int.from_bytes(raw[:4], sys.byteorder)
            return f"{ipaddress.ip_address(bytes(raw[4 : layout.size]))}/{length}"
        case Opaque():
            return raw[: layout.size].hex()


def encode(layout: Layout, value: Plain, base: bytes | None = None) -> bytes:
    """Encode ``value`` over ``base`` (zeros if None): members that it lacks keep their bytes from ``base``.

    Raises InvalidInput, which names the invalid member.
    """
    made = bytearray(bytes(layout.size) if base is None else base)
    changes: list[tuple[int, int, str]] = []
    _write(layout, value, made, 0, "", changes)
    changes.sort()
    for (_, end, first), (start, _, second) in pairwise(changes):
        if start < end:
            raise InvalidInput(
                f"{first} and {second} can't both be set", "they share bytes (a union)", "Set one of them"
            )
    return bytes(made)


def total(values: list[Plain]) -> Plain | None:
    """The sum of per-CPU values, member by member; None if anything in them can't be added."""
    first = values[0] if values else None
    if isinstance(first, dict):
        added: dict[str, Plain] = {}
        for name in first:
            member_sum = total([value[name] for value in values if isinstance(value, dict)])
            if member_sum is None:
                return None
            added[name] = member_sum
        return added
    if isinstance(first, list):
        rows = [
            total(list(column)) for column in zip(*(v for v in values if isinstance(v, list)), strict=True)
        ]
        return [row for row in rows if row is not None] if None not in rows else None
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return sum(value for value in values if isinstance(value, int | float)) if values else None
    return None


def edited(shown: Plain, wanted: Plain) -> Plain:
    """The part of ``wanted`` that differs from the value ``shown``: for records, only the changed members,
    since the others may have been changed by someone else meanwhile.
    """
    if not (isinstance(shown, dict) and isinstance(wanted, dict)):
        return wanted
    changed: dict[str, Plain] = {}
    for name, member in wanted.items():
        if name not in shown or not _same(shown[name], member):
            changed[name] = edited(shown[name], member) if name in shown else member
    return changed


# -- decoding -----------------------------------------------------------------------------------------------


def _number(layout: Number, raw: bytes, bits: int | None = None, shift: int | None = None) -> Plain:
    """A number that starts ``shift`` bits into ``raw``, counted from the low end."""
    bits = layout.bits if bits is None else bits
    if layout.form is Form.IPV4 and bits == 32:
        return str(ipaddress.IPv4Address(bytes(raw)))
    if layout.form is Form.IPV6:
        return str(ipaddress.IPv6Address(bytes(raw)))
    if layout.form is Form.FLOAT:
        value: float = struct.unpack("=" + _FLOATS[layout.size], raw)[0]
        return value
    if layout.form is Form.NETWORK and bits == 8 * layout.size:
        return int.from_bytes(raw, "big")
    at = _low(layout.shift, bits, len(raw)) if shift is None else shift
    value = int.from_bytes(raw, sys.byteorder) >> at & (1 << bits) - 1
    if layout.form is Form.SIGNED and value >> bits - 1:
        value -= 1 << bits
    if layout.form is Form.BOOL and value in (0, 1):
        return bool(value)
    for name, known in layout.names:
        if known == value:
            return name
    return value


def _low(offset: int, bits: int, size: int) -> int:
    """Shift from the low end: bits are counted from the first byte, the low end only if little-endian."""
    return offset if sys.byteorder == "little" else 8 * size - offset - bits


def _text(raw: bytes) -> Plain:
    text, _, rest = raw.partition(b"\0")
    if any(rest) or not all(0x20 <= c < 0x7F for c in text):
        return list(raw)
    return text.decode("ascii")


def _field(field: Field, raw: bytes) -> Plain:
    if field.bits is not None and isinstance(field.layout, Number):
        return _number(field.layout, raw, field.bits, _low(field.at, field.bits, len(raw)))
    start = field.at // 8
    return decode(field.layout, raw[start : start + field.layout.size])


# -- encoding -----------------------------------------------------------------------------------------------


def _write(
    layout: Layout, value: Plain, made: bytearray, at: int, path: str, changes: list[tuple[int, int, str]]
) -> None:
    """Write ``value`` into ``made`` at offset ``at`` (bytes) if it differs."""
    size = layout.size
    old = bytes(made[at : at + size])
    if isinstance(layout, Record):
        if not isinstance(value, Mapping):
            raise _wrong(path, value, "it has members: write {member=value, …}")
        for name, inner in value.items():
            found = layout.field(name)
            where = f"{path}.{name}" if path else name
            if found is None:
                raise InvalidInput(
                    f"there is no member {where!r}",
                    todo="The members are " + ", ".join(f.name for f in layout.fields),
                )
            _write_field(found, inner, made, at, size, where, changes)
        return
    if isinstance(layout, Sequence):
        if not isinstance(value, list):
            raise _wrong(path, value, f"it has {layout.count} elements: write [a, b, …]")
        if len(value) != layout.count:
            raise _wrong(path, value, f"it has {layout.count} elements, not {len(value)}")
        for i, inner in enumerate(value):
            _write(layout.element, inner, made, at + i * layout.element.size, f"{path}[{i}]", changes)
        return
    if _same(decode(layout, old), value):
        return
    made[at : at + size] = _leaf(layout, value, old, path)
    changes.append((8 * at, 8 * (at + size), path or "the value"))


def _write_field(
    field: Field,
    value: Plain,
    made: bytearray,
    at: int,
    size: int,
    path: str,
    changes: list[tuple[int, int, str]],
) -> None:
    if field.bits is None or not isinstance(field.layout, Number):
        _write(field.layout, value, made, at + field.at // 8, path, changes)
        return
    whole = bytes(made[at : at + size])
    if _same(_field(field, whole), value):
        return
    low = _low(field.at, field.bits, size)
    mask = (1 << field.bits) - 1
    bits = int.from_bytes(whole, sys.byteorder) & ~(mask << low)
    bits |= (_integer(field.layout, value, field.bits, path) & mask) << low
    made[at : at + size] = bits.to_bytes(size, sys.byteorder)
    changes.append((8 * at + field.at, 8 * at + field.at + field.bits, path))


def _same(old: Plain, new: Plain) -> bool:
    if isinstance(old, float) and isinstance(new, float) and old != old and new != new:
        return True  # both are NaN: keep the bits
    return type(old) is type(new) and old == new


def _leaf(layout: Number | Text | Prefix | Opaque, value: Plain, old: bytes, path: str) -> bytes:
    match layout:
        case Number():
            return _encode_number(layout, value, old, path)
        case Text():
            return _encode_text(layout, value, path)
        case Prefix():
            return _encode_prefix(layout, value, path)
        case Opaque():
            try:
                raw = bytes.fromhex(str(value).removeprefix("0x"))
            except ValueError:
                raise _wrong(path, value, "expected bytes in hexadecimal") from None
            if len(raw) != layout.size:
                raise _wrong(path, value, f"expected {layout.size} bytes in hexadecimal, got {len(raw)}")
            return raw


def _encode_number(layout: Number, value: Plain, old: bytes, path: str) -> bytes:
    size = layout.size
    if layout.form in (Form.IPV4, Form.IPV6):
        return _address(value, 8 * size, path)
    if layout.form is Form.FLOAT:
        if not isinstance(value, int | float):
            raise _wrong(path, value, "expected a number")
        try:
            return struct.pack("=" + _FLOATS[size], value)
        except (OverflowError, struct.error):
            raise _wrong(path, value, f"it does not fit in {size} bytes") from None
    bits = _integer(layout, value, layout.bits, path)
    if layout.form is Form.NETWORK:
        return bits.to_bytes(size, "big")
    mask, low = (1 << layout.bits) - 1, _low(layout.shift, layout.bits, size)
    kept = int.from_bytes(old, sys.byteorder) & ~(mask << low)
    return (kept | (bits & mask) << low).to_bytes(size, sys.byteorder)


def _integer(layout: Number, value: Plain, bits: int, path: str) -> int:
    if isinstance(value, str):
        found = next((number for name, number in layout.names if name == value), None)
        if found is None:
            known = ", ".join(name for name, _ in layout.names[:8])
            raise _wrong(path, value, f"expected one of {known}" if known else "expected a whole number")
        value = found
    if not isinstance(value, int):
        raise _wrong(path, value, "expected a whole number")
    least, most = (
        (-(1 << bits - 1), (1 << bits - 1) - 1) if layout.form is Form.SIGNED else (0, (1 << bits) - 1)
    )
    if not least <= value <= most:
        raise _wrong(path, value, f"out of range ({least} to {most})")
    return value


def _encode_text(layout: Text, value: Plain, path: str) -> bytes:
    if isinstance(value, list):
        if len(value) != layout.size or not all(isinstance(c, int) and 0 <= c < 256 for c in value):
            raise _wrong(path, value, f"expected {layout.size} bytes, each from 0 to 255")
        return bytes(c for c in value if isinstance(c, int))
    if not isinstance(value, str):
        raise _wrong(path, value, "expected text")
    raw = value.encode()
    if len(raw) > layout.size:
        raise _wrong(path, value, f"it has room for {layout.size} bytes")
    return raw.ljust(layout.size, b"\0")


def _address(value: Plain, bits: int, path: str) -> bytes:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << bits:
        return value.to_bytes(bits // 8, "big")
    kind = ipaddress.IPv4Address if bits == 32 else ipaddress.IPv6Address
    try:
        return kind(str(value)).packed
    except ValueError:
        what = "an IPv4 address" if bits == 32 else "an IPv6 address"
        raise _wrong(path, value, f"expected {what}") from None


def _encode_prefix(layout: Prefix, value: Plain, path: str) -> bytes:
    address, slash, length = str(value).partition("/")
    raw = _address(address, layout.bits, path)
    if not slash:
        length = str(layout.bits)
    # A prefix longer than the address can't be in the trie, but any bytes must survive decoding.
    if not (length.isascii() and length.isdecimal() and int(length) < 1 << 32):
        raise _wrong(path, value, f"the prefix length is out of range (0 to {layout.bits})")
    return int(length).to_bytes(4, sys.byteorder) + raw


def _wrong(path: str, value: Plain, why: str) -> InvalidInput:
    shown = repr(value) if not isinstance(value, str) else value
    what = f"invalid value {shown[:60]!r}" if not path else f"invalid value {shown[:60]!r} for {path}"
    return InvalidInput(what, why)
