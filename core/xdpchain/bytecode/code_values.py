# SPDX-License-Identifier: Apache-2.0
"""The codes that a value may be, as far as they are known, and what instructions make of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, NamedTuple

from . import opcodes as op
from .instructions import Instruction

__all__ = [
    "COMPUTED",
    "MASK32",
    "MASK64",
    "Called",
    "Code",
    "Source",
    "Values",
    "bounded",
    "calculated",
    "code_of",
    "refined",
    "resized",
]


class Source(Enum):
    """Where a code that is not a constant comes from."""

    COMPUTED = "computed"
    """Calculated, loaded from memory, or returned by a function that is not tracked."""
    TAIL_CALL = "tail call"
    """The program tail-called another."""


class Called(NamedTuple):
    """The return value of this helper: bpf_redirect() and similar return XDP_REDIRECT, or the code in their
    flags.
    """

    helper: int


Code = int | Source | Called
"""A return code (32 bits), or where it comes from."""

MOST_VALUES = 16
"""Most values of a place before it counts as computed."""

MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1

Values = frozenset[Code]
COMPUTED: Values = frozenset((Source.COMPUTED,))


def code_of(value: Code) -> Code:
    return value & MASK32 if isinstance(value, int) else value


def bounded(values: Values) -> Values:
    return values if len(values) <= MOST_VALUES else COMPUTED


def resized(values: Values, size: int, *, signed: bool) -> Values:
    bits = 8 * size
    found: set[Code] = set()
    for value in values:
        if isinstance(value, int):
            value &= (1 << bits) - 1
            found.add(value | MASK64 & -(1 << bits) if signed and value >> (bits - 1) else value)
        else:
            found.add(value if size >= 4 else Source.COMPUTED)
    return frozenset(found)


def calculated(line: Instruction, values: Mapping[int, Values]) -> Values:
    """What arithmetic leaves in its target."""
    operation, wide = line.code & op.OPERATION, line.code & op.CLASS == op.ALU64
    own = values.get(line.target, COMPUTED)
    other: Values = frozenset((line.immediate & MASK64,))
    if line.code & op.X:
        other = values.get(line.source, COMPUTED)
    if operation == op.MOV:
        if line.offset not in (0, 8, 16, 32):
            return COMPUTED  # no kernel accepts it
        if line.offset:  # sign-extending (kernel 6.6)
            other = resized(other, line.offset // 8, signed=True)
        return other if wide else resized(other, 4, signed=False)
    if operation not in _FOLDS or line.offset or len(own) * len(other) > MOST_VALUES:
        return COMPUTED
    found: set[Code] = set()
    for a in own:
        for b in other:
            if not (isinstance(a, int) and isinstance(b, int)):
                return COMPUTED
            mask = MASK64 if wide else MASK32
            result = _FOLDS[operation](a & mask, b & mask, 63 if wide else 31) & mask
            if 1 << 16 < result < mask - (1 << 16):
                return COMPUTED  # not a code: a counter, a hash, an address
            found.add(result)
    return frozenset(found)


_FOLDS: Final[Mapping[int, Callable[[int, int, int], int]]] = {
    op.ADD: lambda a, b, _: a + b,
    op.SUB: lambda a, b, _: a - b,
    op.OR: lambda a, b, _: a | b,
    op.AND: lambda a, b, _: a & b,
    op.XOR: lambda a, b, _: a ^ b,
    op.LSH: lambda a, b, bits: a << (b & bits),
    op.RSH: lambda a, b, bits: a >> (b & bits),
}


def refined(line: Instruction, values: Mapping[int, Values], *, taken: bool) -> dict[int, Values] | None:
    """What a comparison with a constant says about a tracked register; None: this edge can't be taken."""
    if line.code & op.X or line.code == op.MAY_GOTO or line.target not in values:
        return {}
    operation, wide = line.code & op.OPERATION, line.code & op.CLASS == op.JMP
    mask = MASK64 if wide else MASK32
    constant = line.immediate & mask
    compare = _COMPARES.get(operation)
    if compare is None:
        return {}
    kept: set[Code] = set()
    for value in values[line.target]:
        if isinstance(value, int):
            if compare(value & mask, constant) == taken:
                kept.add(value)
        elif taken == (operation == op.JEQ) and operation in (op.JEQ, op.JNE):
            kept.add(line.immediate & MASK64)
        else:
            kept.add(value)
    return {line.target: frozenset(kept)} if kept else None


_COMPARES: Final[Mapping[int, Callable[[int, int], bool]]] = {
    op.JEQ: lambda a, b: a == b,
    op.JNE: lambda a, b: a != b,
    op.JGT: lambda a, b: a > b,
    op.JGE: lambda a, b: a >= b,
    op.JLT: lambda a, b: a < b,
    op.JLE: lambda a, b: a <= b,
    op.JSET: lambda a, b: bool(a & b),
}
