# SPDX-License-Identifier: Apache-2.0
"""Which of the kernel's own functions (kfuncs) a program of an object file calls. Pure."""

from __future__ import annotations

from functools import lru_cache

from .elf import Elf
from .objfile import ObjectFile
from .objrefs import References, read_functions

__all__ = ["THROW", "kernel_calls", "metadata_calls"]

THROW = "bpf_throw"
"""It ends the whole program from any depth (kernel 6.7 on), past all exits that it was given."""

METADATA = "bpf_xdp_metadata_"
"""How the names of those begin that read what the device says of a packet (kernel 6.3 on)."""


@lru_cache(maxsize=64)
def kernel_calls(data: bytes, program: str) -> frozenset[str]:
    """The names of the kernel's functions that the program calls, with all that it calls or tail-calls.

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
    """Those of them for which the program has to be bound to the device that it runs on. Raises likewise."""
    if METADATA.encode() not in data:
        return frozenset()
    return frozenset(name for name in kernel_calls(data, program) if name.startswith(METADATA))
