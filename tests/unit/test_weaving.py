# SPDX-License-Identifier: Apache-2.0
"""Inserting instructions into programs: references to a place move along."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.programs import programs
from xdpchain.bytecode import opcodes as op
from xdpchain.bytecode.assembler import Assembly
from xdpchain.bytecode.flow_graph import flow_of
from xdpchain.bytecode.instructions import Instruction, decode, encode, jump_target, names_function, whole
from xdpchain.bytecode.linkable_program import LinkableProgram
from xdpchain.bytecode.weaving import At, LineRecord, Weave, complete_lines
from xdpchain.errors import InvalidInput

EXIT = Instruction(op.EXIT, 0, 0, 0, 0)


def fragment(*lines: Instruction) -> Assembly:
    out = Assembly()
    out.add(lines)
    return out


def mark(value: int) -> Assembly:
    return fragment(Instruction(op.ST_W, op.FRAME, 0, -512, value))


def image(*lines: Instruction) -> bytes:
    return encode(lines)


@settings(max_examples=60, deadline=None)
@given(programs())
def test_an_insertion_of_nothing_is_the_identity(code: bytes) -> None:
    woven = Weave(flow_of(code)).finish()
    assert woven.image == code
    assert woven.entries == woven.moved == tuple(range(len(code) // 8 + 1))


@settings(max_examples=40, deadline=None)
@given(programs(), st.data())
def test_without_what_was_put_in_the_program_is_the_same(code: bytes, data: st.DataObject) -> None:
    graph = flow_of(code)
    weave = Weave(graph)
    places = data.draw(st.sets(st.sampled_from([at for at, _ in whole(graph.lines)])))
    for at in places:
        weave.before(at, mark(at))
    woven = weave.finish()
    for at, line in whole(graph.lines):
        new = woven.lines[woven.moved[at]]
        assert (new.code, new.target, new.source) == (line.code, line.target, line.source)
        if op.is_jump(line.code):
            assert jump_target(woven.moved[at], new) == woven.entries[jump_target(at, line)]
        elif names_function(line):
            assert woven.moved[at] + new.immediate + 1 == woven.entries[at + line.immediate + 1]
        else:
            assert new == line
        assert (woven.entries[at] < woven.moved[at]) == (at in places)


# 0: if r1 == 5 goto 3; 1: r0 = 1; 2: exit; 3: r0 = 2; 4: exit
BRANCH = image(
    Instruction(op.JEQ_IMM, 1, 0, 2, 5), Instruction(op.MOV64_IMM, 0, 0, 0, 1), EXIT,
    Instruction(op.MOV64_IMM, 0, 0, 0, 2), EXIT,
)  # fmt: skip


def test_an_edge_is_passed_by_those_alone_who_go_that_way() -> None:
    weave = Weave(flow_of(BRANCH))
    weave.on_edge(0, 3, mark(7))
    weave.on_edge(0, 1, mark(8))
    lines = weave.finish().lines
    assert lines[1] == Instruction(op.ST_W, 10, 0, -512, 8), "behind the branch"
    pad = jump_target(0, lines[0])
    assert lines[pad] == Instruction(op.ST_W, 10, 0, -512, 7)
    assert lines[jump_target(pad + 1, lines[pad + 1])] == Instruction(op.MOV64_IMM, 0, 0, 0, 2)
    with pytest.raises(InvalidInput, match="no way leads"):
        weave.on_edge(0, 4, mark(9))


def test_a_functions_entry_is_passed_once_a_call() -> None:
    # 0: call 3; 1: if r0 == 5 goto 0; 2: exit; 3: r0 += 1; 4: if r0 == 5 goto 3; 5: exit
    code = image(
        Instruction(op.CALL, 0, op.CALL_FUNCTION, 0, 2), Instruction(op.JEQ_IMM, 0, 0, -2, 5), EXIT,
        Instruction(op.ADD64_IMM, 0, 0, 0, 1), Instruction(op.JEQ_IMM, 0, 0, -2, 5), EXIT,
    )  # fmt: skip
    weave = Weave(flow_of(code))
    weave.at_entry(0, mark(1))
    weave.at_entry(3, mark(2))
    woven = weave.finish()
    assert jump_target(2, woven.lines[2]) == 1
    assert 1 + woven.lines[1].immediate + 1 == 4
    assert woven.lines[4].immediate == 2
    assert jump_target(6, woven.lines[6]) == 5
    assert woven.functions([(0, 1), (3, 2)]) == ((0, 1), (4, 2))
    assert [
        record.insn for record in woven.line_records([LineRecord(0, 0, 0, 1), LineRecord(3, 0, 0, 1)])
    ] == [
        0,
        4,
    ]


def test_jumps_of_all_kinds_move() -> None:
    code = image(
        Instruction(op.MAY_GOTO, 0, 0, 3, 0),
        Instruction(op.JNE32_IMM, 1, 0, 2, 5),
        Instruction(op.GOTOL, 0, 0, 0, 0),
        Instruction(op.GOTO, 0, 0, 0, 0),
        EXIT,
    )
    weave = Weave(flow_of(code))
    weave.before(3, mark(1))
    weave.before(4, mark(2))
    woven = weave.finish()
    assert woven.lines[0] == Instruction(op.MAY_GOTO, 0, 0, 4, 0)
    assert woven.lines[1].offset == 3
    assert woven.lines[2] == Instruction(op.GOTOL, 0, 0, 0, 0)
    assert woven.entries[4] == 5


def test_callbacks_and_map_references_move() -> None:
    code = image(
        Instruction(op.LD_IMM64, 2, op.IMM_FUNCTION, 0, 4), Instruction(0, 0, 0, 0, 0),
        Instruction(op.LD_IMM64, 1, op.IMM_MAP, 0, 9), Instruction(0, 0, 0, 0, 0),
        EXIT, EXIT,
    )  # fmt: skip
    graph = flow_of(code)
    assert [(function.start, function.callback) for function in graph.functions] == [(0, False), (5, True)]
    weave = Weave(graph)
    weave.before(2, mark(1))
    weave.before(5, mark(2))
    woven = weave.finish()
    assert woven.lines[0].immediate == 5
    assert woven.references([(2, "map")]) == ((3, "map"),)
    assert woven.functions([(0, 1), (5, 2)]) == ((0, 1), (6, 2))


def test_a_fragment_in_place_of_an_instruction_leads_where_it_likes() -> None:
    weave = Weave(flow_of(BRANCH))
    out = Assembly()
    out.jump("own", op.JEQ_IMM, 0, 1)
    out.jump(At(4))
    out.label("own")
    out.put(op.EXIT)
    weave.instead(2, out)
    lines = weave.finish().lines
    assert lines[:6] == (
        Instruction(op.JEQ_IMM, 1, 0, 4, 5), Instruction(op.MOV64_IMM, 0, 0, 0, 1),
        Instruction(op.JEQ_IMM, 0, 0, 1, 1), Instruction(op.GOTO, 0, 0, 2, 0), EXIT,
        Instruction(op.MOV64_IMM, 0, 0, 0, 2),
    )  # fmt: skip


def test_source_lines_move_and_every_function_keeps_one() -> None:
    weave = Weave(flow_of(BRANCH))
    weave.before(0, mark(1))
    weave.before(3, mark(2))
    records = [LineRecord(0, 1, 2, 47 << 10), LineRecord(1, 1, 3, 48 << 10), LineRecord(3, 1, 4, 50 << 10)]
    moved = weave.finish().line_records(records)
    assert [record.insn for record in moved] == [0, 2, 4]
    assert [record.place >> 10 for record in moved] == [47, 48, 50]
    assert complete_lines(moved, (0, 3)) == (moved[0], moved[1], LineRecord(3, 0, 0, 0), moved[2])
    assert complete_lines((), (0, 3)) == ()


def test_far_programs_stay_whole() -> None:
    filler = [Instruction(op.MOV64_IMM, 2, 0, 0, 0)] * 20_000
    code = image(
        Instruction(op.JEQ_IMM, 1, 0, 20_000, 5), *filler, Instruction(op.MOV64_IMM, 0, 0, 0, 1), EXIT
    )
    weave = Weave(flow_of(code))
    for at in range(1, 20_001):
        weave.before(at, mark(at))
    woven = weave.finish()
    at = jump_target(0, woven.lines[0])
    while op.is_goto(woven.lines[at].code):
        at = jump_target(at, woven.lines[at])
    assert at == woven.entries[20_001]


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(image(Instruction(op.GOTO, 0, 0, 5, 0), EXIT), id="out of the program"),
        pytest.param(image(Instruction(op.MOV64_IMM, 0, 0, 0, 0)), id="no end"),
        pytest.param(image(Instruction(op.CALL, 0, op.CALL_FUNCTION, 0, 9), EXIT), id="a call of nothing"),
        pytest.param(
            image(Instruction(op.GOTO, 0, 0, 1, 0), Instruction(op.LD_IMM64, 1, 0, 0, 0), EXIT),
            id="into the middle",
        ),
    ],
)
def test_what_is_no_program_is_refused(code: bytes) -> None:
    with pytest.raises(InvalidInput):
        flow_of(code)


def test_linkable_programs_of_earlier_releases_are_read_and_can_read_these() -> None:
    program = LinkableProgram(BRANCH, ((0, 1),), b"btf", ((1, "m"),), True, (8,), 9, 10)
    with_lines = LinkableProgram(
        BRANCH, ((0, 1),), b"btf", ((1, "m"),), True, (8,), 9, 10, (LineRecord(0, 1, 2, 3),)
    )
    data = with_lines.encode()
    assert LinkableProgram.decode(data + bytes(100)) == with_lines
    # The previous release writes no line_info in its head; what it reads ends before the line info.
    earlier = program.encode().replace(b',"line_info":0', b"")
    size = int.from_bytes(earlier[8:12], "little") - len(b',"line_info":0')
    assert LinkableProgram.decode(earlier[:8] + size.to_bytes(4, "little") + earlier[12:]) == program
    assert data[4:8] == (1).to_bytes(4, "little"), "the version that earlier releases take"
    with pytest.raises(InvalidInput, match="cut short"):
        LinkableProgram.decode(data[:-8])


def test_decoded_once() -> None:
    assert decode(BRANCH) is flow_of(BRANCH).lines
