# SPDX-License-Identifier: Apache-2.0
"""Merge BTF with libbpf."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from ctypes import c_uint32

from xdpchain.errors import InvalidInput
from xdpchain.frozen import frozen

from .shared_library import check, library

__all__ = ["FUNC_GLOBAL", "FUNC_STATIC", "MergedBtf", "kernel_function_ids", "merge_btf"]


@frozen
class MergedBtf:
    """Merged BTF: the bytes, the offset added to each part's type IDs, and the IDs of the added functions.
    ``strings``: the offset added to each part's string offsets, if all strings were included: line_info
    refers to some that no type uses.
    """

    data: bytes
    shifts: tuple[int, ...]
    functions: tuple[int, ...]
    strings: tuple[int, ...] = ()


FUNC_STATIC, FUNC_GLOBAL = 0, 1
KIND_FUNC = 12


def merge_btf(
    parts: list[bytes], functions: list[tuple[str, int, int]], *, strings: bool = False
) -> MergedBtf:
    """Append BTF blobs to one another (``btf__add_btf``) and add functions.

    ``functions`` are (name, linkage, ID of a prototype in the merged BTF). With ``strings``, all strings of
    the parts are included. Raises InvalidInput.
    """
    lib = library()
    merged = lib.btf__new_empty()
    try:
        shifts = []
        for part in parts:
            btf = lib.btf__new(part, len(part))
            if not btf:
                raise InvalidInput("a component's BTF can't be read", os.strerror(ctypes.get_errno()))
            try:
                # A part's type IDs start at 1, so the offset is one less than its first type's new ID.
                first = check(lib.btf__add_btf(merged, btf), "merge BTF")
                shifts.append(first - 1)
            finally:
                lib.btf__free(btf)
        added = [
            check(lib.btf__add_func(merged, name.encode(), linkage, proto), f"describe {name}")
            for name, linkage, proto in functions
        ]
        size = c_uint32()
        at = lib.btf__raw_data(merged, ctypes.byref(size))
        data = ctypes.string_at(at, size.value)
        data, places = _append_strings(data, parts) if strings else (data, ())
        return MergedBtf(data, tuple(shifts), tuple(added), places)
    finally:
        lib.btf__free(merged)


def _append_strings(merged: bytes, parts: list[bytes]) -> tuple[bytes, tuple[int, ...]]:
    """The merged BTF with the strings of all parts appended to its own, which are its last section."""
    # struct btf_header: its length at 4, then offset and length of types and of strings.
    length, _, _, start, size = struct.unpack_from("<IIIII", merged, 4)
    tables, places, added = [merged[: length + start + size]], {}, 0
    for part in parts:
        if part not in places:
            part_length, _, _, part_start, part_size = struct.unpack_from("<IIIII", part, 4)
            places[part] = size + added
            tables.append(part[part_length + part_start : part_length + part_start + part_size])
            added += part_size
    data = bytearray(b"".join(tables))
    struct.pack_into("<I", data, 20, size + added)
    return bytes(data), tuple(places[part] for part in parts)


def kernel_function_ids(names: Iterable[str]) -> frozenset[int]:
    """The IDs in the kernel's BTF of those of these functions that exist."""
    lib = library()
    types = lib.btf__load_vmlinux_btf()
    if not types:
        return frozenset()
    try:
        found = (lib.btf__find_by_name_kind(types, name.encode(), KIND_FUNC) for name in names)
        return frozenset(type_id for type_id in found if type_id > 0)
    finally:
        lib.btf__free(types)
