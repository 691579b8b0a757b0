# SPDX-License-Identifier: Apache-2.0
"""Find the kernel functions (kfuncs) that a program in an object file calls. Pure."""

from __future__ import annotations

from functools import lru_cache

from .elf import Elf
from .objfile import ObjectFile
from .objrefs import References, read_functions

__all__ = ["THROW", "kernel_calls", "metadata_calls"]

THROW = "bpf_throw"
"""It ends the whole program from any depth (kernel 6.7 and later), bypassing all exits."""

METADATA = "bpf_xdp_metadata_"
"""Name prefix of the kfuncs that read a packet's RX metadata (kernel 6.3 and later)."""


@lru_cache(maxsize=64)
def kernel_calls(data: bytes, program: str) -> frozenset[str]:
    """The names of kernel functions called by the program or anything that it calls or tail-calls.

    Raises InvalidInput for an object that can't be read, NotFound for a program that is not in it.
    """
    source, elf = ObjectFile.parse(data), Elf.parse(data)
    functions = read_functions(elf)
    wanted = {program, *source.program(program).callees}
    graph = References(elf, functions, {bpf_map.name for bpf_map in source.maps})
    entries = [
        function for function in functions if function.name in wanted and function.section_name != ".text"
    ]
    return frozenset().union(*(graph.kfuncs(entry) for entry in entries))


def metadata_calls(data: bytes, program: str) -> frozenset[str]:
    """The `kernel_calls` that require the program to be bound to its device. Raises the same errors."""
    if METADATA.encode() not in data:
        return frozenset()
    return frozenset(name for name in kernel_calls(data, program) if name.startswith(METADATA))
