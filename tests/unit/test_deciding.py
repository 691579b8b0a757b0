# SPDX-License-Identifier: Apache-2.0
"""Deciding edges of programs small enough to see them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.programs import programs
from xdpchain.bytecode import deciding
from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.assembler import Assembly
from xdpchain.bytecode.code_values import Called, Source
from xdpchain.bytecode.deciding import Edge, decisions
from xdpchain.bytecode.instructions import Instruction
from xdpchain.errors import InvalidInput

ABORTED, DROP, PASS, TX = 0, 1, 2, 3


def set_to(out: Assembly, register: int, value: int) -> None:
    out.put(op.MOV64_IMM, register, immediate=value)


def test_the_branch_decides_and_not_where_the_constant_is_set() -> None:
    out = Assembly()
    set_to(out, 0, PASS)  # 0: hoisted
    out.jump("out", op.JEQ_IMM, 1, 5)  # 1
    set_to(out, 0, DROP)  # 2
    out.label("out")
    out.put(op.EXIT)
    found = decisions(out.image())
    assert found.edges == {Edge(1, 3): {PASS}, Edge(1, 2): {DROP}}
    assert found.last == found.edges
    assert found.undecided == frozenset()
    assert found.sets == {(Edge(1, 2), DROP): {2}}


def test_one_code_is_not_decided_by_any_edge() -> None:
    out = Assembly()
    out.jump("out", op.JEQ_IMM, 1, 5)
    out.put(op.ST_B, op.FRAME, 0, -1, 1)
    out.label("out")
    set_to(out, 0, PASS)
    out.put(op.EXIT)
    found = decisions(out.image())
    assert (found.edges, found.undecided) == ({}, {PASS})
    assert found.sets == {(None, PASS): {2}}


def test_a_common_tail_returns_a_variable_from_the_stack() -> None:
    """As in xdp-filter: the verdict is kept while a lookup that can't fail comes in between."""
    out = Assembly()
    out.put(op.ST_DW, op.FRAME, 0, -16, PASS)  # 0
    out.jump("tail", op.JEQ_IMM, 1, 5)  # 1
    out.put(op.ST_DW, op.FRAME, 0, -16, DROP)  # 2
    out.label("tail")
    out.put(op.MOV64_REG, 2, op.FRAME)  # 3
    out.put(op.ADD64_IMM, 2, immediate=-4)
    set_to(out, 0, ABORTED)  # 5
    out.jump("out", op.JEQ_IMM, 2, 0)  # 6
    out.put(op.LDX_DW, 0, op.FRAME, -16)
    out.label("out")
    out.put(op.EXIT)
    found = decisions(out.image())
    assert found.edges == {Edge(1, 3): {PASS}, Edge(1, 2): {DROP}, Edge(6, 8): {ABORTED}}


@pytest.mark.parametrize(
    ("helper", "expected"),
    [(op.Helper.FIB_LOOKUP, Source.COMPUTED), (op.Helper.MAP_LOOKUP_ELEM, PASS)],
)
def test_a_slot_that_is_written_through_a_pointer_is_not_trusted(helper: int, expected: int | Source) -> None:
    out = Assembly()
    out.put(op.ST_DW, op.FRAME, 0, -8, PASS)
    out.put(op.MOV64_REG, 2, op.FRAME)
    out.put(op.ADD64_IMM, 2, immediate=-8)
    out.put(op.CALL, immediate=helper)
    out.put(op.LDX_DW, 0, op.FRAME, -8)
    out.put(op.EXIT)
    assert decisions(out.image()).undecided == {expected}


def test_slots_that_overlap_change_one_another() -> None:
    out = Assembly()
    out.put(op.ST_DW, op.FRAME, 0, -8, PASS)
    out.put(op.ST_B, op.FRAME, 0, -5, 1)
    out.put(op.LDX_DW, 0, op.FRAME, -8)
    out.put(op.EXIT)
    assert decisions(out.image()).undecided == {Source.COMPUTED}


def test_functions_are_followed_and_each_call_by_itself() -> None:
    out = Assembly()
    out.jump("second", op.JEQ_IMM, 6, 5)  # 0
    set_to(out, 1, DROP)  # 1
    out.refer("f", Instruction(op.CALL, 0, op.CALL_FUNCTION, 0, 0))
    out.put(op.EXIT)
    out.label("second")
    set_to(out, 1, TX)  # 4
    out.refer("f", Instruction(op.CALL, 0, op.CALL_FUNCTION, 0, 0))
    out.put(op.EXIT)
    out.label("f")
    out.put(op.MOV32_REG, 0, 1)
    out.put(op.EXIT)
    assert decisions(out.image()).edges == {Edge(0, 1): {DROP}, Edge(0, 4): {TX}}
    alone = decisions(out.image(), calls=False)
    assert (alone.edges, alone.undecided) == ({}, {Source.COMPUTED})


