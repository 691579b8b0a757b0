# SPDX-License-Identifier: Apache-2.0
"""libbpf: object files, merging BTF, the number of CPUs. Only this package and `sys.ring` call it."""

from __future__ import annotations

from .merging import FUNC_GLOBAL, FUNC_STATIC, MergedBtf, kernel_function_ids, merge_btf
from .objects import (
    ATTACH_TYPE_FENTRY,
    BPF_F_XDP_DEV_BOUND_ONLY,
    BPF_F_XDP_HAS_FRAGS,
    LoadFailed,
    Object,
    ObjectMap,
    ObjectProgram,
)
from .shared_library import ATTACH_TYPE_XDP, kernel_types_missing, library

__all__ = [
    "ATTACH_TYPE_FENTRY",
    "ATTACH_TYPE_XDP",
    "BPF_F_XDP_DEV_BOUND_ONLY",
    "BPF_F_XDP_HAS_FRAGS",
    "FUNC_GLOBAL",
    "FUNC_STATIC",
    "LoadFailed",
    "MergedBtf",
    "Object",
    "ObjectMap",
    "ObjectProgram",
    "kernel_function_ids",
    "kernel_types_missing",
    "library",
    "merge_btf",
]
