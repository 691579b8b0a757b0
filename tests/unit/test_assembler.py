# SPDX-License-Identifier: Apache-2.0
"""The assembler: distances, and jumps too far for one instruction."""

from __future__ import annotations

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.assembler import REACH, Assembly
from xdpchain.bytecode.instructions import Instruction, decode, encode, jump_target, successors, whole

FILLER = Instruction(op.MOV64_IMM, 0, 0, 0, 0)


def test_decoding_and_encoding_are_each_others_inverse() -> None:
    image = bytes(range(1, 65))
    assert encode(decode(image)) == image
    assert decode(image) is decode(bytes(bytearray(image))), "decoded once for all who look"


def test_opcodes_are_those_of_the_instruction_set() -> None:
    assert (op.CALL, op.EXIT, op.GOTO, op.GOTOL, op.MAY_GOTO) == (0x85, 0x95, 0x05, 0x06, 0xE5)
    assert (op.LD_IMM64, op.LDX_W, op.LDX_DW, op.ST_W, op.STX_W, op.STX_DW) == (
        0x18, 0x61, 0x79, 0x62, 0x63, 0x7B,
    )  # fmt: skip
    assert (op.MOV64_IMM, op.MOV64_REG, op.MOV32_IMM, op.ADD64_IMM, op.JNE32_IMM) == (
        0xB7, 0xBF, 0xB4, 0x07, 0x56,
    )  # fmt: skip


def test_labels_may_come_before_or_after_their_use() -> None:
    out = Assembly()
    out.label("top")
    out.jump("end", op.JEQ_IMM, 1, 0xFFFFFFFF)
    out.jump("top")
    out.label("end")
    out.refer("top", Instruction(op.CALL, 0, op.CALL_FUNCTION, 0, 0))
    out.put(op.EXIT)
    lines = out.lines()
    assert lines[0] == Instruction(op.JEQ_IMM, 1, 0, 1, -1)
    assert lines[1] == Instruction(op.GOTO, 0, 0, -2, 0)
    assert lines[2].immediate == -3


def followed(lines: list[Instruction], at: int) -> int:
    """Where execution gets from there along unconditional jumps."""
    while op.is_goto(lines[at].code):
        at = jump_target(at, lines[at])
    return at


@pytest.mark.parametrize("gotol", [False, True])
@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@example(
    [
        (74, 21, True),
        (5, 54, False),
        (5, 59, True),
        (15, 79, True),
        (77, 62, True),
        (29, 55, True),
        (71, 0, True),
    ]
)  # one trampoline ends up right behind another
@given(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80), st.booleans()), min_size=1, max_size=30))
def test_jumps_reach_however_far_they_go(gotol: bool, jumps: list[tuple[int, int, bool]]) -> None:
    """Blocks of 1,000 instructions that end in jumps to the beginnings of others."""
    out, sources = Assembly(), {}
    by_block: dict[int, list[tuple[int, bool]]] = {}
    for source, target, conditional in jumps:
        by_block.setdefault(source, []).append((target, conditional))
    for block in range(81):
        out.label(block)
        out.put(op.MOV64_IMM, 1, immediate=block)
        out.add([FILLER] * 999)
        for target, conditional in by_block.get(block, ()):
            out.label(("from", block, target, conditional))
            sources[block, target, conditional] = None
            code = op.JEQ_IMM if conditional else op.JSET | op.JMP
            out.jump(target, code, 2, 7)
    out.put(op.EXIT)
    done = out.assemble(gotol=gotol)
    lines = list(done.lines)
    for block, target, conditional in sources:
        at = done.labels["from", block, target, conditional]
        assert abs(lines[at].offset) <= REACH
        assert followed(lines, jump_target(at, lines[at])) == done.labels[target]
        assert lines[done.labels[target]].immediate == target
    # Falling through reaches every block in order, and nothing is dead.
    at, met = 0, []
    while lines[at].code != op.EXIT:
        if lines[at].code == op.MOV64_IMM and lines[at].target == 1:
            met.append(lines[at].immediate)
        at = followed(lines, successors(at, lines[at])[0])
    assert met == list(range(81))
    reached, todo = set(), [0]
    while todo:
        at = todo.pop()
        if at not in reached:
            reached.add(at)
            todo += successors(at, lines[at])
    assert reached == {at for at, _ in whole(lines)}
    assert gotol or not any(line.code == op.GOTOL for line in lines)
