# SPDX-License-Identifier: Apache-2.0
"""Components moved into the dispatcher's main function: jumps in place of calls and returns. Pure.

Where a processor guards its returns against speculation, a call and its return cost more than most components
do (8 ns for the kernel's Safe RET). A component's main function therefore becomes a part of the dispatcher's:
the call is a jump to it, and each of its exits a jump back, with the code in r0.

Both then share one frame and registers 6 to 9. The dispatcher's own stack moves below that of the components,
who need theirs only one after the other, and keeps there what a component would overwrite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import opcodes as op
from .instructions import Instruction, base_register, decode, encode, names_function
from .opcodes import FRAME, STACK

__all__ = ["Inlined", "inlined"]

SAVED = range(6, 10)

WRITES = (op.LD, op.LDX, op.ALU, op.ALU64)  # the classes that write to their target register


@dataclass(frozen=True, slots=True)
class Inlined:
    """The image, and where each function that is left begins, by its old index."""

    image: bytes
    moved: Mapping[int, int]


def inlined(image: bytes, starts: Sequence[int], bodies: Mapping[int, int]) -> Inlined | None:
    """Move the functions at ``bodies`` (index -> bytes of stack) into the main function, at index 0.

    ``starts`` are the indices of all functions. None where it can't be: the frame would be too large, the
    jumps too long, or somebody else refers to one of the functions.
    """
    lines = list(decode(image))
    ordered = sorted(starts)
    ends = dict(zip(ordered, (*ordered[1:], len(lines)), strict=True))
    main = lines[: ends[0]]
    calls = {at + one.immediate + 1: at for at, one in enumerate(main) if _is_call(one)}
    if not calls.keys() >= bodies.keys():
        return None
    shift = max((-(-depth // 8) * 8 for depth in bodies.values()), default=0)
    deepened = _deepen(main, shift)
    if deepened is None:
        return None
    out, lowest = deepened
    origin = list(range(len(out)))
    used = {register for one in main for register in (one.target, one.source)} & {*SAVED}
    for start in bodies:
        body = lines[start : ends[start]]
        kept = sorted(used & _written(body))
        places = [(register, lowest - 8 * (i + 1)) for i, register in enumerate(kept)]
        if places and -places[-1][1] > STACK:
            return None
        call = calls[start]
        out[call] = _jump(call, len(out))
        out += [Instruction(op.STX_DW, FRAME, register, place, 0) for register, place in places]
        origin += [-1] * (len(out) - len(origin))
        end = len(out) + len(body)
        out += [_jump(len(out) + i, end) if one.code == op.EXIT else one for i, one in enumerate(body)]
        origin += range(start, ends[start])
        out += [Instruction(op.LDX_DW, register, FRAME, place, 0) for register, place in places]
        out.append(_jump(len(out), call + 1))
        origin += [-1] * (len(out) - len(origin))
    if -lowest > STACK or any(one.code == op.GOTO and abs(one.offset) >= 1 << 15 for one in out):
        return None
    moved = {0: 0}
    for start in ordered[1:]:
        if start not in bodies:
            moved[start] = len(out)
            out += lines[start : ends[start]]
            origin += range(start, ends[start])
    for at, (one, old) in enumerate(zip(out, origin, strict=True)):
        if old >= 0 and names_function(one):
            target = moved.get(old + one.immediate + 1)
            if target is None:
                return None
            out[at] = one._replace(immediate=target - at - 1)
    return Inlined(encode(out), moved)


def _is_call(one: Instruction) -> bool:
    return one.code == op.CALL and one.source == op.CALL_FUNCTION


def _leaves(one: Instruction) -> bool:
    """Whether another one than the next may follow."""
    return one.code & op.CLASS in (op.JMP, op.JMP32)


def _jump(at: int, to: int) -> Instruction:
    return Instruction(op.GOTO, 0, 0, to - at - 1, 0)


def _written(body: Sequence[Instruction]) -> set[int]:
    """The registers that it may write to; an atomic operation gives back the old value in its source."""
    targets = {one.target for one in body if one.code & op.CLASS in WRITES}
    return targets | {one.source for one in body if one.code & (op.MODE | op.CLASS) == op.ATOMIC | op.STX}


def _deepen(main: Sequence[Instruction], by: int) -> tuple[list[Instruction], int] | None:
    """The main function with its stack ``by`` bytes deeper, and the lowest place of it that is used."""
    out, lowest = list(main), -by
    for at, one in enumerate(main):
        if base_register(one) == FRAME:
            out[at] = one._replace(offset=one.offset - by)
            lowest = min(lowest, out[at].offset)
        elif one.source == FRAME:
            # An address on the stack: the frame pointer is copied, and a constant added to the copy.
            place = at + 1
            while place < len(main) and main[place].target != one.target and not _leaves(main[place]):
                place += 1
            if one.code != op.MOV64_REG or place == len(main) or main[place].code != op.ADD64_IMM:
                return None
            out[place] = main[place]._replace(immediate=main[place].immediate - by)
            lowest = min(lowest, out[place].immediate)
    return out, lowest
