# SPDX-License-Identifier: Apache-2.0
"""Instrument a program so that it marks the path it took, and read that path from the marks. Pure.

The program otherwise behaves the same. Both edges of each branch of the main function set a byte on the
stack; exits copy the bytes into a cell (an element of an array map). Functions that it calls are not
instrumented.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from xdpchain.frozen import frozen

from . import opcodes as op
from .assembler import Assembly
from .deciding import Edge
from .flow_graph import FlowGraph, flow_of
from .main_function import main_stack
from .weaving import Weave, Woven

__all__ = ["WAY_SIZE", "WayMarks", "mark_way", "way_of"]

WAY_SIZE = op.STACK
"""Bytes of a cell."""

_PASSED, _NOT_PASSED = 1, 2
"""Neither is 0, because the verifier tracks zeros and would then have to check each path separately."""


@frozen
class WayMarks:
    """The woven program, and the edge for each byte of the cell."""

    woven: Woven
    edges: tuple[Edge, ...]

    def passed(self, cell: bytes) -> frozenset[Edge]:
        """The edges that a run took."""
        return frozenset(edge for edge, mark in zip(self.edges, cell, strict=False) if mark == _PASSED)


def mark_way(code: bytes, depth: int, cell: int) -> WayMarks | None:
    """``code`` has this process's map descriptors; ``depth`` is its main function's stack in bytes; ``cell``
    is the descriptor of an array map with values of `WAY_SIZE`. None: the stack has no room.
    """
    graph = flow_of(code)
    branches = [at for at in _instructions(graph) if len(set(graph.successors(at))) == 2]
    edges = tuple(Edge(at, to) for at in branches for to in graph.successors(at))
    room = -(-len(edges) // 8) * 8
    base = -(-(-main_stack(code, depth) // 8) * 8) - room
    if -base > op.STACK:
        return None
    weave = Weave(graph)
    begin = Assembly()
    for place in range(base, base + room):
        begin.put(op.ST_B, op.FRAME, 0, place, _NOT_PASSED)
    weave.at_entry(0, begin)
    for place, edge in enumerate(edges):
        mark = Assembly()
        mark.put(op.ST_B, op.FRAME, 0, base + place, _PASSED)
        weave.on_edge(edge.source, edge.target, mark)
    for at in range(graph.main.start, graph.main.end):
        if graph.lines[at].code == op.EXIT:
            out = Assembly()
            out.put(op.LD_IMM64, 1, op.IMM_MAP_VALUE, 0, cell)
            out.put(0)
            for offset in range(0, room, 8):
                out.put(op.LDX_DW, 2, op.FRAME, base + offset)
                out.put(op.STX_DW, 1, 2, offset)
            weave.before(at, out)
    return WayMarks(weave.finish(), edges)


def way_of(code: bytes, passed: Set[Edge]) -> Iterator[tuple[int, int | None]]:
    """The instructions that ran, each once, and where a branch led (None: not a branch). A branch that went
    both ways, as in a loop, appears once for each.
    """
    graph = flow_of(code)
    seen: set[int] = set()
    todo = [0]
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        following = graph.successors(at)
        if len(set(following)) < 2:
            yield at, None
            todo += following
            continue
        led = [to for to in following if Edge(at, to) in passed]
        for to in led:
            yield at, to
        todo += reversed(led)


def _instructions(graph: FlowGraph) -> list[int]:
    """The reachable instructions of the main function."""
    found: set[int] = set()
    todo = [0]
    while todo:
        at = todo.pop()
        if at not in found:
            found.add(at)
            todo += graph.successors(at)
    return sorted(found)
