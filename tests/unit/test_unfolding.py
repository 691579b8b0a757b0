# SPDX-License-Identifier: Apache-2.0
"""An unfolded function does the same as before, and exits marked with a known code return that code."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.ebpf import run_filter
from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.assembler import Assembly
from xdpchain.bytecode.instructions import Instruction, encode
from xdpchain.bytecode.unfolding import Exit, Unfolded, lay_out, reads_context, unfold

MEMORY = 8
KEPT = (0, 6, 7)
EXIT = Instruction(op.EXIT, 0, 0, 0, 0)


def put(register: int, value: int) -> Instruction:
    return Instruction(op.MOV32_IMM, register, 0, 0, value)


def copy(register: int, source: int) -> Instruction:
    return Instruction(op.MOV32_REG, register, source, 0, 0)


def jump(code: int, register: int, value: int, over: int) -> Instruction:
    return Instruction(code, register, 0, over, value)


def load(register: int, at: int) -> Instruction:
    """A byte from where r1 points: its value is unknown."""
    return Instruction(op.LDX_B, register, 1, at, 0)


def helper(number: int) -> Instruction:
    return Instruction(op.CALL, 0, op.CALL_HELPER, 0, number)


def laid_out(unfolded: Unfolded) -> bytes:
    """With exits that return the known code, whatever is in r0."""
    out, codes = Assembly(), set()

    def exit_label(end: Exit) -> Hashable:
        codes.add(end.code)
        return "exit", end.code

    lay_out(unfolded, out, exit_label, lambda start: ("function", start), {})
    for code in codes:
        out.label(("exit", code))
        if code is not None:
            out.put(op.MOV32_IMM, 0, 0, 0, code)
        out.put(op.EXIT)
    return out.image()


@st.composite
def functions(draw: st.DrawFn) -> list[Instruction]:
    """Registers set, copied, spilled and compared; jumps only go forward."""
    length = draw(st.integers(1, 25))
    lines = [put(register, draw(st.integers(0, 4))) for register in KEPT]
    lines += [Instruction(op.ST_W, op.FRAME, 0, -4, draw(st.integers(0, 4)))]
    kinds = ("put", "copy", "load", "spill", "fill", "jump", "jump", "goto", "add", "exit")
    if draw(st.booleans()):
        lines.append(Instruction(op.MOV64_REG, 2, op.FRAME, 0, 0))
        kinds += ("through", "through")
    register, value = st.sampled_from(KEPT), st.sampled_from((0, 1, 2, 3, 31, -1))
    for at in range(length):
        left = length - at
        kind, target, other = draw(st.sampled_from(kinds)), draw(register), draw(register)
        if kind == "put":
            lines.append(put(target, draw(value)))
        elif kind == "copy":
            lines.append(copy(target, other))
        elif kind == "load":
            lines.append(load(target, draw(st.integers(0, MEMORY - 1))))
        elif kind == "spill":
            lines.append(Instruction(op.STX_W, op.FRAME, target, -4, 0))
        elif kind == "fill":
            lines.append(Instruction(op.LDX_W, target, op.FRAME, -4, 0))
        elif kind == "through":
            lines.append(Instruction(op.STX_W, 2, target, draw(st.sampled_from((-4, -8))), 0))
        elif kind == "jump":
            code = draw(st.sampled_from((op.JEQ, op.JNE, op.JGT))) | draw(st.sampled_from((op.JMP, op.JMP32)))
            lines.append(jump(code, target, draw(value) & 0x7FFFFFFF, draw(st.integers(0, left - 1))))
        elif kind == "goto":
            lines.append(jump(op.GOTO, 0, 0, draw(st.integers(0, left - 1))))
        elif kind == "add":
            lines.append(Instruction(op.ALU | op.ADD, target, 0, 0, draw(value)))
        else:
            lines.append(EXIT)
    return [*lines, EXIT]


# A hoisted default, and two verdicts that meet before one exit.
HOISTED = [put(6, 2), load(7, 0), put(0, 0), jump(op.JEQ_IMM, 7, 9, 1), put(6, 1), copy(0, 6), EXIT]
# The code is compared before it is returned: both branches tell something, one of them everything.
COMPARED = [load(0, 0), jump(op.JNE32_IMM, 0, 3, 1), EXIT, put(0, 1), EXIT]


@given(functions(), st.binary(min_size=MEMORY, max_size=MEMORY), st.sampled_from((0, 3, 1 << 30)))
@example(HOISTED, b"\t" + bytes(7), 1 << 30)
@example(COMPARED, b"\3" + bytes(7), 1 << 30)
@settings(max_examples=300, deadline=None)
def test_it_does_what_it_did(lines: list[Instruction], memory: bytes, reach: int) -> None:
    unfolded = unfold(lines, reach=reach)
    code = run_filter(encode(lines), memory) & 0xFFFFFFFF
    assert run_filter(laid_out(unfolded), memory) & 0xFFFFFFFF == code
    assert None in unfolded.codes or code in unfolded.codes


def codes(*lines: Instruction) -> frozenset[int | None]:
    return unfold(lines).codes


def test_codes_are_known_through_copies_the_stack_and_comparisons() -> None:
    assert codes(*HOISTED) == {1, 2}
    assert codes(*COMPARED) == {1, 3}
    fill = Instruction(op.LDX_W, 0, op.FRAME, -4, 0)
    spill = Instruction(op.STX_W, op.FRAME, 6, -4, 0)
    assert codes(put(6, 2), spill, put(6, 1), fill, EXIT) == {2}
    # What overlaps it, or may be written through a pointer, is unknown.
    assert codes(put(6, 2), spill, Instruction(op.ST_B, op.FRAME, 0, -2, 0), fill, EXIT) == {None}
    pointer = Instruction(op.MOV64_REG, 2, op.FRAME, 0, 0)
    further = Instruction(op.ALU64 | op.ADD, 2, 0, 0, -4)
    through = Instruction(op.STX_W, 2, 7, 0, 0)
    assert codes(pointer, put(6, 2), spill, through, fill, EXIT) == {None}
    assert codes(pointer, put(6, 2), spill, Instruction(op.STX_DW, 1, 2, 0, 0), fill, EXIT) == {None}
    key = (put(6, 2), spill, pointer, further)
    assert codes(*key, helper(op.Helper.MAP_LOOKUP_ELEM), fill, EXIT) == {2}, "it reads its key"
    assert codes(*key, helper(op.Helper.FIB_LOOKUP), fill, EXIT) == {None}
    assert codes(*key, Instruction(op.CALL, 0, op.CALL_FUNCTION, 0, 1), fill, EXIT) == {None}
    assert codes(*key, helper(op.Helper.KTIME_GET_NS), helper(op.Helper.FIB_LOOKUP), fill, EXIT) == {None}
    elsewhere = (*key, put(2, 0), helper(op.Helper.FIB_LOOKUP), fill, EXIT)
    assert codes(*elsewhere) == {2}, "no pointer is given to it"
    kept = (*key, Instruction(op.MOV64_REG, 8, 2, 0, 0), helper(op.Helper.MAP_LOOKUP_ELEM))
    assert codes(*kept, fill, EXIT) == {2}
    assert codes(*kept, Instruction(op.STX_W, 8, 7, 0, 0), fill, EXIT) == {None}
    call = helper(op.Helper.KTIME_GET_NS)
    assert codes(put(0, 2), call, EXIT) == {None}
    assert codes(put(6, 2), call, copy(0, 6), EXIT) == {2}
    atomic = Instruction(op.STX | op.ATOMIC | op.W, 1, 0, 0, op.CMPXCHG)
    assert codes(put(0, 2), atomic, EXIT) == {None}


def test_a_loop_is_laid_out_once_where_nothing_is_known() -> None:
    """10 times: r6 is counted down, and its value is not tracked."""
    lines = [
        put(6, 10),
        put(0, 2),
        Instruction(op.ALU | op.ADD, 6, 0, 0, -1),
        jump(op.JNE | op.JMP, 6, 0, -2),
        EXIT,
    ]
    unfolded = unfold(lines)
    assert unfolded.codes == {2}
    assert run_filter(laid_out(unfolded), bytes(MEMORY)) == 2
    assert len(unfolded.ways) == len(lines)


def test_too_many_copies_are_not_made() -> None:
    """Twelve verdicts kept in registers for a hundred instructions."""
    choice: list[Instruction] = [put(6, 0)]
    for index in range(12):
        choice += [load(7, index % MEMORY), jump(op.JEQ_IMM, 7, index, 1), put(6, index)]
    lines = [*choice, *[load(7, 0)] * 100, copy(0, 6), EXIT]
    unfolded = unfold(lines)
    assert len(unfolded.ways) <= 3 * len(lines) + 100
    assert run_filter(laid_out(unfolded), bytes(MEMORY)) == run_filter(encode(lines), bytes(MEMORY))


def reads(*lines: Instruction) -> bool:
    return reads_context(lines)


def test_who_reads_the_context() -> None:
    assert not reads(put(0, 2), EXIT)
    assert not reads(put(1, 2), copy(0, 1), EXIT)
    assert reads(load(0, 0), EXIT)
    assert reads(Instruction(op.MOV64_REG, 6, 1, 0, 0), put(0, 2), EXIT)
    assert reads(jump(op.JEQ_IMM, 0, 1, 1), put(1, 2), load(0, 0), EXIT)
    assert reads(Instruction(op.CALL, 0, op.CALL_HELPER, 0, 5), EXIT), "it may be an argument"


def kept(*lines: Instruction) -> set[int | None]:
    unfolded = unfold([*lines, EXIT])
    return {unfolded.context.get(end) for end in unfolded.exits}


def test_which_register_still_has_the_context() -> None:
    whole = Instruction(op.MOV64_REG, 6, 1, 0, 0)
    assert kept(put(0, 2)) == {1}
    assert kept(put(1, 2)) == {None}
    assert kept(helper(5)) == {None}
    assert kept(Instruction(op.CALL, 0, op.CALL_FUNCTION, 0, 1), EXIT) == {None}
    assert kept(whole, helper(5)) == {6}
    assert kept(copy(6, 1), helper(5)) == {None}, "half of it"
    assert kept(whole, helper(5), Instruction(op.MOV64_REG, 2, 6, 0, 0), put(6, 1)) == {2}
    assert kept(whole, load(6, 0)) == {1}
    exchange = Instruction(op.STX | op.ATOMIC | op.DW, op.FRAME, 1, -8, 0xE1)
    assert kept(exchange) == {None}
    # One of two paths to the same exit overwrites it.
    assert kept(whole, put(0, 2), jump(op.JEQ_IMM, 2, 0, 1), put(1, 0)) == {6}
    assert kept(put(0, 2), jump(op.JEQ_IMM, 2, 0, 1), put(1, 0)) == {None}
    # In a loop.
    assert kept(put(0, 2), jump(op.JEQ_IMM, 2, 0, 2), put(1, 0), jump(op.GOTO, 0, 0, -3)) == {None}
