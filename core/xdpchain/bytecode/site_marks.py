# SPDX-License-Identifier: Apache-2.0
"""Instrument a program so that it marks where its return code was decided. Pure.

The program otherwise behaves the same. Each deciding edge of the main function stores its number on the
stack; exits write the last one into a cell (an element of an array map). A program that tail-calls another
writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from xdpchain.frozen import frozen

from . import opcodes as op
from .assembler import Assembly
from .deciding import Edge, decisions
from .flow_graph import flow_of
from .main_function import main_stack
from .weaving import Weave, Woven

__all__ = ["NO_EDGE", "Marked", "mark_sites"]

NO_EDGE = 0
"""The mark of a run that passed no deciding edge."""


@frozen
class Marked:
    """The woven program, and the edge of each mark, starting at 1."""

    woven: Woven
    edges: Mapping[int, Edge]


def mark_sites(code: bytes, depth: int, cell: int) -> Marked | None:
    """``code`` has this process's map descriptors; ``depth`` is its main function's stack in bytes; ``cell``
    is the descriptor of an array map whose first word gets the mark. None: the stack has no room.
    """
    place = -(-main_stack(code, depth) // 8) * -8 - 8
    if -place > op.STACK:
        return None
    graph = flow_of(code)
    weave = Weave(graph)
    weave.at_entry(0, _store(place, NO_EDGE))
    edges = dict(enumerate(sorted(decisions(code, calls=False).edges), 1))
    for site_number, edge in edges.items():
        weave.on_edge(edge.source, edge.target, _store(place, site_number))
    for at in range(graph.main.start, graph.main.end):
        if graph.lines[at].code == op.EXIT:
            out = Assembly()
            out.put(op.LDX_W, 2, op.FRAME, place)
            out.put(op.LD_IMM64, 1, op.IMM_MAP_VALUE, 0, cell)
            out.put(0)
            out.put(op.STX_W, 1, 2, 0)
            weave.before(at, out)
    return Marked(weave.finish(), edges)


def _store(place: int, site_number: int) -> Assembly:
    out = Assembly()
    out.put(op.ST_W, op.FRAME, 0, place, site_number)
    return out
