# SPDX-License-Identifier: Apache-2.0
"""The chain call in instructions: a component that hands on to the next program, by its return code. Pure.

Every component has a program array with a row for each return code. What a component returned selects the
row; the program in it runs next, and an empty row returns the code. This is
what the kernel patches of 2019 put into the kernel ("xdp: Support multiple programs on a single interface
through chain calls", Høiland-Jørgensen), done in the program itself.

Each row has a tail call of its own, with a key that the verifier knows: the kernel patches such a call into a
plain jump when the row is filled, and into nothing when it is emptied (428d5df1fa4f), so it costs a packet
about as much as a test of the code. A key in a register would cost an indirect jump.

Two forms. `woven`: the exits of the component's main function become jumps to an epilogue at its end; there
is neither a call nor a return. The context is kept on the component's stack. `wrapped`: a small main function
calls the component; for components that make tail calls of their own, whose programs return to the caller of
the function that they were called from, and so to the chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from xdpchain.errors import InvalidInput
from xdpchain.model.actions import Action
from xdpchain.model.routes import NEXT, OTHER, UNREPLACED

from . import opcodes as op
from .assembler import Assembly
from .instructions import (
    SIZE,
    Instruction,
    base_register,
    decode,
    encode,
    function_starts,
    instructions,
    names_function,
)
from .opcodes import FRAME, STACK, Helper

__all__ = [
    "Counting",
    "Epilogue",
    "end_of_chain",
    "main_length",
    "main_stack",
    "own_tail_calls",
    "woven",
    "wrapped",
]

# A component that is done needs its stack no more: these are kept where it had its own, the context below.
CODE, CPU, COUNTS, LENGTH = -8, -4, -16, -24

DATA, DATA_END = 0, 4  # of struct xdp_md
PACKETS, BYTES, COUNT_SIZE = 0, 8, 16  # of a count

ORDER = (Action.PASS, Action.DROP, Action.TX, Action.REDIRECT, Action.ABORTED, UNREPLACED)
"""The codes that have a row of their own, in the order in which they are tested: the frequent ones first."""


@dataclass(frozen=True, slots=True)
class Counting:
    """Where to count: the descriptor of the counters map, the slot's row, the bytes of a row, and whether a
    packet may have fragments. Row 0 counts what the chain returned.
    """

    map: int
    row: int
    row_size: int
    frags: bool


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What comes after a component: the descriptor of its program array, and how to count, if at all.

    ``last``: XDP_PASS comes out of the chain's end as XDP_PASS, so that code needs no tail call.
    """

    array: int
    counting: Counting | None = None
    last: bool = False


def main_length(code: bytes) -> int:
    """Instructions of a component's main function, which comes first."""
    starts = function_starts(code)
    return starts[1] if len(starts) > 1 else len(code) // SIZE


@lru_cache(maxsize=64)
def own_tail_calls(code: bytes) -> bool:
    """Whether a component's main function makes tail calls: such a component has to be `wrapped`."""
    end = main_length(code)
    return any(at < end and _is_tail_call(instruction) for at, instruction in instructions(code))


@lru_cache(maxsize=64)
def main_stack(code: bytes, depth: int) -> int:
    """Bytes of stack of a component's main function; ``depth`` is what the verifier said."""
    # It leaves out what it optimised away (spills around bpf_fastcall functions), and may not do so again.
    end = main_length(code)
    touched = (
        -instruction.offset
        for at, instruction in instructions(code)
        if at < end and base_register(instruction) == FRAME
    )
    return max(depth, *touched, 0)


def woven(code: bytes, depth: int, after: Epilogue) -> tuple[bytes, int]:
    """The component with its exits rewritten, and by how many instructions its other functions moved.

    ``code`` has this process's map descriptors; ``depth`` is the stack of its main function in bytes. Raises
    InvalidInput if that leaves no room for the context.
    """
    context = -_context(main_stack(code, depth), after.counting)
    if -context > STACK:
        raise InvalidInput(f"its main function uses {depth} bytes of stack")
    lines = decode(code)
    end = main_length(code)
    epilogue = _epilogue(after, context)
    moved = 1 + len(epilogue)
    out = [Instruction(op.STX_DW, FRAME, 1, context, 0)]
    for at in range(end):
        instruction = lines[at]
        if instruction.code == op.EXIT:
            instruction = _jump_by(end - at - 1)
        elif names_function(instruction):
            instruction = instruction._replace(immediate=instruction.immediate + len(epilogue))
        out.append(instruction)
    out += epilogue
    out += lines[end:]
    return encode(out), moved


def wrapped(code: bytes, after: Epilogue) -> tuple[bytes, int]:
    """The component called by a main function of ours, and the index at which it then begins."""
    context = -_context(0, after.counting)
    epilogue = _epilogue(after, context)
    start = 2 + len(epilogue)
    call = Instruction(op.CALL, 0, op.CALL_FUNCTION, 0, start - 2)
    return encode([Instruction(op.STX_DW, FRAME, 1, context, 0), call, *epilogue]) + code, start


def end_of_chain(counting: Counting | None) -> bytes:
    """The program that a last slot hands on to: it counts XDP_PASS as the verdict, and returns it."""
    out = Assembly()
    if counting is not None:
        context = -_context(0, counting)
        out.put(op.STX_DW, FRAME, 1, context)
        out.put(op.MOV64_IMM, 0, 0, 0, Action.PASS)
        _find_counts(out, counting, context)
        _count(out, Action.PASS * COUNT_SIZE)
    out.put(op.MOV64_IMM, 0, 0, 0, Action.PASS)
    out.label("out")
    out.put(op.EXIT)
    return out.image()


