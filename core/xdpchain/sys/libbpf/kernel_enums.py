# SPDX-License-Identifier: Apache-2.0
"""Enumerations of the running kernel, from its BTF."""

from __future__ import annotations

import ctypes
import struct
from functools import cache

from .shared_library import library

__all__ = ["kernel_enum"]

KIND_ENUM = 6
_TYPE = struct.Struct("=III")
_VALUE = struct.Struct("=Ii")


@cache
def kernel_enum(name: str) -> dict[int, str]:
    """The names of an enumeration's values; empty if this kernel lacks it, or has no BTF."""
    lib = library()
    btf = lib.btf__load_vmlinux_btf()
    if not btf:
        return {}
    try:
        type_id = lib.btf__find_by_name_kind(btf, name.encode(), KIND_ENUM)
        if type_id <= 0:
            return {}
        at = lib.btf__type_by_id(btf, type_id)
        _, info, _ = _TYPE.unpack(ctypes.string_at(at, _TYPE.size))
        values = _VALUE.iter_unpack(ctypes.string_at(at + _TYPE.size, (info & 0xFFFF) * _VALUE.size))
        return {value: lib.btf__name_by_offset(btf, offset).decode() for offset, value in values}
    finally:
        lib.btf__free(btf)
