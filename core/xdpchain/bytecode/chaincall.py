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

from collections.abc import Iterable
from dataclasses import dataclass

from xdpchain.errors import InvalidInput
from xdpchain.model.actions import Action
from xdpchain.model.routes import CODES, OTHER

from .instructions import (
    CALL,
    LOAD_64,
    PSEUDO_CALL,
    PSEUDO_MAP_FD,
    SIZE,
    Instruction,
    base_register,
    function_starts,
    instructions,
    names_function,
)

__all__ = [
    "NEXT",
    "ROWS",
    "UNREPLACED",
    "Counting",
    "Epilogue",
    "end_of_chain",
    "main_length",
    "main_stack",
    "own_tail_calls",
    "woven",
    "wrapped",
]

UNREPLACED = 31
"""The code that a stub of libxdp's dispatcher returns; every chain goes on after it."""

NEXT = CODES
"""The row of code 31, after those of the actions and that of any other code (`routes.OTHER`)."""

ROWS = CODES + 1

TAIL_CALL, LOOKUP, PROCESSOR_ID = 12, 1, 8
BUFFER_LENGTH = 188  # bpf_xdp_get_buff_len(), kernel 5.18

EXIT = 0x95
JUMP, JUMP_FAR = 0x05, 0x06  # the second has an offset of 32 bits (kernel 6.6)
JUMP_EQUAL, JUMP_AT_MOST = 0x15, 0xB5
JUMP_UNEQUAL_32 = 0x56  # of the lower halves of registers (kernel 5.1)
MOVE, SET = 0xBF, 0xB7
ADD, ADD_CONSTANT, SUBTRACT, MULTIPLY_CONSTANT = 0x0F, 0x07, 0x1F, 0x27
LOAD_WORD, LOAD = 0x61, 0x79
STORE_WORD, STORE = 0x63, 0x7B

FRAME = 10
STACK = 512
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


def own_tail_calls(code: bytes) -> bool:
    """Whether a component's main function makes tail calls: such a component has to be `wrapped`."""
    end = main_length(code)
    return any(at < end and _is_tail_call(one) for at, one in instructions(code))


def main_stack(code: bytes, depth: int) -> int:
    """Bytes of stack of a component's main function; ``depth`` is what the verifier said."""
    # It leaves out what it optimised away (spills around bpf_fastcall functions), and may not do so again.
    end = main_length(code)
    touched = (-one.offset for at, one in instructions(code) if at < end and base_register(one) == FRAME)
    return max(depth, *touched, 0)


