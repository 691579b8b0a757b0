# SPDX-License-Identifier: Apache-2.0
"""Components as members of a program that is threaded (`threading`), and what the kernel is told of it."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from xdpchain.bytecode.chaincall import main_length, main_stack, own_tail_calls
from xdpchain.bytecode.instructions import decode, function_starts
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.bytecode.unfolding import EVERYWHERE, Unfolded, unfold
from xdpchain.bytecode.weaving import LineRecord, complete_lines
from xdpchain.sys import bpf

from .threading import Code, Form, Member, Threaded

__all__ = ["Described", "member_of", "patched", "unfolded_main"]


def patched(unit: LinkableProgram, maps: Mapping[str, bpf.Fd]) -> Code:
    """A unit's instructions with descriptors of this process."""
    lines = list(decode(unit.instructions))
    for index, name in unit.references:
        lines[index] = lines[index]._replace(immediate=maps[name].fileno())
    return Code(tuple(lines), function_starts(unit.instructions))


def unfolded_main(unit: LinkableProgram, *, reach: int = EVERYWHERE) -> Unfolded | None:
    """Its main function unfolded; None where it has to be called: what a function that makes tail calls
    calls would return to the kernel, if it were inlined.
    """
    if own_tail_calls(unit.instructions) or not unit.stack:
        return None
    return _unfolded_main(unit.instructions, reach)


@lru_cache(maxsize=64)
def _unfolded_main(code: bytes, reach: int) -> Unfolded:
    """For an edit in a process that lives on: most of a chain's components are what they were."""
    return unfold(decode(code)[: main_length(code)], reach=reach)


def member_of(unit: LinkableProgram, maps: Mapping[str, bpf.Fd], form: Form) -> Member:
    """A component in one of the forms."""
    code = patched(unit, maps)
    unfolded = unfolded_main(unit, reach=0 if form is Form.INLINED else EVERYWHERE)
    if form is Form.CALLS or unfolded is None:
        return Member(code, 0, None)
    stack = main_stack(unit.instructions, unit.stack[0])
    return Member(code, stack, replace(unfolded, lines=code.lines[: len(unfolded.lines)]))


@dataclass(frozen=True, slots=True)
class Described:
    """BTF, the types of functions by (owner, old index), and the source lines of each owner."""

    btf: bytes
    functions: Mapping[Hashable, int]
    lines: Mapping[Hashable, Sequence[LineRecord]]

    def func_info(self, threaded: Threaded) -> bytes:
        """The kernel's func_info records."""
        return b"".join(struct.pack("<II", *record) for record in self._functions(threaded).items())

    def line_info(self, threaded: Threaded) -> bytes:
        """The kernel's line_info records."""
        lines = complete_lines(self._lines(threaded), self._functions(threaded))
        return b"".join(struct.pack("<IIII", *record) for record in lines)

    def _functions(self, threaded: Threaded) -> dict[int, int]:
        """The types of a program's functions by index, in order."""
        labels = threaded.assembled.labels
        placed = {labels[name]: number for name, number in self.functions.items() if name in labels}
        return dict(sorted((placed | {0: self.functions["main"]}).items()))

    def _lines(self, threaded: Threaded) -> list[LineRecord]:
        """Where each source line begins in it."""
        found: list[LineRecord] = []
        starts = {owner: [line.insn for line in lines] for owner, lines in self.lines.items()}
        for index, (owner, at) in sorted(threaded.origins.items()):
            place = bisect_right(starts.get(owner, []), at) - 1
            if place >= 0:
                line = self.lines[owner][place]
                if not found or found[-1] != line._replace(insn=found[-1].insn):
                    found.append(line._replace(insn=index))
        return found
