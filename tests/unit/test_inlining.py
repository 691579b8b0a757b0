# SPDX-License-Identifier: Apache-2.0
"""Components moved into the dispatcher's main function: what becomes of jumps, registers, stack and calls."""

from __future__ import annotations

import pytest

from xdpchain.bytecode.inlining import inlined
from xdpchain.bytecode.instructions import Instruction, instructions

EXIT, CALL, JUMP, SET, MOVE, ADD = 0x95, 0x85, 0x05, 0xB7, 0xBF, 0x07
LOAD, STORE, ATOMIC_ADD = 0x79, 0x7B, 0xDB


def op(code: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> Instruction:
    return Instruction(code, target, source, offset, immediate)


def call(at: int, to: int) -> Instruction:
    return op(CALL, 0, 1, 0, to - at - 1)


def image(*lines: Instruction) -> bytes:
    return b"".join(line.encode() for line in lines)


def text(code: bytes) -> list[Instruction]:
    return [one for _, one in instructions(code)]


# 0: r6 = r1; call 4; r0 += r6; exit.  4: r6 = 1; r0 = 2; exit
MAIN = (op(MOVE, 6, 1), call(1, 4), op(0x0F, 0, 6), op(EXIT))
BODY = (op(SET, 6, 0, 0, 1), op(SET, 0, 0, 0, 2), op(EXIT))


def test_a_call_becomes_a_jump_and_exits_lead_back_with_the_registers_restored() -> None:
    done = inlined(image(*MAIN, *BODY), (0, 4), {4: 0})
    assert done is not None
    assert done.moved == {0: 0}
    assert text(done.image) == [
        op(MOVE, 6, 1),
        op(JUMP, 0, 0, 2),  # to 4
        op(0x0F, 0, 6),
        op(EXIT),
        op(STORE, 10, 6, -8),
        op(SET, 6, 0, 0, 1),
        op(SET, 0, 0, 0, 2),
        op(JUMP, 0, 0, 0),  # the exit: to 8
        op(LOAD, 6, 10, -8),
        op(JUMP, 0, 0, -8),  # back to 2
    ]


def test_registers_that_nobody_shares_are_not_saved() -> None:
    body = (op(SET, 7), op(SET, 0, 0, 0, 2), op(EXIT))
    done = inlined(image(*MAIN, *body), (0, 4), {4: 0})
    assert done is not None
    assert not [one for one in text(done.image) if one.code in (LOAD, STORE)]
    # An atomic operation gives the old value back in its source.
    fetching = (op(ATOMIC_ADD, 1, 6, 0, 1), op(SET, 0), op(EXIT))
    done = inlined(image(*MAIN, *fetching), (0, 4), {4: 0})
    assert done is not None
    assert [one.target for one in text(done.image) if one.code == LOAD] == [6]


def test_the_dispatchers_stack_moves_below_that_of_the_components() -> None:
    main = (
        op(STORE, 10, 1, -8), op(MOVE, 2, 10), op(SET, 3), op(ADD, 2, 0, 0, -16),
        call(4, 6), op(EXIT),
    )  # fmt: skip
    body = (op(STORE, 10, 1, -20), op(EXIT))
    done = inlined(image(*main, *body), (0, 6), {6: 20})
    assert done is not None
    lines = text(done.image)
    assert lines[0] == op(STORE, 10, 1, -8 - 24)
    assert lines[3] == op(ADD, 2, 0, 0, -16 - 24)
    assert op(STORE, 10, 1, -20) in lines, "the component's own stays where it was"


def test_calls_of_other_functions_follow_them() -> None:
    # main, the component, whose subprogram comes behind it, and another component that stays.
    main = (call(0, 4), call(1, 8), op(SET, 0), op(EXIT))
    first = (call(4, 6), op(EXIT))
    subprogram = (op(SET, 0, 0, 0, 1), op(EXIT))
    stays = (op(SET, 0, 0, 0, 2), op(EXIT))
    done = inlined(image(*main, *first, *subprogram, *stays), (0, 4, 6, 8), {4: 0})
    assert done is not None
    lines = text(done.image)
    assert lines[0].code == JUMP
    targets = {at + one.immediate + 1 for at, one in enumerate(lines) if one.code == CALL}
    assert targets == {done.moved[6], done.moved[8]}
    assert lines[done.moved[6]] == op(SET, 0, 0, 0, 1)
    assert lines[done.moved[8]] == op(SET, 0, 0, 0, 2)


@pytest.mark.parametrize(
    ("lines", "bodies"),
    [
        pytest.param((*MAIN, *BODY), {4: 512}, id="no room on the stack"),
        pytest.param((*MAIN, call(4, 4), op(EXIT)), {4: 0}, id="it calls itself"),
        pytest.param((*MAIN, *BODY), {4: 0, 5: 0}, id="nobody calls it"),
        pytest.param((call(0, 3), call(1, 3), op(EXIT), op(EXIT)), {3: 0}, id="called twice"),
        pytest.param((op(MOVE, 2, 10), *MAIN[1:], *BODY), {4: 0}, id="an address that is not understood"),
        pytest.param((*MAIN, *[op(SET, 0)] * 40000, op(EXIT)), {4: 0}, id="too far"),
    ],
)
def test_what_can_not_be_moved_is_left(lines: tuple[Instruction, ...], bodies: dict[int, int]) -> None:
    starts = {0, *bodies} | {at + one.immediate + 1 for at, one in enumerate(lines) if one.code == CALL}
    assert inlined(image(*lines), sorted(starts), bodies) is None
