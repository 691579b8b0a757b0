# SPDX-License-Identifier: Apache-2.0
"""The requirements on a component's main function, without a kernel."""

from __future__ import annotations

from xdpchain.bytecode.instructions import Instruction
from xdpchain.bytecode.main_function import main_length, main_stack, own_tail_calls

EXIT = Instruction(0x95, 0, 0, 0, 0)
PASS = Instruction(0xB7, 0, 0, 0, 2)
TAIL_CALL = Instruction(0x85, 0, 0, 0, 12)
STORE_AT_24 = Instruction(0x7B, 10, 1, -24, 0)


def code(*lines: Instruction) -> bytes:
    return b"".join(line.encode() for line in lines)


def call(distance: int) -> Instruction:
    return Instruction(0x85, 0, 1, 0, distance)


def test_tail_calls_of_the_main_function_are_seen() -> None:
    assert own_tail_calls(code(TAIL_CALL, PASS, EXIT))
    assert not own_tail_calls(code(call(1), EXIT, TAIL_CALL, PASS, EXIT)), "in a function they come back"
    assert main_length(code(call(1), EXIT, PASS, EXIT)) == 2


def test_its_stack_is_what_it_touches_if_the_verifier_left_that_out() -> None:
    assert main_stack(code(STORE_AT_24, PASS, EXIT), 8) == 24
    assert main_stack(code(STORE_AT_24, PASS, EXIT), 100) == 100