def woven(code: bytes, depth: int, after: Epilogue) -> tuple[bytes, int]:
    """The component with its exits rewritten, and by how many instructions its other functions moved.

    ``code`` has this process's map descriptors; ``depth`` is the stack of its main function in bytes. Raises
    InvalidInput if that leaves no room for the context.
    """
    context = -_context(main_stack(code, depth), after.counting)
    if -context > STACK:
        raise InvalidInput(f"its main function uses {depth} bytes of stack")
    lines = [Instruction.decode(code, at) for at in range(len(code) // SIZE)]
    end = main_length(code)
    epilogue = _epilogue(after, context)
    moved = 1 + len(epilogue)
    out = [Instruction(STORE, FRAME, 1, context, 0)]
    for at in range(end):
        one = lines[at]
        if one.code == EXIT:
            one = _jump_by(end - at - 1)
        elif names_function(one):
            one = one._replace(immediate=one.immediate + len(epilogue))
        out.append(one)
    out += epilogue
    out += lines[end:]
    return _encode(out), moved


def wrapped(code: bytes, after: Epilogue) -> tuple[bytes, int]:
    """The component called by a main function of ours, and the index at which it then begins."""
    context = -_context(0, after.counting)
    epilogue = _epilogue(after, context)
    start = 2 + len(epilogue)
    main = [Instruction(STORE, FRAME, 1, context, 0), Instruction(CALL, 0, PSEUDO_CALL, 0, start - 2)]
    return _encode(main + epilogue) + code, start


def end_of_chain(counting: Counting | None) -> bytes:
    """The program that a last slot hands on to: it counts XDP_PASS as the verdict, and returns it."""
    out = _Assembly()
    if counting is not None:
        context = -_context(0, counting)
        out.put(STORE, FRAME, 1, context)
        out.put(SET, 0, 0, 0, Action.PASS)
        _find_counts(out, counting, context)
        _count(out, Action.PASS * COUNT_SIZE)
    out.put(SET, 0, 0, 0, Action.PASS)
    out.label("out")
    out.put(EXIT)
    return _encode(out.lines())


def _context(depth: int, counting: Counting | None) -> int:
    """How far below the frame pointer the context is kept."""
    return max(-(-depth // 8) * 8, -LENGTH if counting else -CODE) + 8


def _epilogue(after: Epilogue, context: int) -> list[Instruction]:
    """The code in r0, the context at ``context`` of the stack: count, then go on or return the code.

    Of r0 the lower half is the code: it is an unsigned int, to the kernel as to any dispatcher. Registers 6
    to 9 are left alone, for each that a program uses costs it a push and a pop.
    """
    out, counting = _Assembly(), after.counting
    if counting is not None:
        _find_counts(out, counting, context)
        out.put(LOAD_WORD, 0, FRAME, CODE)
    for code in ORDER:
        out.jump(f"not {code}", JUMP_UNEQUAL_32, 0, code)
        if counting is not None:
            _count(out, counting.row * counting.row_size + min(code, OTHER) * COUNT_SIZE)
        if not (after.last and code == Action.PASS):
            row = NEXT if code == UNREPLACED else code
            _tail_call(out, after.array, row, context)
        out.put(SET, 0, 0, 0, code)  # the row is empty
        out.jump("verdict")
        out.label(f"not {code}")
    if counting is not None:
        _count(out, counting.row * counting.row_size + OTHER * COUNT_SIZE)
    else:
        out.put(STORE_WORD, FRAME, 0, CODE)
    _tail_call(out, after.array, OTHER, context)
    out.put(LOAD_WORD, 0, FRAME, CODE)
    out.label("verdict")
    if counting is not None:
        out.put(LOAD, 4, FRAME, COUNTS)
        out.put(LOAD, 2, FRAME, LENGTH)
        _count_verdict(out)
    out.label("out")
    out.put(EXIT)
    return out.lines()


def _tail_call(out: _Assembly, array: int, row: int, context: int) -> None:
    out.put(LOAD, 1, FRAME, context)
    out.map(2, array)
    out.put(SET, 3, 0, 0, row)
    out.put(CALL, 0, 0, 0, TAIL_CALL)


def _find_counts(out: _Assembly, counting: Counting, context: int) -> None:
    """From the code in r0: keep it, this CPU's counts and the packet's length; r4 has the counts, r2 the
    length.
    """
    out.put(STORE_WORD, FRAME, 0, CODE)
    out.put(CALL, 0, 0, 0, PROCESSOR_ID)
    out.put(STORE_WORD, FRAME, 0, CPU)
    out.map(1, counting.map)
    out.put(MOVE, 2, FRAME)
    out.put(ADD_CONSTANT, 2, 0, 0, CPU)
    out.put(CALL, 0, 0, 0, LOOKUP)
    out.jump("out", JUMP_EQUAL, 0, 0)  # never: every CPU has an element, but the verifier does not know
    out.put(STORE, FRAME, 0, COUNTS)
    out.put(LOAD, 1, FRAME, context)
    if counting.frags:
        out.put(CALL, 0, 0, 0, BUFFER_LENGTH)
        out.put(MOVE, 2, 0)
        out.put(LOAD, 4, FRAME, COUNTS)
    else:
        out.put(MOVE, 4, 0)
        out.put(LOAD_WORD, 2, 1, DATA_END)
        out.put(LOAD_WORD, 3, 1, DATA)
        out.put(SUBTRACT, 2, 3)
    out.put(STORE, FRAME, 2, LENGTH)


def _count(out: _Assembly, at: int) -> None:
    """One packet of the length in r2, at an offset of the counts in r4."""
    out.put(LOAD, 3, 4, at + PACKETS)
    out.put(ADD_CONSTANT, 3, 0, 0, 1)
    out.put(STORE, 4, 3, at + PACKETS)
    out.put(LOAD, 3, 4, at + BYTES)
    out.put(ADD, 3, 2)
    out.put(STORE, 4, 3, at + BYTES)


def _count_verdict(out: _Assembly) -> None:
    """The same in row 0, by the code in r0."""
    out.put(MOVE, 3, 0)
    out.put(JUMP_AT_MOST, 3, 0, 1, OTHER - 1)
    out.put(SET, 3, 0, 0, OTHER)
    out.put(MULTIPLY_CONSTANT, 3, 0, 0, COUNT_SIZE)
    out.put(ADD, 4, 3)
    _count(out, 0)


class _Assembly:
    """Instructions in the making, with jumps to labels that may come later."""

    def __init__(self) -> None:
        self._lines: list[Instruction] = []
        self._jumps: list[tuple[int, str]] = []
        self._labels: dict[str, int] = {}

    def put(self, code: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> None:
        self._lines.append(Instruction(code, target, source, offset, immediate))

    def map(self, register: int, descriptor: int) -> None:
        self.put(LOAD_64, register, PSEUDO_MAP_FD, 0, descriptor)
        self.put(0)

    def jump(self, label: str, code: int = JUMP, target: int = 0, immediate: int = 0) -> None:
        self._jumps.append((len(self._lines), label))
        self.put(code, target, 0, 0, immediate)

    def label(self, name: str) -> None:
        self._labels[name] = len(self._lines)

    def lines(self) -> list[Instruction]:
        for at, label in self._jumps:
            self._lines[at] = self._lines[at]._replace(offset=self._labels[label] - at - 1)
        return self._lines


def _encode(lines: Iterable[Instruction]) -> bytes:
    return b"".join(one.encode() for one in lines)


def _jump_by(distance: int) -> Instruction:
    if distance < 1 << 15:
        return Instruction(JUMP, 0, 0, distance, 0)
    return Instruction(JUMP_FAR, 0, 0, 0, distance)


def _is_tail_call(one: Instruction) -> bool:
    return (one.code, one.source, one.immediate) == (CALL, 0, TAIL_CALL)
