# SPDX-License-Identifier: Apache-2.0
"""Find constants in code that are IDs of its own types (``bpf_core_type_id_local()``, ``bpf_obj_new()``):
they must change if the program's BTF becomes part of another. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from xdpchain.bytecode.instructions import SIZE

from .btf_ext import Table, records
from .elf import Elf
from .objfile import ObjectFile

__all__ = ["type_id_places"]

_TYPE_ID_LOCAL: Final = 6
"""BPF_CORE_TYPE_ID_LOCAL of the kernel's ``enum bpf_core_relo_kind``."""


class _Constant(NamedTuple):
    """A type ID, ``behind`` instructions after the entry of the function with type ID ``function``."""

    function: int
    behind: int
    type_id: int


def type_id_places(data: bytes, functions: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """(instruction index, type ID) in a program that libbpf loaded from the object file ``data``;
    ``functions`` is its func_info. Raises InvalidInput.
    """
    starts = {type_id: at for at, type_id in functions}
    return tuple(
        sorted(
            (starts[constant.function] + constant.behind, constant.type_id)
            for constant in _constants(data)
            if constant.function in starts
        )
    )


@lru_cache(maxsize=64)
def _constants(data: bytes) -> tuple[_Constant, ...]:
    elf, btf = Elf.parse(data), ObjectFile.parse(data).btf
    if btf is None:
        return ()
    functions = records(elf, btf, Table.FUNCTIONS)
    constants = []
    for section, relocations in records(elf, btf, Table.RELOCATIONS).items():
        entries = sorted(functions.get(section, ()))
        for offset, type_id, _, kind in relocations:
            place = bisect_right(entries, (offset, 1 << 32)) - 1
            if kind == _TYPE_ID_LOCAL and place >= 0:
                start, function = entries[place]
                constants.append(_Constant(function, (offset - start) // SIZE, type_id))
    return tuple(constants)