def test_edges_within_functions_decide() -> None:
    out = Assembly()
    out.refer("f", Instruction(op.CALL, 0, op.CALL_FUNCTION, 0, 0))
    out.put(op.EXIT)
    out.label("f")
    set_to(out, 0, DROP)  # 2
    out.jump("out", op.JEQ_IMM, 1, 7)  # 3
    set_to(out, 0, PASS)  # 4
    out.label("out")
    out.put(op.EXIT)  # 5
    assert decisions(out.image()).edges == {Edge(3, 5): {DROP}, Edge(3, 4): {PASS}}


def test_what_a_helper_or_another_program_says() -> None:
    out = Assembly()
    out.jump("tail", op.JEQ_IMM, 1, 5)  # 0
    out.put(op.CALL, immediate=op.Helper.REDIRECT)  # 1
    out.put(op.EXIT)
    out.label("tail")
    out.put(op.CALL, immediate=op.Helper.TAIL_CALL)  # 3
    set_to(out, 0, PASS)
    out.put(op.EXIT)
    found = decisions(out.image())
    assert found.edges[Edge(0, 1)] == {Called(op.Helper.REDIRECT)}
    assert found.edges[Edge(3, 4)] == {PASS}, "the tail call fell through"


def test_an_edge_that_others_pass_too_says_which_codes_can_follow() -> None:
    out = Assembly()
    set_to(out, 6, PASS)  # 0
    out.jump("tail", op.JEQ_IMM, 1, 5)  # 1: decides PASS, whichever way it goes
    out.jump("tail", op.JEQ_IMM, 1, 6)
    set_to(out, 6, DROP)  # 3
    out.label("tail")
    out.jump("rest", op.JEQ_IMM, 2, 5)  # 4
    out.put(op.ST_B, op.FRAME, 0, -1, 1)
    out.label("rest")
    out.put(op.MOV64_REG, 0, 6)
    out.put(op.EXIT)
    found = decisions(out.image())
    assert found.edges == {Edge(1, 4): {PASS}, Edge(2, 4): {PASS}, Edge(2, 3): {DROP}}


def test_comparisons_tell_which_way_a_known_verdict_goes() -> None:
    out = Assembly()
    set_to(out, 6, PASS)  # 0
    out.jump("tail", op.JEQ_IMM, 1, 5)  # 1
    set_to(out, 6, DROP)
    out.label("tail")
    out.jump("rest", op.JNE_IMM, 6, DROP)  # 3
    set_to(out, 6, TX)
    out.label("rest")
    out.put(op.MOV64_REG, 0, 6)
    out.put(op.EXIT)
    assert decisions(out.image()).edges == {Edge(1, 3): {PASS}, Edge(1, 2): {TX}}


def many_ways(count: int) -> bytes:
    """Each of ``count`` branches leaves one of two values in its own slot; the code is one of these."""
    out = Assembly()
    for n in range(count):
        out.put(op.ST_DW, op.FRAME, 0, -8 * (n + 1), 0)
        out.jump(n, op.JEQ_IMM, 1, n)
        out.put(op.ST_DW, op.FRAME, 0, -8 * (n + 1), n % 2)
        out.label(n)
    set_to(out, 0, 0)
    for n in range(count):
        out.put(op.LDX_DW, 1, op.FRAME, -8 * (n + 1))
        out.put(op.JMP | op.JEQ | op.X, 0, 1, 1)
        out.put(op.MOV64_REG, 0, 1)
    out.put(op.EXIT)
    return out.image()


@pytest.mark.parametrize("count", [4, 40, 60])
def test_too_many_states_are_joined_and_never_given_up(count: int) -> None:
    found = decisions(many_ways(count))
    codes = {code for some in found.edges.values() for code in some} | found.undecided
    assert {DROP} <= codes
    assert codes <= {ABORTED, DROP}
    assert found.joined == (count > 4)
    assert deciding.MOST_STATES == 30_000


@settings(max_examples=60, deadline=None)
@given(programs(), st.data())
def test_whatever_the_instructions_are_there_is_an_answer(image: bytes, data: st.DataObject) -> None:
    damaged = bytearray(image)
    for _ in range(data.draw(st.integers(0, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidInput):
        found = decisions(bytes(damaged))
        assert all(found.edges.values())
        assert found.edges.keys() <= found.last.keys()