def _context(depth: int, counting: Counting | None) -> int:
    """How far below the frame pointer the context is kept."""
    return max(-(-depth // 8) * 8, -LENGTH if counting else -CODE) + 8


def _epilogue(after: Epilogue, context: int) -> list[Instruction]:
    """The code in r0, the context at ``context`` of the stack: count, then go on or return the code.

    Of r0 the lower half is the code: it is an unsigned int, to the kernel as to any dispatcher. Registers 6
    to 9 are left alone, for each that a program uses costs it a push and a pop.
    """
    out, counting = Assembly(), after.counting
    if counting is not None:
        _find_counts(out, counting, context)
        out.put(op.LDX_W, 0, FRAME, CODE)
    for code in ORDER:
        out.jump(f"not {code}", op.JNE32_IMM, 0, code)
        if counting is not None:
            _count(out, counting.row * counting.row_size + min(code, OTHER) * COUNT_SIZE)
        if not (after.last and code == Action.PASS):
            row = NEXT if code == UNREPLACED else code
            _tail_call(out, after.array, row, context)
        out.put(op.MOV64_IMM, 0, 0, 0, code)  # the row is empty
        out.jump("verdict")
        out.label(f"not {code}")
    if counting is not None:
        _count(out, counting.row * counting.row_size + OTHER * COUNT_SIZE)
    else:
        out.put(op.STX_W, FRAME, 0, CODE)
    _tail_call(out, after.array, OTHER, context)
    out.put(op.LDX_W, 0, FRAME, CODE)
    out.label("verdict")
    if counting is not None:
        out.put(op.LDX_DW, 4, FRAME, COUNTS)
        out.put(op.LDX_DW, 2, FRAME, LENGTH)
        _count_verdict(out)
    out.label("out")
    out.put(op.EXIT)
    return out.lines()


def _tail_call(out: Assembly, array: int, row: int, context: int) -> None:
    out.put(op.LDX_DW, 1, FRAME, context)
    out.map(2, array)
    out.put(op.MOV64_IMM, 3, 0, 0, row)
    out.put(op.CALL, 0, 0, 0, Helper.TAIL_CALL)


def _find_counts(out: Assembly, counting: Counting, context: int) -> None:
    """From the code in r0: keep it, this CPU's counts and the packet's length; r4 has the counts, r2 the
    length.
    """
    out.put(op.STX_W, FRAME, 0, CODE)
    out.put(op.CALL, 0, 0, 0, Helper.GET_SMP_PROCESSOR_ID)
    out.put(op.STX_W, FRAME, 0, CPU)
    out.map(1, counting.map)
    out.put(op.MOV64_REG, 2, FRAME)
    out.put(op.ADD64_IMM, 2, 0, 0, CPU)
    out.put(op.CALL, 0, 0, 0, Helper.MAP_LOOKUP_ELEM)
    out.jump("out", op.JEQ_IMM, 0, 0)  # never: every CPU has an element, but the verifier does not know
    out.put(op.STX_DW, FRAME, 0, COUNTS)
    out.put(op.LDX_DW, 1, FRAME, context)
    if counting.frags:
        out.put(op.CALL, 0, 0, 0, Helper.XDP_GET_BUFF_LEN)
        out.put(op.MOV64_REG, 2, 0)
        out.put(op.LDX_DW, 4, FRAME, COUNTS)
    else:
        out.put(op.MOV64_REG, 4, 0)
        out.put(op.LDX_W, 2, 1, DATA_END)
        out.put(op.LDX_W, 3, 1, DATA)
        out.put(op.SUB64_REG, 2, 3)
    out.put(op.STX_DW, FRAME, 2, LENGTH)


def _count(out: Assembly, at: int) -> None:
    """One packet of the length in r2, at an offset of the counts in r4."""
    out.put(op.LDX_DW, 3, 4, at + PACKETS)
    out.put(op.ADD64_IMM, 3, 0, 0, 1)
    out.put(op.STX_DW, 4, 3, at + PACKETS)
    out.put(op.LDX_DW, 3, 4, at + BYTES)
    out.put(op.ADD64_REG, 3, 2)
    out.put(op.STX_DW, 4, 3, at + BYTES)


def _count_verdict(out: Assembly) -> None:
    """The same in row 0, by the code in r0."""
    out.put(op.MOV64_REG, 3, 0)
    out.put(op.JLE_IMM, 3, 0, 1, OTHER - 1)
    out.put(op.MOV64_IMM, 3, 0, 0, OTHER)
    out.put(op.MUL64_IMM, 3, 0, 0, COUNT_SIZE)
    out.put(op.ADD64_REG, 4, 3)
    _count(out, 0)


def _jump_by(distance: int) -> Instruction:
    if distance < 1 << 15:
        return Instruction(op.GOTO, 0, 0, distance, 0)
    return Instruction(op.GOTOL, 0, 0, 0, distance)


def _is_tail_call(instruction: Instruction) -> bool:
    return (instruction.code, instruction.source, instruction.immediate) == (
        op.CALL,
        op.CALL_HELPER,
        Helper.TAIL_CALL,
    )
