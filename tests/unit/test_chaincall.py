# SPDX-License-Identifier: Apache-2.0
"""The chain call's instructions: what becomes of a component's own, without a kernel."""

from __future__ import annotations

import itertools
import struct

import pytest

from xdpchain.bytecode.chaincall import (
    Counting,
    Epilogue,
    end_of_chain,
    main_length,
    main_stack,
    own_tail_calls,
    woven,
    wrapped,
)
from xdpchain.bytecode.instructions import SIZE, Instruction, instructions
from xdpchain.errors import InvalidInput
from xdpchain.model.routes import ROWS

EXIT = Instruction(0x95, 0, 0, 0, 0)
PASS = Instruction(0xB7, 0, 0, 0, 2)
TAIL_CALL = Instruction(0x85, 0, 0, 0, 12)
STORE_AT_24 = Instruction(0x7B, 10, 1, -24, 0)
AFTER = Epilogue(7)
COUNTED = Epilogue(7, Counting(8, 1, 96, False))


def code(*lines: Instruction) -> bytes:
    return b"".join(line.encode() for line in lines)


def call(distance: int) -> Instruction:
    return Instruction(0x85, 0, 1, 0, distance)


def decoded(image: bytes) -> dict[int, Instruction]:
    return dict(instructions(image))


@pytest.mark.parametrize("after", [AFTER, COUNTED, Epilogue(7, last=True)])
def test_exits_of_the_main_function_lead_to_the_epilogue(after: Epilogue) -> None:
    image, moved = woven(code(PASS, EXIT, PASS, EXIT), 0, after)
    lines = decoded(image)
    assert lines[0].encode() == Instruction(0x7B, 10, 1, lines[0].offset, 0).encode(), "keeps the context"
    assert moved == len(image) // SIZE - 4
    for at in (2, 4):
        assert lines[at].code == 0x05
        assert at + 1 + lines[at].offset == 5, "the epilogue begins after what was there"
    assert [at for at, instruction in lines.items() if instruction.code == 0x95] == [len(image) // SIZE - 1]


def test_functions_are_left_as_they_are_and_still_called() -> None:
    # main: call f; exit.  f: call g; exit.  g: r0 = 2; exit.
    image, moved = woven(code(call(1), EXIT, call(1), EXIT, PASS, EXIT), 0, AFTER)
    lines = decoded(image)
    assert 1 + 1 + lines[1].immediate == 2 + moved
    assert image[(2 + moved) * SIZE :] == code(call(1), EXIT, PASS, EXIT)


def test_addresses_of_callbacks_follow_them() -> None:
    callback = struct.pack("=BBhiBBhi", 0x18, 2 | 4 << 4, 0, 3, 0, 0, 0, 0)
    image, moved = woven(callback + code(PASS, EXIT, PASS, EXIT), 0, AFTER)
    instruction = decoded(image)[1]
    assert (instruction.code, 1 + 1 + instruction.immediate) == (0x18, 4 + moved)


def test_far_exits_jump_far() -> None:
    image, _ = woven(code(PASS, EXIT, *[PASS] * 40_000, EXIT), 0, AFTER)
    lines = decoded(image)
    assert (lines[2].code, lines[2].offset, lines[2].immediate) == (0x06, 0, 40_001)
    assert (lines[40_003].code, lines[40_003].offset) == (0x05, 0)


def test_the_context_lies_below_what_the_component_uses() -> None:
    for depth, counted, expected in [(0, False, -16), (0, True, -32), (24, True, -32), (100, False, -112)]:
        image, _ = woven(code(PASS, EXIT), depth, COUNTED if counted else AFTER)
        assert decoded(image)[0].offset == expected
    assert main_stack(code(STORE_AT_24, PASS, EXIT), 8) == 24, "what the verifier left out counts as well"
    with pytest.raises(InvalidInput, match="512 bytes"):
        woven(code(PASS, EXIT), 512, AFTER)
    woven(code(PASS, EXIT), 504, AFTER)


def test_every_row_has_one_tail_call_with_a_key_of_its_own() -> None:
    for after, left_out in ((AFTER, set()), (COUNTED, set()), (Epilogue(7, last=True), {2})):
        lines = list(instructions(woven(code(PASS, EXIT), 0, after)[0]))
        keys = [
            before.immediate
            for (_, before), (_, instruction) in itertools.pairwise(lines)
            if instruction == TAIL_CALL
        ]
        assert sorted(keys) == sorted(set(range(ROWS)) - left_out)


def test_tail_calls_of_the_main_function_are_seen() -> None:
    assert own_tail_calls(code(TAIL_CALL, PASS, EXIT))
    assert not own_tail_calls(code(call(1), EXIT, TAIL_CALL, PASS, EXIT)), "in a function they come back"
    assert main_length(code(call(1), EXIT, PASS, EXIT)) == 2


def test_a_wrapped_component_is_called_and_unchanged() -> None:
    component = code(TAIL_CALL, PASS, EXIT)
    image, start = wrapped(component, COUNTED)
    assert image[start * SIZE :] == component
    instruction = decoded(image)[1]
    assert (instruction.code, instruction.source, 2 + instruction.immediate) == (0x85, 1, start)


def test_the_end_of_a_chain_returns_pass() -> None:
    assert end_of_chain(None) == code(PASS, EXIT)
    assert list(instructions(end_of_chain(COUNTED.counting)))[-2:][0][1] == PASS
